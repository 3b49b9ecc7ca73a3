"""Small tables, and what makes two of them equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from splinellm import FeatureTable
from tests.fakes import fake_features, fake_provenance


def make(n_rows: int = 5, **changes: Any) -> FeatureTable:
    provenance = fake_provenance(**changes)
    n_columns = len(provenance.layers) * len(provenance.features)
    return FeatureTable(
        np.array([fake_features(str(i), n_columns) for i in range(n_rows)], np.float32).reshape(
            n_rows, n_columns
        ),
        np.arange(1, n_rows + 1),
        np.arange(n_rows) % 2 == 0,
        provenance,
    )


def check_equal(found: FeatureTable, expected: FeatureTable) -> None:
    assert found.provenance == expected.provenance
    assert found.names == expected.names
    for name in ("values", "n_tokens", "truncated"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
