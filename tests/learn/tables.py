"""Feature tables whose classes can be learnt, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from splinellm.table import FeatureTable, schema_of
from tests.fakes import fake_provenance


def learnable_table(
    target: np.ndarray, *, shift: float = 1.5, seed: int = 0, **provenance: Any
) -> FeatureTable:
    """Noise, with the mean of some columns moved by class."""
    record = fake_provenance(**provenance)
    width = len(schema_of(record).names)
    random = np.random.default_rng(seed)
    values = random.normal(size=(len(target), width))
    moved = random.normal(size=(int(target.max()) + 1, width)) * (np.arange(width) % 3 == 0)
    values += shift * moved[target]
    n_tokens = random.integers(1, 9, len(target))
    return FeatureTable(
        values.astype(np.float32), n_tokens, np.zeros(len(target), np.bool_), record
    )


def balanced(n_rows: int, n_classes: int = 2) -> np.ndarray:
    """Class indices in turn."""
    return np.arange(n_rows) % n_classes
