"""Whether what a classifier reads is still like its reference: numbers of a window, no text."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from splinellm.learn.watching import LEAST_ROWS, Drift, Sketch, watched_values
from splinellm.table import FeatureTable

INTERVAL_S = 10.0
"""Comparisons are no further apart if Prometheus asks more often: each takes a while."""
_NAMED = 3

_logger = logging.getLogger(__name__)


class DriftWindow:
    """The last inputs that a classifier judged, as numbers, and how far they are from a sketch.

    Parameters
    ----------
    name : str
        Of the classifier, for the log.
    sketch : Sketch
        What it is compared with.
    n_inputs : int
        Size of the window; older inputs are forgotten.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        name: str,
        sketch: Sketch,
        n_inputs: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._sketch = sketch
        self._clock = clock
        self._rows = np.empty((n_inputs, len(sketch.names)), np.float32)
        self._n_seen = 0
        self._n_measured = 0
        self._measured_at = -np.inf
        self._found: Drift | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return min(self._n_seen, len(self._rows))

    def add(
        self,
        n_tokens: np.ndarray,
        scores: Mapping[str, np.ndarray],
        table: FeatureTable | None = None,
    ) -> None:
        """Take inputs in; see :func:`splinellm.learn.watching.watched_values`."""
        values = watched_values(self._sketch.names, n_tokens, scores, table)[-len(self._rows) :]
        with self._lock:
            places = (self._n_seen + np.arange(len(values))) % len(self._rows)
            self._rows[places] = values
            self._n_seen += len(values)

    def measure(self) -> Drift | None:
        """Compare the window with the reference; None while there are too few inputs."""
        with self._lock:
            is_due = self._clock() - self._measured_at >= INTERVAL_S
            if len(self) < LEAST_ROWS or self._n_seen == self._n_measured or not is_due:
                return self._found
            rows = self._rows[: len(self)].copy()
            self._n_measured, self._measured_at = self._n_seen, self._clock()
        found = self._sketch.drift(rows)
        was = self._found is not None and self._found.value > 1
        self._found = found
        if (found.value > 1) != was:
            fields = {
                "classifier": self.name,
                "drift": round(found.value, 3),
                "columns": [found.names[i] for i in found.largest(_NAMED)],
            }
            event = "drift_ended" if was else "drift"
            _logger.warning(event, extra={"fields": fields})
        return found
