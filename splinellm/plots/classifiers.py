"""Pictures of a classifier: is it calibrated, what do thresholds cost, what does it look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
from splinellm.plots.style import DIVERGING, PALETTE, Theme, finish, text_of

_GREY = "#888888"
_MARKS = ("diamond", "square", "circle", "cross", "x")
_MOST_POINTS = 1000
"""Of a curve: more are not seen, and make a page slow."""
_Side = tuple[str, np.ndarray, Callable[[np.ndarray], float]]
"""Of a trade-off: what it is called, its curve, and its value of the rows that are flagged."""
_SQUARE = {"height": 740, "width": 680}


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
    return _trade_off(
        found,
        ("false positive rate", x, lambda flagged: flagged[truth == 0].mean()),
        ("true positive rate", y, lambda flagged: flagged[truth == 1].mean()),
        chance=([0, 1], "chance"),
        name=f"classifier (AUC {roc_auc_score(truth, found):.3f})",
        thresholds=thresholds,
        title=title or f"ROC, {len(truth):,} rows",
        theme=theme,
    )


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
    return _trade_off(
        found,
        ("recall", recall, lambda flagged: flagged[truth == 1].mean()),
        # Of nothing that is flagged, nothing is wrong: where the curve begins.
        ("precision", precision, lambda flagged: truth[flagged].mean() if flagged.any() else 1.0),
        chance=([share, share], f"chance ({share:.0%} have the class)"),
        name=f"classifier (average precision {average_precision_score(truth, found):.3f})",
        thresholds=thresholds,
        title=title or f"precision and recall, {len(truth):,} rows",
        theme=theme,
    )


def coefficients_picture(
    coefficients: np.ndarray,
    layers: Sequence[int],
    features: Sequence[str],
    *,
    unit: str = "per sd",
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
    unit : str
        How much of a feature a coefficient is for.
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
        colorbar={"title": {"text": f"coefficient<br>({text_of(unit)})"}},
    )
    figure = go.Figure(heat)
    figure.update_xaxes(title="feature or block", type="category", automargin=True)
    figure.update_yaxes(autorange="reversed", automargin=True)
    # Names stand upright below, and the colour bar is as high as what they leave.
    height = max(400, 230 + 22 * len(layers))
    return finish(figure, theme, title or "coefficients", height=height, width=1000)


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


def _trade_off(
    scores: np.ndarray,
    across: _Side,
    upward: _Side,
    *,
    chance: tuple[Sequence[float], str],
    name: str,
    thresholds: Mapping[str, float] | None,
    title: str,
    theme: Theme,
) -> go.Figure:
    """What a classifier gains and pays at every threshold, and where some of them are."""
    figure = _square([0, 1], *chance)
    kept = np.unique(np.linspace(0, len(across[1]) - 1, _MOST_POINTS).round().astype(int))
    figure.add_scatter(
        x=across[1][kept].tolist(),
        y=upward[1][kept].tolist(),
        mode="lines",
        name=name,
        line={"color": PALETTE[0], "width": 2.2},
    )
    for place, (told, limit) in enumerate((thresholds or {}).items()):
        flagged = scores >= limit
        marker = {
            "size": 11,
            "color": PALETTE[1 + place % (len(PALETTE) - 1)],
            "symbol": _MARKS[place % len(_MARKS)],
        }
        figure.add_scatter(
            x=[float(across[2](flagged))],
            y=[float(upward[2](flagged))],
            mode="markers",
            name=f"{text_of(told)} ≥ {limit:.3g}",
            marker=marker,
        )
    figure.update_xaxes(title=across[0])
    figure.update_yaxes(title=upward[0])
    return finish(figure, theme, title, **_SQUARE)
