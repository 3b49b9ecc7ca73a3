from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splinellm.errors import SchemaError
from splinellm.schema import FeatureSchema, FeatureSelection, is_feature_column, parse_layers

SEVEN = (
    *("sign_mean", "sign_min", "sign_max", "sign_std"),
    *("distance_min", "distance_mean", "distance_std"),
)
PAPER = (*SEVEN, "intrinsic_dimension")


def blocks(*indices: int) -> tuple[str, ...]:
    return tuple(f"sign_block_{i:02d}" for i in indices)


@pytest.mark.parametrize(
    ("features", "names", "n_blocks"),
    [
        ("paper", PAPER, 32),
        ("spline", SEVEN, 32),
        ("blocks", blocks(*range(32)), 32),
        ("blocks:3", blocks(0, 1, 2), 3),
        ("blocks:120", (*blocks(*range(100)), *(f"sign_block_{i}" for i in range(100, 120))), 120),
        ("intrinsic_dimension, sign_mean", ("sign_mean", "intrinsic_dimension"), 32),
        ("blocks:2,paper,sign_mean", (*PAPER, *blocks(0, 1)), 2),
        ("sign_block_31,sign_block_04", blocks(4, 31), 32),
        ("sign_block_01,blocks:2", blocks(0, 1), 2),
        ("sign_entropy", ("sign_entropy_mean", "sign_entropy_std"), 32),
        ("complexity:2", ("complexity_2_mean", "complexity_2_std"), 32),
        ("sign_entropy_std,blocks:1,paper", (*PAPER, *blocks(0), "sign_entropy_std"), 1),
        (["spline", "intrinsic_dimension"], PAPER, 32),
        (iter(["sign_std"]), ("sign_std",), 32),
    ],
)
def test_feature_lists(features: Any, names: tuple[str, ...], n_blocks: int) -> None:
    selection = FeatureSelection.parse(features)
    assert selection.names == names
    assert selection.n_blocks == n_blocks


@given(st.sets(st.sampled_from([*PAPER, *blocks(*range(32))]), min_size=1), st.randoms())
def test_order_is_canonical_whatever_was_given(names: set[str], rng: random.Random) -> None:
    shuffled = sorted(names)
    rng.shuffle(shuffled)
    found = FeatureSelection.parse(",".join(shuffled))
    assert found == FeatureSelection.parse(sorted(names))
    canonical = [*PAPER, *blocks(*range(32))]
    assert list(found.names) == [name for name in canonical if name in names]
    assert FeatureSelection.parse(found.names) == found


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("", "unknown feature ''"),
        ([], "no feature"),
        ("sign_mean,", "unknown feature ''"),
        ("Sign_Mean", "unknown feature 'Sign_Mean'"),
        ("layer_00.sign_mean", "unknown feature"),
        ("distance_max", "unknown feature"),
        ("sign_block_32", "not one of the 32"),
        ("sign_block_02,blocks:2", "not one of the 2"),
        ("sign_block_1", "unknown feature"),
        ("sign_block_001", "not one of"),
        ("blocks:0", "impossible number"),
        ("blocks:-1", "unknown feature"),
        ("blocks:4,blocks:8", "impossible number"),
        ("blocks:999999999", "unknown feature"),  # a request must not allocate a billion names
        ("blocks:" + "9" * 5000, "unknown feature"),
        ("x" * 5000, "unknown feature"),
    ],
)
def test_impossible_features_are_refused(features: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message) as caught:
        FeatureSelection.parse(features)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("features", "sign", "distance", "block", "attention"),
    [
        ("paper", True, True, False, True),
        ("blocks", False, False, True, False),
        ("sign_block_07", False, False, True, False),
        ("intrinsic_dimension", False, False, False, True),
        ("distance_std", False, True, False, False),
        ("sign_max", True, False, False, False),
        ("sign_entropy", False, False, False, False),
    ],
)
def test_only_what_is_needed_is_watched(
    features: str, sign: bool, distance: bool, block: bool, attention: bool
) -> None:
    selection = FeatureSelection.parse(features)
    assert selection.needs_sign is sign
    assert selection.needs_distance is distance
    assert selection.needs_blocks is block
    assert selection.needs_attention is attention
    assert selection.needs_gate is (features != "intrinsic_dimension")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, (0, 1, 2, 3, 4)),
        ("all", (0, 1, 2, 3, 4)),
        ("0-2,4", (0, 1, 2, 4)),
        (" 3 , 0 - 1 ", (0, 1, 3)),
        ("2,2,1-3", (1, 2, 3)),
        ([4, 0], (0, 4)),
        ([-1, -5], (0, 4)),
        (range(2), (0, 1)),
        (["1-2", "4"], (1, 2, 4)),
    ],
)
def test_layer_lists(layers: Any, expected: tuple[int, ...]) -> None:
    assert parse_layers(layers, 5) == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("5", "layer 5 does not exist.*0-4"),
        ("0-5", "layer 5"),
        ([5], "layer 5"),
        ([-6], "layer -6"),
        ("", "cannot read"),
        ([], "no layer"),
        ("1,", "cannot read"),
        ("-1", "cannot read"),
        ("a", "cannot read"),
        ("1.5", "cannot read"),
        ("3-1", "backwards"),
        ("0-999999999", "layer 999999999 does not exist"),
        ("9" * 5000, "cannot read"),
    ],
)
def test_impossible_layers_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message) as caught:
        parse_layers(layers, 5)
    assert len(str(caught.value)) < 200


