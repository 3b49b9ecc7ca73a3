"""What all pictures have in common: colours, light and dark, units, how text is shown."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from splinellm.errors import ConfigurationError
from splinellm.shown import shown

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#B8A800")
"""Okabe and Ito's, which all kinds of colour vision tell apart; black and pale yellow replaced."""

SCALE = "Viridis"
DIVERGING = "RdBu"
MOST_LABELS = len(PALETTE)

_TEMPLATES = {"light": "plotly_white", "dark": "plotly_dark"}
_LONGEST_LABEL = 40
_LINES = 2
"""Of a title, for which there is room above."""
_REST = 30
"""Characters that say how long a text is that was cut, and ends of lines."""
_BESIDE = 24
"""Characters of a name that leave room for the picture beside them."""
_PER_LINE = 11
"""Pixels of the width for each character of a title: wide ones are common in no language."""
_UPLOADS = ["sendChartToCloud"]
"""Buttons of plotly's that send a figure, with the texts in it, to its maker's server."""


def text_of(value: object, limit: int = _LONGEST_LABEL) -> str:
    """Text of somebody else's for a figure, in which plotly reads tags and entities."""
    return escape(shown(value, limit), quote=False)


def legend_of(names: Iterable[object], **more: object) -> dict[str, object]:
    """A legend beside the picture, or below it where names would take the room of the picture.

    Parameters
    ----------
    names : iterable
        What is in it.
    **more
        Other properties of it.
    """
    if max((len(shown(name, _LONGEST_LABEL)) for name in names), default=0) <= _BESIDE:
        return more
    return {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.12, "yanchor": "top", **more}


def unit_of(feature: str) -> str:
    """What the numbers of a feature count, for an axis."""
    if feature.startswith(("distance", "hyperplane_distance")):
        return "units of x"
    if feature == "intrinsic_dimension":
        return "attended tokens,<br>sum over heads"
    if feature.startswith("sign_entropy"):
        return "bits"
    return "share of hyperplanes"


def finish(figure: go.Figure, theme: Theme, title: str = "", **layout: object) -> go.Figure:
    """Set what all figures share, and return it."""
    if theme not in THEMES:
        raise ConfigurationError(f"unknown theme '{str(theme)[:40]}'", hint="use light or dark")
    per_line = int(str(layout.get("width", 700))) // _PER_LINE
    lines = textwrap.wrap(shown(title, _LINES * per_line - _REST), per_line)
    # "200 µ" would be read as a unit.
    figure.update_yaxes(exponentformat="power")
    for trace in figure.data:
        if trace.type == "heatmap":
            trace.colorbar.exponentformat = "power"
        elif trace.type == "scatter" and trace.marker.showscale:
            trace.marker.colorbar.exponentformat = "power"
    return figure.update_layout(
        template=_TEMPLATES[theme],
        title={
            "text": "<br>".join(escape(line, quote=False) for line in lines),
            "x": 0.02,
            "xanchor": "left",
        },
        font={"size": 13},
        margin={"t": 70, "l": 70, "r": 30, "b": 60},
        modebar={"remove": _UPLOADS},
        **layout,
    )


def groups(
    labels: Sequence[object] | None, n_rows: int
) -> tuple[list[tuple[str, np.ndarray]], str]:
    """Rows by label, the labels sorted, and what is to be said of labels that are left out.

    Raises
    ------
    ConfigurationError
        There are more or fewer labels than rows.
    """
    if labels is None:
        return [("", np.arange(n_rows))], ""
    if len(labels) != n_rows:
        raise ConfigurationError(f"{len(labels)} labels do not fit {n_rows} rows")
    names = [str(label) for label in labels]
    common = [name for name, _ in Counter(names).most_common(MOST_LABELS)]
    array = np.array(names, dtype=object)
    found = [(name, np.flatnonzero(array == name)) for name in sorted(common)]
    n_labels = len(set(names))
    note = f"the {MOST_LABELS} most frequent of {n_labels} labels" if n_labels > MOST_LABELS else ""
    return found, note


def faded(colour: str, opacity: float) -> str:
    """A colour of the palette that lets what is below shine through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def add_band(
    figure: go.Figure,
    x: Sequence[float],
    low: np.ndarray,
    middle: np.ndarray,
    high: np.ndarray,
    *,
    colour: str,
    name: str,
    shows_legend: bool,
    row: int | None = None,
    col: int | None = None,
) -> None:
    """Draw a line inside a band."""
    place = {} if row is None else {"row": row, "col": col}
    x = list(x)
    figure.add_scatter(
        x=[*x, *reversed(x)],
        y=[*high.tolist(), *reversed(low.tolist())],
        mode="lines",  # of few points plotly would mark the corners
        fill="toself",
        fillcolor=faded(colour, 0.2),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        **place,
    )
    # The band at a single place has no width.
    bars = {
        "type": "data",
        "symmetric": False,
        "array": (high - middle).tolist(),
        "arrayminus": (middle - low).tolist(),
        "thickness": 1.2,
    }
    figure.add_scatter(
        x=x,
        y=middle.tolist(),
        name=name,
        mode="lines" if len(x) > 1 else "markers",
        error_y=bars if len(x) == 1 and (high > low).any() else None,
        line={"color": colour, "width": 2},
        legendgroup=name,
        showlegend=shows_legend and bool(name),
        **place,
    )


def colour_bar(low: float, high: float, name: str) -> dict[str, object]:
    """What to add as a scatter that draws nothing but its colour bar."""
    bar: dict[str, object] = {"title": {"text": name}}
    if high <= low:  # what is above the one number there is may be impossible, as a share over 1
        bar |= {"tickmode": "array", "tickvals": [low], "ticktext": [f"{low:.4g}"]}
    marker = {
        "colorscale": SCALE,
        "cmin": low,
        "cmax": high if high > low else low + 1.0,
        "color": [low],
        "size": 0.1,
        "showscale": True,
        "colorbar": bar,
    }
    return {"x": [None], "y": [None], "mode": "markers", "marker": marker}
