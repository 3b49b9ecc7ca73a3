"""What a classifier says of N prompts, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa

from splinellm.errors import ConfigurationError
from splinellm.learn.labels import Kind

PREDICTED = "predicted"
PROBABILITY = "probability"
SPANS = "spans"
DECIDED_BY = "decided_by"
DEFAULT_THRESHOLD = 0.5

CHOICE = "decided by"
"""Of a card's figures: what makes the verdicts that they are of, where thresholds do not."""
MOST_PROBABLE = "the most probable class"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Calibrated probabilities and the decisions made of them.

    Parameters
    ----------
    kind : {"binary", "multiclass", "multilabel"}
        Of the task.
    classes : tuple of str
        C classes.
    probabilities : ndarray, shape (N, C), float64
        Rows sum to one, except for ``multilabel``.
    thresholds : mapping of str to float
        Probability from which a class is said to be there; used for binary and multi-label tasks.
    """

    kind: Kind
    classes: tuple[str, ...]
    probabilities: np.ndarray
    thresholds: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def flags(self) -> np.ndarray:
        """Whether each class is said to be there, shape (N, C), bool; see :func:`verdict_flags`."""
        return verdict_flags(self.kind, self.classes, self.probabilities, self.thresholds)

    @property
    def predicted(self) -> list[str]:
        """One class per prompt: binary by threshold, otherwise the most probable."""
        if self.kind == "binary":
            chosen = self.flags[:, 1].astype(int)
        else:
            chosen = self.probabilities.argmax(axis=1)
        return [self.classes[position] for position in chosen]

    def with_thresholds(self, thresholds: float | Mapping[str, float] | None) -> Predictions:
        """The same probabilities, decided otherwise.

        Parameters
        ----------
        thresholds : float, mapping of str to float, or None
            Of all classes, by class, or none: as they are. See :func:`require_thresholds`.

        Raises
        ------
        ConfigurationError
            One is impossible.
        """
        if thresholds is None:
            return self
        told = require_thresholds(self.kind, self.classes, thresholds)
        return replace(self, thresholds={**self.thresholds, **told})

    def of_texts(self, owners: np.ndarray, n_tokens: np.ndarray) -> Predictions:
        """Predictions for texts, from those for their windows: the worst window decides.

        Of several labels each has its highest probability. Of exclusive classes, of which no one
        is the bad one, it is what most of the text is: the mean, weighted by tokens.

        Parameters
        ----------
        owners : ndarray of int, shape (rows,)
            The text that each row is of: 0, 1, 2, ... without gaps, ascending.
        n_tokens : ndarray of int, shape (rows,)
            Tokens of each row.
        """
        starts = np.flatnonzero(np.diff(np.asarray(owners, np.int64))) + 1
        if len(starts) + 1 >= len(self):
            return self
        rows = np.split(np.arange(len(self)), starts)
        probabilities = np.stack([self._of_text(part, n_tokens[part]) for part in rows])
        return replace(self, probabilities=probabilities)

    def _of_text(self, rows: np.ndarray, n_tokens: np.ndarray) -> np.ndarray:
        probabilities = self.probabilities[rows]
        if len(rows) == 1:
            return np.asarray(probabilities[0])
        if self.kind == "multilabel":
            return np.asarray(probabilities.max(axis=0))
        if self.kind == "binary":
            return np.asarray(probabilities[probabilities[:, 1].argmax()])
        return np.asarray(np.average(probabilities, axis=0, weights=n_tokens))

    def to_arrow(self) -> pa.Table:
        """Columns ``predicted`` and ``probability.<class>``; multi-label ``predicted.<label>``."""
        decisions = list(self.flags.T) if self.kind == "multilabel" else [self.predicted]
        schema = prediction_schema(self.kind, self.classes)
        columns = zip([*decisions, *self.probabilities.T], schema.types, strict=True)
        return pa.Table.from_arrays([pa.array(*column) for column in columns], schema=schema)


def prediction_schema(kind: Kind, classes: Sequence[str]) -> pa.Schema:
    """Arrow schema of :meth:`Predictions.to_arrow`."""
    decisions = [pa.field(PREDICTED, pa.string(), nullable=False)]
    if kind == "multilabel":
        decisions = [pa.field(f"{PREDICTED}.{c}", pa.bool_(), nullable=False) for c in classes]
    scores = [pa.field(f"{PROBABILITY}.{c}", pa.float64(), nullable=False) for c in classes]
    return pa.schema([*decisions, *scores])


def verdict_flags(
    kind: Kind,
    classes: Sequence[str],
    probabilities: np.ndarray,
    thresholds: Mapping[str, float | np.ndarray],
) -> np.ndarray:
    """Which classes a verdict says are there, shape (N, C), bool, as :class:`Predictions` decides.

    Parameters
    ----------
    kind, classes, probabilities
        See :class:`Predictions`.
    thresholds : mapping of str to float, or to ndarray of shape (N,)
        By class, for all rows or row by row; 0.5 where none is given. Of exclusive classes none is
        looked at: the most probable one holds, whatever its probability.
    """
    if kind == "multiclass":
        return np.asarray(probabilities.argmax(axis=1)[:, None] == np.arange(len(classes)))
    return _reached(classes, probabilities, thresholds)


def _reached(
    classes: Sequence[str],
    probabilities: np.ndarray,
    thresholds: Mapping[str, float | np.ndarray],
) -> np.ndarray:
    """Which probabilities reach the threshold of their class, shape (N, C), bool."""
    limits = [
        np.broadcast_to(thresholds.get(name, DEFAULT_THRESHOLD), len(probabilities))
        for name in classes
    ]
    return np.asarray(probabilities >= np.stack(limits, axis=1))


def scored_classes(kind: Kind, classes: Sequence[str]) -> tuple[str, ...]:
    """Classes that have a threshold: of two, the second; of exclusive ones, none."""
    if kind == "multiclass":
        return ()
    return tuple(classes[1:] if kind == "binary" else classes)


def require_thresholds(kind: Kind, classes: Sequence[str], thresholds: Any) -> dict[str, float]:
    """Read thresholds that somebody chose: a number for all classes, or numbers by class.

    Raises
    ------
    ConfigurationError
        There is no such class or none that has a threshold, or a number is no probability.
    """
    able = scored_classes(kind, classes)
    if not able:
        raise ConfigurationError(
            "of several classes the most probable is chosen, without a threshold",
            hint="leave the threshold out",
        )
    told = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(able, thresholds)
    for name, value in told.items():
        if name not in able:
            raise ConfigurationError(
                f"no class '{str(name)[:40]}' has a threshold",
                hint=f"these have: {', '.join(able)}",
            )
        if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 <= float(value) <= 1.0:
            shown = f"{value}" if isinstance(value, Real) else type(value).__name__
            raise ConfigurationError(f"a threshold of {shown} is not in [0, 1]")
    return {str(name): float(value) for name, value in told.items()}
