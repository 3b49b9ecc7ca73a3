"""Scores of rows by models that were not trained on them, kept while folds go by."""

from __future__ import annotations

import numpy as np


class OutOfFold:
    """Collects scores by class; those of a row that is tested several times are averaged.

    Parameters
    ----------
    n_rows : int
        N rows.
    """

    def __init__(self, n_rows: int) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._n_rows = n_rows

    def add(self, label: str, rows: np.ndarray, scores: np.ndarray) -> None:
        """Keep the scores of a class for some of the rows."""
        if label not in self._sums:
            self._sums[label] = np.zeros(self._n_rows)
            self._counts[label] = np.zeros(self._n_rows, np.int64)
        self._sums[label][rows] += scores
        self._counts[label][rows] += 1

    def of(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows that were scored for a class, and their scores."""
        counts = self._counts.get(label, np.zeros(0, np.int64))
        rows = np.flatnonzero(counts)
        return rows, self._sums[label][rows] / counts[rows] if len(rows) else np.empty(0)
