"""Features over layers: quantile bands by label, and effect sizes between two labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from splinellm.errors import ConfigurationError
from splinellm.learn.comparing import Comparison, effect_sizes, groups_of
from splinellm.plots.axes import whole_ticks
from splinellm.plots.style import (
    DIVERGING,
    PALETTE,
    Theme,
    add_band,
    finish,
    groups,
    legend_of,
    text_of,
    unit_of,
)
from splinellm.schema import is_sign_block
from splinellm.shown import shown
from splinellm.table import FeatureTable

_MOST_PANELS = 8
_COLUMNS = 2
_SHORT = 30
"""Characters of a label where there are two of them, and more, in a line."""


def layers_picture(
    table: FeatureTable,
    labels: Sequence[object] | None = None,
    *,
    features: Sequence[str] | None = None,
    band: tuple[float, float] = (0.25, 0.75),
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw features over layers: the median of the rows of each label, in a band of quantiles.

    Parameters
    ----------
    table : FeatureTable
        Of prompts, or of tokens.
    labels : sequence, optional
        One of each row.
    features : sequence of str, optional
        Up to eight; by default those that are no sign blocks, or the first blocks.
    band : (float, float)
        Quantiles between which the band is.
    title, theme : str
        What is written above; light or dark.

    Raises
    ------
    ConfigurationError
        The table has no rows or no such feature, or labels do not fit.
    """
    chosen = _features(table, features)
    found, note = groups(labels, len(table))
    n_columns = min(_COLUMNS, len(chosen))
    n_rows = math.ceil(len(chosen) / n_columns)
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        shared_xaxes=True,
        subplot_titles=chosen,
        vertical_spacing=0.2 / max(2, n_rows),
        horizontal_spacing=0.12,
    )
    layers = table.schema.layers
    for place, feature in enumerate(chosen):
        row, col = divmod(place, n_columns)
        values = table.array[:, :, table.schema.features.index(feature)].astype(np.float64)
        for colour, (name, rows) in zip(PALETTE, found, strict=False):
            low, middle, high = np.quantile(values[rows], [band[0], 0.5, band[1]], axis=0)
            add_band(
                figure, layers, low, middle, high, colour=colour, name=text_of(name),
                shows_legend=place == 0, row=row + 1, col=col + 1,
            )  # fmt: skip
        # Around a single number plotly would put one unit, in which a distance is nothing.
        around = "normal" if np.ptp(values) else "tozero"
        figure.update_yaxes(
            title=unit_of(feature), title_standoff=6, rangemode=around, row=row + 1, col=col + 1
        )
        if place + n_columns >= len(chosen):
            figure.update_xaxes(title="layer", showticklabels=True, row=row + 1, col=col + 1)
    figure.update_xaxes(whole_ticks(layers))
    told = f"median and {100 * band[0]:g} % to {100 * band[1]:g} % of rows"
    title = "; ".join(part for part in (title, told, note) if part)
    return finish(
        figure, theme, title, height=170 + 210 * n_rows, width=1000, hovermode="x",
        legend=legend_of(name for name, _ in found),
    )  # fmt: skip


def effects_picture(
    table: FeatureTable,
    labels: Sequence[object],
    *,
    between: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw how far apart two labels are, for each layer and feature: Hedges' g.

    Parameters
    ----------
    table : FeatureTable
        Of prompts.
    labels : sequence
        One of each row.
    between : (str, str), optional
        Two labels; may be left out where there are no others.
    features, title, theme
        See :func:`layers_picture`; all features by default.

    Raises
    ------
    ConfigurationError
        Labels do not fit, or one of the two has fewer than two rows.
    """
    if len(labels) != len(table):
        raise ConfigurationError(f"{len(labels)} labels do not fit {len(table)} rows")
    a, b = groups_of(labels, between)
    names = np.array([str(label) for label in labels], dtype=object)
    kept = table if features is None else table.select(features=features)
    effects = effect_sizes(kept.values[names == a], kept.values[names == b])
    told = title or f"{shown_pair(a, b)}: how far the second is above the first"
    return _heat_map(effects.size, kept.schema.layers, kept.schema.features, told, theme)


def comparison_picture(
    comparison: Comparison, *, title: str = "", theme: Theme = "light"
) -> go.Figure:
    """Draw the effect sizes of :func:`splinellm.learn.comparing.compare`."""
    told = title or "the second table above the first"
    return _heat_map(comparison.effects.size, comparison.layers, comparison.features, told, theme)


def shown_pair(a: str, b: str) -> str:
    """Two labels for a title."""
    return f"{shown(a, _SHORT)} → {shown(b, _SHORT)}"


def _heat_map(
    sizes: np.ndarray,
    layers: Sequence[int],
    features: Sequence[str],
    title: str,
    theme: Theme,
) -> go.Figure:
    grid = sizes.reshape(len(layers), len(features)).T
    limit = max(0.1, float(np.quantile(np.abs(grid), 0.99)))
    figure = go.Figure(
        go.Heatmap(
            z=grid.tolist(),
            x=[str(layer) for layer in layers],
            y=list(features),
            colorscale=DIVERGING,
            reversescale=True,
            zmin=-limit,
            zmax=limit,
            colorbar={"title": {"text": "Hedges' g<br>(pooled sd)"}},
            hovertemplate="layer %{x}<br>%{y}<br>g = %{z:.2f}<extra></extra>",
        )
    )
    figure.update_xaxes(title="layer", type="category", tickangle=0)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    return finish(figure, theme, title, height=190 + 24 * max(6, len(features)), width=1000)


def _features(table: FeatureTable, features: Sequence[str] | None) -> list[str]:
    if not len(table):
        raise ConfigurationError("there is nothing to draw: the table has no rows")
    known = table.schema.features
    if features is None:
        plain = [name for name in known if not is_sign_block(name)]
        return (plain or list(known))[:_MOST_PANELS]
    for name in features:
        if name not in known:
            raise ConfigurationError(f"the table has no feature '{name[:80]}'")
    if not 1 <= len(features) <= _MOST_PANELS:
        raise ConfigurationError(f"{len(features)} features; one to {_MOST_PANELS} can be drawn")
    return list(features)
