"""A map of prompts: each a point, near those whose features are like its own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from importlib import import_module
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from splinellm.errors import ConfigurationError
from splinellm.plots.style import PALETTE, SCALE, Theme, finish, groups, legend_of, text_of
from splinellm.shown import shown
from splinellm.table import FeatureTable

Method = Literal["pca", "tsne", "umap"]
METHODS: tuple[Method, ...] = ("pca", "tsne", "umap")

_AXES = {"pca": "component", "tsne": "t-SNE", "umap": "UMAP"}
_SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star")
_COMPONENTS = 50
_HOVER = 60
_HOVER_LINES = 5


def map_picture(
    table: FeatureTable,
    labels: Sequence[object] | None = None,
    *,
    method: Method = "pca",
    texts: Sequence[str] | None = None,
    label_name: str = "",
    title: str = "",
    seed: int = 0,
    theme: Theme = "light",
) -> go.Figure:
    """Draw rows as points of a plane.

    Features are brought to one scale first; t-SNE and UMAP start from 50 principal components.

    Parameters
    ----------
    table : FeatureTable
        At least three rows.
    labels : sequence, optional
        One of each row; numbers are a scale of colours, all else is a colour and a symbol each.
    method : {"pca", "tsne", "umap"}
        ``umap`` needs the package umap-learn.
    texts : sequence of str, optional
        Shown where the pointer is.
    label_name, title, theme : str
        What the colour is; what is written above; light or dark.
    seed : int
        Of what is drawn at random.

    Raises
    ------
    ConfigurationError
        There are too few rows, labels or texts do not fit, or the method is not there.
    """
    n_rows = len(table)
    if n_rows < 3:
        raise ConfigurationError(f"a map needs at least 3 rows, not {n_rows}")
    if texts is not None and len(texts) != n_rows:
        raise ConfigurationError(f"{len(texts)} texts do not fit {n_rows} rows")
    places, axes = _places(table, method, seed)
    hover = None if texts is None else [_lines(text) for text in texts]
    numbers = _numbers(labels, n_rows)
    figure = go.Figure()
    if numbers is not None:
        marker = {
            "color": numbers,
            "colorscale": SCALE,
            "showscale": True,
            "colorbar": {"title": {"text": text_of(label_name)}},
        }
        _add(figure, places, np.arange(n_rows), hover, "", marker)
        note = ""
    else:
        found, note = groups(labels, n_rows)
        for position, (name, rows) in enumerate(found):
            marker = {"color": PALETTE[position], "symbol": _SYMBOLS[position]}
            _add(figure, places, rows, hover, name, marker)
    figure.update_xaxes(title=axes[0], zeroline=False)
    figure.update_yaxes(title=axes[1], zeroline=False)
    same = "" if places.any() else "all with the same features"
    title = "; ".join(part for part in (title, f"{n_rows:,} prompts", same, note) if part)
    names = [label_name] if numbers is not None else [label_name, *(name for name, _ in found)]
    legend = legend_of(
        names, title={"text": text_of(label_name), "side": "top"}, itemsizing="constant"
    )
    return finish(figure, theme, title, height=680, width=1000, legend=legend)


def _add(
    figure: go.Figure,
    places: np.ndarray,
    rows: np.ndarray,
    hover: list[str] | None,
    name: str,
    marker: dict[str, Any],
) -> None:
    figure.add_scatter(
        x=places[rows, 0].tolist(),
        y=places[rows, 1].tolist(),
        mode="markers",
        name=text_of(name),
        showlegend=bool(name),
        marker={"size": 7, "opacity": 0.85, "line": {"width": 0.5, "color": "white"}} | marker,
        hovertext=None if hover is None else [hover[row] for row in rows.tolist()],
        hoverinfo="text+name" if hover is not None else "x+y+name",
    )


def _places(table: FeatureTable, method: str, seed: int) -> tuple[np.ndarray, list[str]]:
    if method not in METHODS:
        raise ConfigurationError(
            f"unknown method '{str(method)[:40]}'", hint=f"use {', '.join(METHODS)}"
        )
    axes = [f"{_AXES[method]} {i} (no unit)" for i in (1, 2)]
    sets_apart = (table.values != table.values[:1]).any(axis=0)
    if not sets_apart.any():  # 0/0 to PCA, and the end of the process in t-SNE
        return np.zeros((len(table), 2)), axes
    values = StandardScaler().fit_transform(table.values[:, sets_apart].astype(np.float64))
    n_components = min(_COMPONENTS if method != "pca" else 2, *values.shape)
    pca = PCA(n_components, random_state=seed, svd_solver="full")
    reduced = pca.fit_transform(values)
    if reduced.shape[1] < 2:
        reduced = np.column_stack([reduced, np.zeros(len(reduced))])
    if method == "pca":
        shares = [*pca.explained_variance_ratio_, 0.0]
        return reduced, [f"component {i + 1} ({shares[i]:.0%} of variance)" for i in (0, 1)]
    if method == "umap":
        model = _umap()(n_components=2, random_state=seed, n_jobs=1)
    else:
        perplexity = min(30.0, (len(values) - 1) / 3)
        model = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(model.fit_transform(reduced)), axes


def _umap() -> Any:
    try:
        return import_module("umap").UMAP
    except ImportError as error:
        raise ConfigurationError(
            "the method 'umap' needs a package that is not installed",
            hint="pip install umap-learn, or use tsne",
        ) from error


def _numbers(labels: Sequence[object] | None, n_rows: int) -> list[float] | None:
    """Labels as numbers, if they are more than a few different ones."""
    if labels is None or len(labels) != n_rows:
        return None
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in labels):
        return None
    numbers = [float(x) for x in labels if isinstance(x, int | float)]
    is_scale = len(set(numbers)) > len(PALETTE) and np.isfinite(numbers).all()
    return numbers if is_scale else None


def _lines(text: object) -> str:
    lines = textwrap.wrap(shown(text, _HOVER * _HOVER_LINES), _HOVER)
    return "<br>".join(escape(line, quote=False) for line in lines)
