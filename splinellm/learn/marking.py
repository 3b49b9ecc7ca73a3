"""Which words of a bad sentence are the bad ones, by how likely each is to be marked."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter1d

FLOOR = 0.06
"""Probability that a word is marked, below which it never is a part of a span."""

RELATIVE = 0.5
"""Share of the probability of the likeliest word around, below which neither."""

WIDE = 0.1
"""Share of the threshold from which on a likely word counts, in a text that reaches it."""

NEAR = 256
"""Tokens to each side that are around: more than the posts had that marking was learnt from."""


def _around(values: np.ndarray, reach: int) -> np.ndarray:
    """Largest value up to so many tokens away."""
    found: np.ndarray = maximum_filter1d(values, 2 * reach + 1, mode="constant")
    return found


def narrowed(inside: np.ndarray, likely: np.ndarray, wide: np.ndarray | None = None) -> np.ndarray:
    """Of regions of tokens, those in the likeliest words; where no word is likely, whole regions.

    What is likely is measured at the likeliest word around, in whichever region: most people who
    mark a text mark its worst words, and leave milder ones elsewhere.

    Parameters
    ----------
    inside : ndarray, shape (T,), bool
        Tokens of regions that a class was found in.
    likely : ndarray, shape (T,)
        See :func:`splinellm.learn.marker.word_probabilities`.
    wide : ndarray, shape (T,), bool, optional
        Tokens that count if their words are likely and there is a region around; those inside by
        default.
    """
    if not len(inside):
        return inside
    # Far from all that was found, the likeliest word is an innocent one.
    beside = np.zeros_like(inside) if wide is None else wide & ~inside & _around(inside, NEAR)
    among = inside | beside
    around = _around(np.where(among, likely, 0.0), NEAR)
    worst_found = _around(np.where(inside, likely, 0.0), 2 * NEAR)  # of all that is beside it
    around[beside] = np.maximum(around, worst_found)[beside]
    words = among & (likely >= np.maximum(FLOOR, RELATIVE * around))
    kept: np.ndarray = words | (inside & (around < FLOOR))
    return kept
