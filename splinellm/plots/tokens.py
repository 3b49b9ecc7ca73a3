"""Pictures of tokens: one prompt's coloured by a number, dimension by context, prefix curves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.learn.captions import place_of_tokens
from splinellm.plots.axes import power_scale, whole_ticks
from splinellm.plots.style import (
    PALETTE,
    SCALE,
    Theme,
    add_band,
    colour_bar,
    finish,
    text_of,
    unit_of,
)
from splinellm.schema import INTRINSIC_DIMENSION
from splinellm.shown import shown, width
from splinellm.table import FeatureTable
from splinellm.token_index import TokenIndex, colour_range

MOST_TOKENS = 1500
_LINE = 96
_LONGEST = 40
_LEVELS = 32
_MOST_CURVES = 6
_DARK_UNTIL = 0.6


def tokens_picture(
    table: FeatureTable,
    *,
    row: int = 0,
    feature: str | None = None,
    layer: int | None = None,
    scores: Sequence[float] | np.ndarray | None = None,
    score_name: str = "score",
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw the tokens of one prompt as text, each coloured by a number.

    Parameters
    ----------
    table : FeatureTable
        Of granularity token, or prefix.
    row : int
        The prompt, as ``table.tokens.row`` counts.
    feature, layer
        Which number; the first feature and the mean over layers by default.
    scores : sequence of float, optional
        A number of each of the prompt's tokens in place of a feature, such as its toxicity.
    score_name, title, theme : str
        What these are; what is written above; light or dark.

    Raises
    ------
    TableFormatError, ConfigurationError
        The rows are no tokens, or what is asked for is not there.
    """
    tokens, rows = _rows_of(table, row)
    if scores is None:
        name, numbers = _numbers(table, rows, feature, layer)
    else:
        name, numbers = score_name, np.asarray(scores, np.float64)
        if numbers.shape != (len(rows),) or not np.isfinite(numbers).all():
            raise ConfigurationError(f"{len(rows)} tokens need as many finite scores")
    n_tokens = len(rows)
    rows, numbers = rows[:MOST_TOKENS], numbers[:MOST_TOKENS]
    words = [shown(tokens.token[i], _LONGEST) for i in rows.tolist()]
    figure = go.Figure()
    low, high = colour_range(numbers)
    shares = np.clip((numbers - low) / ((high - low) or 1.0), 0.0, 1.0)
    boxes = _boxes(words)
    _add_boxes(figure, boxes, shares)
    # Dark tokens have white letters, whatever is around them.
    for is_dark in (True, False):
        chosen = np.flatnonzero((shares < _DARK_UNTIL) == is_dark)
        figure.add_scatter(
            x=[(boxes[i][0] + boxes[i][1]) / 2 for i in chosen],
            y=[boxes[i][2] for i in chosen],
            mode="text",
            text=[escape(words[i], quote=False) for i in chosen],
            textfont={"family": "monospace", "size": 13, "color": "white" if is_dark else "black"},
            customdata=[[float(numbers[i]), i] for i in chosen],
            hovertemplate="token %{customdata[1]}: %{customdata[0]:.4g}<extra></extra>",
        )
    figure.add_scatter(**colour_bar(low, high, name))
    n_lines = max(box[2] for box in boxes) + 1
    figure.update_xaxes(visible=False, range=[0, _LINE])
    figure.update_yaxes(visible=False, range=[n_lines - 0.4, -0.6])
    note = f"the first {MOST_TOKENS:,} of {n_tokens:,} tokens" if n_tokens > MOST_TOKENS else ""
    beyond = "" if (low, high) == (numbers.min(), numbers.max()) else "extremes beyond the scale"
    title = "; ".join(part for part in (title or "tokens of a prompt", note, beyond) if part)
    height = max(320, 130 + 26 * n_lines)
    return finish(figure, theme, title, height=height, width=1100, showlegend=False)


