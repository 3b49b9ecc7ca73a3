"""Pictures of partitions, and of networks while they learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from splinellm.errors import ConfigurationError
from splinellm.plots.style import PALETTE, SCALE, Theme, colour_bar, finish, text_of

if TYPE_CHECKING:  # torch, which pictures of tables do without
    from torch import Tensor

    from splinellm.regions import SlicePartition

_N_COLOURS = 24
_MOST_OUTLINES = 20_000
_RIM = "0 0 3px black, 0 0 3px black, 0 0 3px black"


def slice_picture(
    partition: SlicePartition,
    *,
    points: Tensor | np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    values: Sequence[float] | np.ndarray | None = None,
    value_name: str = "positive signs",
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw the polygons of a plane, coloured by a number of each.

    Parameters
    ----------
    partition : SlicePartition
        Of a network or of a layer.
    points : Tensor or ndarray, shape (n, D...), optional
        Marked, such as the tokens that the plane goes through; such beside the plane are marked
        at the nearest place of it.
    labels : sequence of str, optional
        Written beside the points.
    values : sequence of float, optional
        One of each polygon; by default how many of its signs are positive.
    value_name, title, theme : str
        What the colour is; what is written above; light or dark.

    Raises
    ------
    ConfigurationError
        There are more or fewer values than polygons, or labels than points.
    """
    numbers = (partition.codes > 0).sum(axis=1) if values is None else values
    numbers = np.asarray(numbers, np.float64)
    if numbers.shape != (len(partition),):
        raise ConfigurationError(f"{len(partition)} polygons need as many values")
    marked = np.empty((0, 2)) if points is None else np.atleast_2d(partition.where(points))
    if labels is not None and len(labels) != len(marked):
        raise ConfigurationError(f"{len(marked)} points need as many labels")
    figure = go.Figure()
    low, high = float(numbers.min()), float(numbers.max())
    places = (numbers - low) / ((high - low) or 1.0)
    bins = np.minimum((places * _N_COLOURS).astype(int), _N_COLOURS - 1)
    has_outlines = len(partition) <= _MOST_OUTLINES
    for chosen in np.unique(bins):
        (colour,) = sample_colorscale(SCALE, [(chosen + 0.5) / _N_COLOURS])
        corners = [*_closed(partition.polygons[i] for i in np.flatnonzero(bins == chosen))]
        s, t = zip(*corners, strict=True)
        line = {"width": 0.4, "color": "white"} if has_outlines else {"width": 0}
        figure.add_scatter(
            x=s, y=t, mode="lines", fill="toself", fillcolor=colour, line=line, hoverinfo="skip"
        )
    figure.add_scatter(**colour_bar(low, high, value_name))
    if len(marked):
        _mark(figure, marked, labels)
    axis = {"showgrid": False, "zeroline": False, "ticks": "outside"}
    figure.update_xaxes(title="s (no unit)", range=partition.window[[0, 2], 0].tolist(), **axis)
    figure.update_yaxes(title="t (no unit)", range=partition.window[[0, 2], 1].tolist(), **axis)
    return finish(figure, theme, title, showlegend=False)


def training_picture(
    rows: Sequence[Mapping[str, float]], *, title: str = "", theme: Theme = "light"
) -> go.Figure:
    """Draw what was measured of a network while it learned, on a logarithmic axis of steps.

    Parameters
    ----------
    rows : sequence of mapping
        Each has ``step`` and, by name, numbers that end in ``_accuracy`` or ``_complexity``.
    title, theme : str
        What is written above; light or dark.

    Raises
    ------
    ConfigurationError
        There is no row, or a row lacks what others have.
    """
    if not rows:
        raise ConfigurationError("there is nothing to draw: no row was given")
    kinds = ("accuracy", "complexity")
    names = [[name for name in rows[0] if name.endswith(f"_{kind}")] for kind in kinds]
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.06)
    steps = [max(1.0, float(row["step"])) for row in rows]  # step 0 has no logarithm
    for place, (kind, group) in enumerate(zip(kinds, names, strict=True), start=1):
        for colour, name in zip(cycle(PALETTE), group, strict=False):
            if any(name not in row for row in rows):
                raise ConfigurationError(f"a row has no '{name[:80]}'")
            figure.add_scatter(
                x=steps,
                y=[row[name] for row in rows],
                name=text_of(name.replace("_", " ")),
                mode="lines+markers",
                marker={"size": 4},
                line={"color": colour},
                legendgroup=kind,
                row=place,
                col=1,
            )
        figure.update_yaxes(title="local complexity" if place == 2 else kind, row=place, col=1)
    figure.update_xaxes(type="log")
    figure.update_xaxes(title="step", row=2, col=1)
    return finish(figure, theme, title, hovermode="x unified")


def _closed(polygons: Iterator[np.ndarray]) -> Iterator[tuple[float | None, float | None]]:
    """Corners of polygons, one after the other, with a gap behind each."""
    for polygon in polygons:
        yield from ((float(s), float(t)) for s, t in polygon)
        yield float(polygon[0, 0]), float(polygon[0, 1])
        yield None, None


def _mark(figure: go.Figure, places: np.ndarray, labels: Sequence[str] | None) -> None:
    figure.add_scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers" if labels is None else "markers+text",
        text=None if labels is None else [text_of(label) for label in labels],
        textposition="top center",
        # White letters with a dark rim: both are seen on every colour.
        textfont={"color": "white", "size": 15, "weight": 700, "shadow": _RIM},
        marker={"size": 10, "color": "#d62728", "line": {"width": 1.5, "color": "white"}},
    )
