"""What a classifier says of N prompts, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from splinellm.learn.labels import Kind

PREDICTED = "predicted"
PROBABILITY = "probability"
SPANS = "spans"
DECIDED_BY = "decided_by"
DEFAULT_THRESHOLD = 0.5


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
        """Whether each class' probability reaches its threshold, shape (N, C), bool."""
        limits = [self.thresholds.get(name, DEFAULT_THRESHOLD) for name in self.classes]
        return self.probabilities >= np.array(limits)

    @property
    def predicted(self) -> list[str]:
        """One class per prompt: binary by threshold, otherwise the most probable."""
        if self.kind == "binary":
            chosen = self.flags[:, 1].astype(int)
        else:
            chosen = self.probabilities.argmax(axis=1)
        return [self.classes[position] for position in chosen]

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