def dimension_picture(
    table: FeatureTable,
    *,
    layers: Sequence[int] | None = None,
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw the intrinsic dimension against context length: mean and 10 to 90 % over prompts.

    Tokens of an encoder attend both ways: they are drawn by their position, which is no length.

    Parameters
    ----------
    table : FeatureTable
        Of granularity token or prefix, with the intrinsic dimension.
    layers : sequence of int, optional
        By default up to five of the table's, from the first to the last.
    title, theme : str
        What is written above; light or dark.

    Raises
    ------
    TableFormatError, ConfigurationError
        The rows are no tokens, or a layer or the dimension is not there.
    """
    tokens = _tokens(table)
    if INTRINSIC_DIMENSION not in table.schema.features:
        raise ConfigurationError(
            "the table has no intrinsic dimension", hint="extract with --features paper"
        )
    chosen = _layers(table, layers, 5)
    position = tokens.position
    at = table.schema.features.index(INTRINSIC_DIMENSION)
    lengths = np.unique(position)
    figure = go.Figure()
    means = []
    for colour, layer in zip(PALETTE, chosen, strict=False):
        values = table.array[:, table.schema.layers.index(layer), at].astype(np.float64)
        parts = [values[position == length] for length in lengths]
        low, high = (np.array([np.quantile(part, q) for part in parts]) for q in (0.1, 0.9))
        mean = np.array([part.mean() for part in parts])
        means += [mean]
        add_band(
            figure,
            [int(length) + 1 for length in lengths],
            low,
            mean,
            high,
            colour=colour,
            name=f"layer {layer}",
            shows_legend=True,
        )
    n_prompts = len(np.unique(tokens.row))
    figure.update_xaxes(
        title=place_of_tokens(table.provenance.architecture), **whole_ticks((lengths + 1).tolist())
    )
    figure.update_yaxes(title="intrinsic dimension (attended tokens, sum over heads)")
    figure.update_yaxes(power_scale(means))
    told = f"mean and 10 % to 90 % over {n_prompts:,} prompt{'s' if n_prompts > 1 else ''}"
    title = "; ".join(part for part in (title, told) if part)
    return finish(figure, theme, title, height=560, width=1000)


def prefix_picture(
    table: FeatureTable,
    *,
    row: int = 0,
    features: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw how the features of a prompt change as it is read, token by token.

    Parameters
    ----------
    table : FeatureTable
        Of granularity prefix.
    row : int
        The prompt, as ``table.tokens.row`` counts.
    features : sequence of str, optional
        Up to four; the means and the dimension by default.
    layers : sequence of int, optional
        By default up to six of the table's, from the first to the last.
    title, theme : str
        What is written above; light or dark.

    Raises
    ------
    TableFormatError, ConfigurationError
        The rows are no prefixes, or what is asked for is not there.
    """
    if table.provenance.granularity != "prefix":
        raise TableFormatError(
            f"rows of granularity {table.provenance.granularity} are no prefixes",
            hint="extract with --granularity prefix",
        )
    tokens, rows = _rows_of(table, row)
    known = table.schema.features
    usual = [name for name in ("sign_mean", "distance_mean", INTRINSIC_DIMENSION) if name in known]
    names = list(features) if features is not None else (usual or list(known))[:4]
    if not 1 <= len(names) <= 4 or (missing := [name for name in names if name not in known]):
        raise ConfigurationError(
            f"one to four of the table's features can be drawn, not {', '.join(names)[:80]}"
        )
    del missing
    chosen = _layers(table, layers, _MOST_CURVES)
    ends = (0.25, 1.0) if theme == "dark" else (0.0, 0.85)  # lines must stand out from the ground
    colours = sample_colorscale(SCALE, np.linspace(*ends, len(chosen)).tolist())
    figure = make_subplots(rows=len(names), shared_xaxes=True, vertical_spacing=0.05)
    words = [text_of(tokens.token[i], _LONGEST) for i in rows.tolist()]
    for place, name in enumerate(names, start=1):
        curves = []
        for colour, layer in zip(colours, chosen, strict=True):
            values = table.array[rows, table.schema.layers.index(layer), known.index(name)]
            curves += [values]
            figure.add_scatter(
                x=(tokens.position[rows] + 1).tolist(),
                y=values.astype(np.float64).tolist(),
                name=f"layer {layer}",
                legendgroup=str(layer),
                showlegend=place == 1,
                mode="lines",
                line={"color": colour, "width": 1.8},
                hovertext=words,
                row=place,
                col=1,
            )
        figure.update_yaxes(title=f"{name}<br>({unit_of(name)})", row=place, col=1)
        if name == INTRINSIC_DIMENSION:
            figure.update_yaxes(power_scale(curves), row=place, col=1)
    figure.update_xaxes(whole_ticks((tokens.position[rows] + 1).tolist()))
    figure.update_xaxes(title="tokens read", row=len(names), col=1)
    return finish(
        figure, theme, title or "features of a prompt as it is read",
        height=150 + 220 * len(names), width=1000,
    )  # fmt: skip


def _tokens(table: FeatureTable) -> TokenIndex:
    if table.tokens is None:
        raise TableFormatError(
            "the rows of the table are no tokens", hint="extract with --granularity token"
        )
    if not len(table):
        raise ConfigurationError("there is nothing to draw: the table has no rows")
    return table.tokens


def _rows_of(table: FeatureTable, row: int) -> tuple[TokenIndex, np.ndarray]:
    tokens = _tokens(table)
    rows = np.flatnonzero(tokens.row == row)
    if not len(rows):
        raise ConfigurationError(f"the table has no tokens of a prompt {row}")
    return tokens, rows


def _numbers(
    table: FeatureTable, rows: np.ndarray, feature: str | None, layer: int | None
) -> tuple[str, np.ndarray]:
    known = table.schema.features
    name = known[0] if feature is None else feature
    if name not in known:
        raise ConfigurationError(f"the table has no feature '{name[:80]}'")
    values = table.array[rows, :, known.index(name)].astype(np.float64)
    if layer is None:
        return f"{name}<br>mean of layers<br>({unit_of(name)})", values.mean(axis=1)
    (chosen,) = _layers(table, [layer], 1)
    column = values[:, table.schema.layers.index(chosen)]
    return f"{name}<br>layer {layer}<br>({unit_of(name)})", column


def _layers(table: FeatureTable, layers: Sequence[int] | None, most: int) -> list[int]:
    known = table.schema.layers
    if layers is None:
        places = np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).round())
        return [known[int(place)] for place in places]
    for layer in layers:
        if layer not in known:
            raise ConfigurationError(f"the table has no layer {layer}")
    if not 1 <= len(layers) <= len(PALETTE):
        raise ConfigurationError(f"{len(layers)} layers; one to {len(PALETTE)} can be drawn")
    return list(layers)


def _boxes(words: Sequence[str]) -> list[tuple[float, float, int]]:
    """Begin, end and line of each word, on lines of so many columns."""
    boxes, column, line = [], 0, 0
    for word in words:
        size = width(word) + 1
        if column and column + size > _LINE:
            column, line = 0, line + 1
        boxes.append((float(column), float(column + size), line))
        column += size
    return boxes


def _add_boxes(
    figure: go.Figure, boxes: Sequence[tuple[float, float, int]], shares: np.ndarray
) -> None:
    levels = np.minimum((shares * _LEVELS).astype(int), _LEVELS - 1)
    for level in np.unique(levels).tolist():
        x: list[float | None] = []
        y: list[float | None] = []
        for i in np.flatnonzero(levels == level).tolist():
            begin, end, line = boxes[i]
            x += [begin, end - 0.1, end - 0.1, begin, begin, None]
            y += [line - 0.42, line - 0.42, line + 0.42, line + 0.42, line - 0.42, None]
        (colour,) = sample_colorscale(SCALE, [(level + 0.5) / _LEVELS])
        figure.add_scatter(
            x=x, y=y, mode="lines", fill="toself", fillcolor=colour, line={"width": 0},
            hoverinfo="skip",
        )  # fmt: skip
