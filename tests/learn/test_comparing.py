"""Effect sizes and the test of two tables."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.learn.comparing import compare, effect_sizes, groups_of
from splinellm.table import FeatureTable
from tests.tables import make


def random_table(n_rows: int, seed: int) -> FeatureTable:
    table = make(n_rows)
    values = np.random.default_rng(seed).normal(size=table.values.shape)
    return replace(table, values=values.astype(np.float32))


def moved(table: FeatureTable, by: float) -> FeatureTable:
    return replace(table, values=(table.values + np.float32(by)).astype(np.float32))


def test_effect_by_hand() -> None:
    a, b = np.array([[1.0], [2], [3]]), np.array([[2.0], [4], [6]])
    # Pooled variance (2 * 1 + 2 * 4) / 4 = 2.5, d = 2 / sqrt(2.5), times 1 - 3 / 15.
    effects = effect_sizes(a, b)
    g = 2 / 2.5**0.5 * 0.8
    assert effects.size[0] == pytest.approx(g)
    reach = 1.959964 * (6 / 9 + g**2 / 12) ** 0.5
    assert effects.low[0] == pytest.approx(g - reach, abs=1e-5)
    assert effects.high[0] == pytest.approx(g + reach, abs=1e-5)


def test_columns_without_spread_have_finite_effects() -> None:
    a, b = np.zeros((4, 3)), np.zeros((4, 3))
    b[:, 1] = 1.0
    a[:, 2] = b[:, 2] = 0.1
    np.testing.assert_array_equal(effect_sizes(a, b).size, [0.0, 1e3, 0.0])
    with pytest.raises(ConfigurationError, match="two rows"):
        effect_sizes(a[:1], b)


def test_halves_of_the_same_rows_are_not_told_apart_and_moved_ones_are() -> None:
    table = random_table(200, seed=3)
    above = 0
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(200)
        above += compare(table[order[:100]], table[order[100:]], seed=seed).p_value > 0.05
    assert above >= 16
    found = compare(table[:100], moved(table[100:], 1.0))
    assert found.p_value < 1e-6
    assert found.roc_auc > 0.9
    assert found.difference is None
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(record["effects"]) == len(table.names)
    first = record["effects"][found.largest(1)[0]]
    assert first["low"] > 0
    assert first["column"] == found.names[found.largest(1)[0]]


def test_only_common_columns_are_compared_and_none_is_an_error() -> None:
    table = random_table(20, seed=0)
    layers, features = table.schema.layers, table.schema.features
    part = table.select(layers=layers[:1])
    assert compare(table, part).layers == layers[:1]
    with pytest.raises(TableFormatError, match="no column in common"):
        compare(table.select(features=features[:1]), table.select(features=features[1:]))
    with pytest.raises(ConfigurationError, match="first table has 3 rows"):
        compare(table[:3], table)


def test_labels_to_compare_by() -> None:
    assert groups_of(["b", "a", "b"]) == ("a", "b")
    assert groups_of(["a", "b", "c"], ["c", "a"]) == ("c", "a")
    for labels, names in ((["a"], None), (["a", "b", "c"], None), (["a", "b"], ["a", "x"])):
        with pytest.raises(ConfigurationError):
            groups_of(labels, names)
