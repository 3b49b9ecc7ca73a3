"""Which words of a bad sentence are the bad ones: learnt from characters that people marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from splinellm.learn.lexicon import Lexicon, words_at, words_of

STRENGTH = 0.01
"""C of the words' logistic regression."""

FLOOR = 0.06
"""Probability that a word is marked, below which it never is a part of a span."""

RELATIVE = 0.5
"""Share of the probability of the likeliest word around, below which neither."""

WIDE = 0.1
"""Share of the threshold from which on a likely word counts, in a text that reaches it."""

NEAR = 256
"""Tokens to each side that are around: more than the posts had that marking was learnt from."""

HALF = 0.5


def fit_marker(texts: Sequence[str], marks: Sequence[np.ndarray | None]) -> Lexicon | None:
    """Learn how likely each word is to be marked.

    Parameters
    ----------
    texts : sequence of str
        As they are read.
    marks : sequence of ndarray or None
        Marked characters of each; None where nobody looked.

    Returns
    -------
    Lexicon or None
        Of single words; None if none is marked, or all are.
    """
    read = [(text, marked) for text, marked in zip(texts, marks, strict=True) if marked is not None]
    words: list[str] = []
    is_marked: list[bool] = []
    for text, marked in read:
        for begin, end in words_at(text):
            words.append(text[begin:end])
            is_marked.append(bool(marked[begin:end].mean() > HALF))
    if len(set(is_marked)) < 2:
        return None
    marker = Lexicon().fit_terms([text for text, _ in read])
    fitted = LogisticRegression(C=STRENGTH, solver="liblinear", tol=1e-3)
    fitted.fit(marker.matrix(words), is_marked)
    marker.set_weights(fitted.coef_, fitted.intercept_)
    return marker


def word_probabilities(
    marker: Lexicon, text: str, begin: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """How likely the word that each token is in is to be marked, shape (T,); 0 outside of words.

    Parameters
    ----------
    marker : Lexicon
        See :func:`fit_marker`.
    text : str
        As it was read.
    begin, end : ndarray, shape (T,)
        Characters of the tokens; those that are nowhere have an empty range.
    """
    found = np.zeros(len(begin))
    places = np.array(words_at(text), np.int64).reshape(-1, 2)
    if not len(places):
        return found
    words = [" ".join(words_of(text[a:b])) for a, b in places.tolist()]
    likely = expit(marker.word_scores(words)[:, 0] + marker.intercept_[0])
    for token, (a, b) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        if 0 <= a < b:
            first = int(np.searchsorted(places[:, 1], a, side="right"))
            stop = int(np.searchsorted(places[:, 0], b))
            if first < stop:
                found[token] = likely[first:stop].max()
    return found


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
        See :func:`word_probabilities`.
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
