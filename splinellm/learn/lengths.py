"""How far probabilities hold for short and for long texts, and for which nobody knows."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from splinellm.learn.labels import Labels

if TYPE_CHECKING:
    from splinellm.learn.card import Card

BY_LENGTH = "reliability by length"
"""Of a card's metrics: see :func:`reliability_by_length`."""

TRIED_UP_TO = "tried up to (tokens)"
"""Of these: the length up to which there were rows enough to try it on; without it, any."""

LENGTHS = (16, 64, 256, 1024)
"""Tokens at which texts are told apart as short and long."""

ENOUGH_ROWS = 20
ENOUGH_SHARE = 0.05
"""Rows of a range from which it counts as tried, and the share that does of few rows."""

FAR_BEYOND = 2
"""Times that length from which texts are warned of: the longest of one's own rows are not."""


class LengthWarning(UserWarning):
    """A classifier is given texts that are far longer than those that it was tried on."""


def reliability_by_length(
    truth: np.ndarray, probabilities: np.ndarray, n_tokens: np.ndarray
) -> dict[str, dict[str, float]]:
    """Compare probabilities with what is the case, for short and long texts each.

    Parameters
    ----------
    truth : ndarray, shape (N,)
        Zeros and ones.
    probabilities : ndarray, shape (N,)
        Of ones.
    n_tokens : ndarray, shape (N,)
        Length of each text.

    Returns
    -------
    dict of str to dict
        By range of tokens: rows, mean probability, share of ones, and Brier score.
    """
    figures = {}
    for low, high in zip((0, *LENGTHS), (*LENGTHS, np.inf), strict=True):
        rows = (n_tokens > low) & (n_tokens <= high)
        if rows.any():
            name = f"{low + 1} to {high} tokens" if np.isfinite(high) else f"over {low} tokens"
            figures[name] = {
                "rows": int(rows.sum()),
                "mean_probability": float(probabilities[rows].mean()),
                "share": float(truth[rows].mean()),
                "brier": float(np.mean((probabilities[rows] - truth[rows]) ** 2)),
            }
    return figures


def length_figures(
    labels: Labels, probabilities: np.ndarray, n_tokens: np.ndarray
) -> dict[str, Any]:
    """Reliability by length of each scored class, for a card.

    Parameters
    ----------
    labels : Labels
        Of N rows that were not trained on.
    probabilities : ndarray, shape (N, C)
        Of these.
    n_tokens : ndarray, shape (N,)
        Length of each text.
    """
    figures: dict[str, Any] = dict(tried_up_to(n_tokens))
    for name in labels.scored_classes:
        prefix = f"{name}: " if len(labels.scored_classes) > 1 else ""
        scores = probabilities[:, labels.classes.index(name)]
        found = reliability_by_length(labels.indicator(name), scores, n_tokens)
        figures |= {prefix + length: row for length, row in found.items()}
    return figures


def tried_up_to(n_tokens: np.ndarray) -> dict[str, int]:
    """The end of the longest range that holds rows enough; empty if it has no end."""
    enough = min(ENOUGH_ROWS, int(np.ceil(ENOUGH_SHARE * len(n_tokens))))
    longest = np.sort(n_tokens)[-enough]  # as many rows are as long, or longer
    end = next((int(end) for end in LENGTHS if longest <= end), None)
    return {} if end is None else {TRIED_UP_TO: end}


def far_beyond(card: Card, n_tokens: np.ndarray) -> int | None:
    """The length that a classifier was tried up to, if a text is far longer; else None.

    Parameters
    ----------
    card : Card
        The classifier's; older ones do not say what it was tried on.
    n_tokens : ndarray, shape (N,)
        Length of each text.
    """
    end: int | None = card.metrics.get(BY_LENGTH, {}).get(TRIED_UP_TO)
    return end if end is not None and bool((n_tokens > FAR_BEYOND * end).any()) else None


def warn_of_length(card: Card, n_tokens: np.ndarray) -> None:
    """Warn of texts that are far longer than those that a classifier was tried on.

    Parameters
    ----------
    card : Card
        The classifier's; older ones do not say what it was tried on.
    n_tokens : ndarray, shape (N,)
        Length of each text.
    """
    end = far_beyond(card, n_tokens)
    if end is not None:
        warnings.warn(
            f"classifier '{card.name}' was tried on texts of up to {end:,} tokens; how far its "
            "probabilities hold for texts as long as these is not known",
            LengthWarning,
            stacklevel=3,
        )
