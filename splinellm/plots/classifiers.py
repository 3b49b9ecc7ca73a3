"""Pictures of a classifier: is it calibrated, what do thresholds cost, what does it look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from splinellm.errors import ConfigurationError
from splinellm.plots.style import DIVERGING, PALETTE, Theme, add_band, finish, text_of

_GREY = "#888888"
_SQUARE = {"height": 620, "width": 720}


def reliability_picture(
    truth: Sequence[int] | np.ndarray,
    probabilities: Sequence[float] | np.ndarray,
    *,
    n_bins: int = 10,
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw how often a class is there, against how likely it was said to be.

    Parameters
    ----------
    truth : array-like, shape (N,)
        Zeros and ones.
    probabilities : array-like, shape (N,)
        Of ones, of rows that were not trained on.
    n_bins : int
        Of equally many rows each.
    title, theme : str
        What is written above; light or dark.

    Raises
    ------
    ConfigurationError
        They do not fit each other, or one of the two is missing.
    """
    truth, scores = _checked(truth, probabilities)
    shares, means = calibration_curve(truth, scores, n_bins=n_bins, strategy="quantile")
    low, high = _wilson(shares, max(1, len(truth) // n_bins))
    figure = _square([0, 1], [0, 1], "calibrated")
    figure.add_scatter(
        x=means.tolist(),
        y=shares.tolist(),
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (high - shares).tolist(),
            "arrayminus": (shares - low).tolist(),
            "thickness": 1.2,
        },
        mode="lines+markers",
        name="classifier (95 %)",
        line={"color": PALETTE[0]},
    )
    figure.update_xaxes(title="mean probability of a bin")
    figure.update_yaxes(title="share of rows with the class")
    return finish(figure, theme, title or f"reliability, {len(truth):,} rows", **_SQUARE)


def roc_picture(
    truth: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    *,
    thresholds: Mapping[str, float] | None = None,
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw the true against the false positive rate, with thresholds marked.

    Parameters
    ----------
    truth, scores, title, theme
        See :func:`reliability_picture`.
    thresholds : mapping of str to float, optional
        By the name that is written beside them.
    """
    truth, found = _checked(truth, scores)
    x, y, _ = roc_curve(truth, found)
    figure = _square([0, 1], [0, 1], "chance")
    area = float(roc_auc_score(truth, found))
    _add_curve(figure, x, y, f"classifier (AUC {area:.3f})")
    for name, limit in (thresholds or {}).items():
        flagged = found >= limit
        _mark(figure, flagged[truth == 0].mean(), flagged[truth == 1].mean(), name, limit)
    figure.update_xaxes(title="false positive rate")
    figure.update_yaxes(title="true positive rate")
    return finish(figure, theme, title or f"ROC, {len(truth):,} rows", **_SQUARE)


def precision_recall_picture(
    truth: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    *,
    thresholds: Mapping[str, float] | None = None,
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw precision against recall, with thresholds marked; see :func:`roc_picture`."""
    truth, found = _checked(truth, scores)
    precision, recall, _ = precision_recall_curve(truth, found)
    share = float(truth.mean())
    figure = _square([0, 1], [share, share], f"chance ({share:.0%} have the class)")
    average = float(average_precision_score(truth, found))
    _add_curve(figure, recall, precision, f"classifier (average precision {average:.3f})")
    for name, limit in (thresholds or {}).items():
        flagged = found >= limit
        if flagged.any():
            _mark(figure, flagged[truth == 1].mean(), truth[flagged].mean(), name, limit)
    figure.update_xaxes(title="recall")
    figure.update_yaxes(title="precision")
    return finish(figure, theme, title or f"precision and recall, {len(truth):,} rows", **_SQUARE)


def coefficients_picture(
    coefficients: np.ndarray,
    layers: Sequence[int],
    features: Sequence[str],
    *,
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw a linear classifier's coefficients by layer and feature, or block.

    Parameters
    ----------
    coefficients : ndarray, shape (L * F,) or (L, F)
        Of features on one scale.
    layers, features : sequence
        L and F of them.
    title, theme : str
        What is written above; light or dark.

    Raises
    ------
    ConfigurationError
        The sizes do not fit.
    """
    grid = np.asarray(coefficients, np.float64)
    if grid.size != len(layers) * len(features) or not np.isfinite(grid).all():
        raise ConfigurationError(
            f"{grid.size} coefficients do not fit {len(layers)} layers of {len(features)} features"
        )
    grid = grid.reshape(len(layers), len(features))
    limit = float(np.abs(grid).max()) or 1.0
    heat = go.Heatmap(
        z=grid.tolist(),
        x=list(features),
        y=[f"layer {layer}" for layer in layers],
        colorscale=DIVERGING,
        reversescale=True,
        zmin=-limit,
        zmax=limit,
        colorbar={"title": {"text": "coefficient<br>(per sd)"}},
    )
    figure = go.Figure(heat)
    figure.update_xaxes(title="feature or block", type="category", automargin=True)
    figure.update_yaxes(autorange="reversed", automargin=True)
    height = max(300, 200 + 22 * len(layers))
    return finish(figure, theme, title or "coefficients", height=height, width=1000)


def learning_picture(
    sizes: Sequence[int] | np.ndarray,
    train_scores: np.ndarray,
    test_scores: np.ndarray,
    *,
    score_name: str = "ROC-AUC",
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw scores against the number of rows learned from: mean and range over folds.

    Parameters
    ----------
    sizes : array-like, shape (S,)
        Rows.
    train_scores, test_scores : ndarray, shape (S, folds)
        As ``sklearn.model_selection.learning_curve`` gives them.
    score_name, title, theme : str
        What they are; what is written above; light or dark.

    Raises
    ------
    ConfigurationError
        The sizes do not fit.
    """
    figure = go.Figure()
    for colour, name, scores in zip(
        PALETTE, ("training rows", "held-out rows"), (train_scores, test_scores), strict=False
    ):
        array = np.atleast_2d(np.asarray(scores, np.float64))
        if len(array) != len(sizes) or not np.isfinite(array).all():
            raise ConfigurationError(f"{len(array)} rows of scores do not fit {len(sizes)} sizes")
        low, high = array.min(axis=1), array.max(axis=1)
        x = [int(size) for size in sizes]
        add_band(
            figure, x, low, array.mean(axis=1), high, colour=colour, name=name, shows_legend=True
        )
    figure.update_xaxes(title="rows learned from")
    figure.update_yaxes(title=text_of(score_name))
    told = title or "learning curve, mean and range over folds"
    return finish(figure, theme, told, height=520, width=900)


def _checked(truth: object, scores: object) -> tuple[np.ndarray, np.ndarray]:
    ones, found = np.asarray(truth), np.asarray(scores, np.float64)
    if ones.shape != found.shape or ones.ndim != 1:
        raise ConfigurationError(f"{ones.size} labels do not fit {found.size} scores")
    if not np.isfinite(found).all():
        raise ConfigurationError("a score is not finite")
    if set(np.unique(ones).tolist()) != {0, 1}:
        raise ConfigurationError("the truth must have zeros and ones, and both of them")
    return ones.astype(int), found


def _wilson(shares: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Interval of 95 % around shares of n rows; Wilson's, which stays within 0 and 1."""
    z = 1.959964
    middle = (shares + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(shares * (1 - shares) / n + z**2 / (4 * n**2))
    return np.minimum(middle - reach, shares), np.maximum(middle + reach, shares)


def _square(x: Sequence[float], y: Sequence[float], name: str) -> go.Figure:
    figure = go.Figure()
    line = {"color": _GREY, "dash": "dash", "width": 1.2}
    figure.add_scatter(x=list(x), y=list(y), mode="lines", line=line, name=name)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.04])
    return figure.update_layout(legend={"orientation": "h", "y": -0.18})


def _add_curve(figure: go.Figure, x: np.ndarray, y: np.ndarray, name: str) -> None:
    line = {"color": PALETTE[0], "width": 2.2}
    figure.add_scatter(x=x.tolist(), y=y.tolist(), mode="lines", name=name, line=line)


def _mark(figure: go.Figure, x: float, y: float, name: str, limit: float) -> None:
    figure.add_scatter(
        x=[float(x)],
        y=[float(y)],
        mode="markers",
        name=f"{text_of(name)} ≥ {limit:.3g}",
        marker={"size": 11, "color": PALETTE[1], "symbol": "diamond"},
    )