@given(st.sets(st.integers(0, 40), min_size=1))
def test_every_set_of_layers_can_be_written(layers: set[int]) -> None:
    expected = tuple(sorted(layers))
    assert parse_layers(",".join(map(str, layers)), 41) == expected
    assert parse_layers(list(layers), 41) == expected


def test_sign_entropy_of_a_token_is_one_column() -> None:
    for features in ("sign_entropy", "sign_entropy_std"):
        selection = FeatureSelection.parse(features)
        assert selection.at("prefix") == selection
        assert selection.at("token").names == ("sign_entropy",)
        assert selection.at("token").at("token").names == ("sign_entropy",)


def test_column_names() -> None:
    schema = FeatureSchema((0, 7), FeatureSelection.parse("sign_mean,blocks:2"), 30)
    assert schema.names == (
        "layer_00.sign_mean",
        "layer_00.sign_block_00",
        "layer_00.sign_block_01",
        "layer_07.sign_mean",
        "layer_07.sign_block_00",
        "layer_07.sign_block_01",
    )
    assert schema.shape == (2, 3)
    assert all(map(is_feature_column, schema.names))


@pytest.mark.parametrize(("n_layers", "name"), [(100, "layer_07"), (101, "layer_007")])
def test_padding_of_layer_numbers(n_layers: int, name: str) -> None:
    schema = FeatureSchema((7,), FeatureSelection.parse("sign_mean"), n_layers)
    assert schema.names == (f"{name}.sign_mean",)


def test_the_papers_224_and_the_default_models_210() -> None:
    for n_layers, n_columns in ((32, 224), (30, 210)):
        layers = parse_layers(None, n_layers)
        schema = FeatureSchema(layers, FeatureSelection.parse("spline"), n_layers)
        assert len(set(schema.names)) == n_columns


@pytest.mark.parametrize(
    "name", ["text", "layer_1.sign_mean", "layer_01", "xlayer_01.a", "layer_01.a b", "n_tokens"]
)
def test_other_columns_are_not_features(name: str) -> None:
    assert not is_feature_column(name)


def test_one_layer_and_arrays_of_layers_are_read_but_fractions_are_not() -> None:
    assert parse_layers(3, 5) == (3,)
    assert parse_layers(np.int64(-2), 5) == (3,)
    assert parse_layers(np.array([1, -1]), 5) == (1, 4)
    with pytest.raises(SchemaError, match=r"layer 1\.5 is not a whole number"):
        parse_layers([1.5], 5)  # type: ignore[list-item]
    for mask in ([True, False], np.array([True, False]), torch.tensor([True, False])):
        with pytest.raises(SchemaError, match="layer True is not a whole number"):
            parse_layers(mask, 5)
