"""Scores of words that were met before: the same few thousand make most of all texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np

LIMIT = 1 << 17
"""Words whose scores are kept at hand."""


class KeptScores:
    """A row of numbers for each word, made when it is first met. Threads may ask at once.

    Parameters
    ----------
    make : callable
        Gives rows for words that are all different, shape (N, C), which depend on nothing else.
    n_columns : int
        C.
    limit : int
        Rows that are kept; beyond them it begins anew.
    """

    def __init__(
        self, make: Callable[[list[str]], np.ndarray], n_columns: int, limit: int = LIMIT
    ) -> None:
        self._make = make
        self._limit = limit
        self._lock = Lock()
        # Places only ever point at rows that are there, also for who still holds an older pair.
        self._known: tuple[dict[str, int], np.ndarray] = {}, np.empty((0, n_columns))

    def __call__(self, words: Sequence[str]) -> np.ndarray:
        """Rows of words, shape (N, C), float64."""
        places, rows = self._known
        try:
            return rows[[places[word] for word in words]]
        except KeyError:
            places, rows = self._learn(words)
            return rows[[places[word] for word in words]]

    def _learn(self, words: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
        with self._lock:
            places, rows = self._known
            new = [word for word in dict.fromkeys(words) if word not in places]
            if len(places) + len(new) > self._limit:
                places, rows, new = {}, rows[:0], list(dict.fromkeys(words))
            begin, end = len(places), len(places) + len(new)
            if end > len(rows):
                more = np.empty((max(end, 2 * len(rows)) - begin, rows.shape[1]))
                places, rows = dict(places), np.concatenate([rows[:begin], more])
            rows[begin:end] = self._make(new)
            places.update(zip(new, range(begin, end), strict=True))
            self._known = places, rows
            return self._known
