"""Decisions that may be left to somebody else: the band of probabilities that tell too little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from splinellm.errors import ArtifactError, ConfigurationError
from splinellm.learn.labels import Labels
from splinellm.learn.predictions import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from splinellm.learn.card import Card

ABSTAIN = "abstain"
"""Of a card's settings: the uncertain band of every class that has a threshold."""

_SURE = 1e-12


@dataclass(frozen=True)
class Band:
    """Probabilities of a class between which a decision is left open.

    Parameters
    ----------
    low, high : float
        Both inside the band.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ConfigurationError(f"a band from {self.low} to {self.high} is none")

    def holds(self, probabilities: np.ndarray) -> np.ndarray:
        """Whether each is inside."""
        return (probabilities >= self.low) & (probabilities <= self.high)


def require_share(share: float | None) -> None:
    """Refuse what is no share of rows that a band could hold."""
    if share is not None and not 0.0 < share < 1.0:
        raise ConfigurationError(f"an uncertain share of {share} is not between 0 and 1")


def choose_band(probabilities: np.ndarray, threshold: float, share: float) -> Band:
    """The band around a threshold, equally far to both sides in logits, that holds a share of rows.

    Parameters
    ----------
    probabilities : ndarray, shape (N,)
        Of rows that were not trained on.
    threshold : float
        Of the class.
    share : float
        Of the rows, in (0, 1).
    """
    require_share(share)
    center = float(logit(np.clip(threshold, _SURE, 1 - _SURE)))
    distances = np.abs(logit(np.clip(probabilities, _SURE, 1 - _SURE)) - center)
    reach = float(np.quantile(distances, share))
    # Rounding must not leave out the rows at the edges, nor the threshold.
    low = min(threshold, float(expit(center - reach)))
    return Band(low, max(threshold, float(expit(center + reach))))


def band_figures(
    labels: Labels, probabilities: np.ndarray, thresholds: Mapping[str, float], bands: Bands
) -> dict[str, dict[str, float]]:
    """Measure bands on rows that did not choose them.

    Returns
    -------
    dict of str to dict
        By class: the share of rows in its band, and the errors at its threshold of those in it and
        of the others.
    """
    figures = {}
    for name, band in bands.items():
        scores = probabilities[:, labels.classes.index(name)]
        wrong = (scores >= thresholds.get(name, DEFAULT_THRESHOLD)) != labels.indicator(name)
        inside = band.holds(scores)
        figures[name] = {
            "share": float(inside.mean()),
            "error_inside": float(wrong[inside].mean()) if inside.any() else 0.0,
            "error_outside": float(wrong[~inside].mean()) if not inside.all() else 0.0,
        }
    return figures


Bands = Mapping[str, Band]


def settings_of(bands: Bands) -> dict[str, Any]:
    """For a card."""
    return {name: asdict(band) for name, band in bands.items()}


def bands_of(card: Card) -> dict[str, Band]:
    """The bands of a card; empty if it has none.

    Raises
    ------
    ArtifactError
        What it has is no band.
    """
    try:
        return {
            name: Band(float(one["low"]), float(one["high"]))
            for name, one in card.settings.get(ABSTAIN, {}).items()
            if card.classes.index(name) >= 0
        }
    except (AttributeError, KeyError, TypeError, ValueError, ConfigurationError) as error:
        raise ArtifactError(f"the card's uncertain band is unreadable: {error}") from error
