"""Labels from columns."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm.errors import ConfigurationError, LabelError
from splinellm.learn.labels import Labels


def test_two_classes_are_binary_and_the_second_is_scored() -> None:
    labels = Labels.from_columns({"y": ["toxic", "clean"] * 10})
    assert (labels.kind, labels.classes) == ("binary", ("clean", "toxic"))
    assert labels.scored_classes == ("toxic",)
    assert labels.values[:2].tolist() == [1, 0]


@pytest.mark.parametrize(
    "column", [[0, 1] * 10, [0.0, 1.0] * 10, ["0", "1"] * 10, [np.int64(0), np.int64(1)] * 10]
)
def test_numbers_of_any_type_are_the_same_classes(column: list[object]) -> None:
    assert Labels.from_columns({"y": column}).classes == ("0", "1")


def test_several_columns_are_multilabel_in_the_order_given() -> None:
    labels = Labels.from_columns({"b": ["yes", "no"] * 10, "a": [True, False] * 10})
    assert (labels.kind, labels.classes) == ("multilabel", ("b", "a"))
    assert labels.indicator("a").tolist() == [1, 0] * 10


@pytest.mark.parametrize("missing", [None, "", float("nan"), "NaN", " ", " nan\t"])
def test_a_missing_label_names_row_and_column(missing: object) -> None:
    with pytest.raises(LabelError, match="row 21 has no label in column 'y'"):
        Labels.from_columns({"y": ["a", "b"] * 10 + [missing]})


def test_multilabel_refuses_what_is_no_yes_or_no() -> None:
    with pytest.raises(LabelError, match="row 2 has '2' in column 'b'"):
        Labels.from_columns({"a": [0, 1] * 10, "b": [0, 2] * 10})


def test_a_rare_class_is_refused_by_name_and_count() -> None:
    with pytest.raises(LabelError, match="class 'rare' has 3 of 33 rows"):
        Labels.from_columns({"y": ["a"] * 15 + ["b"] * 15 + ["rare"] * 3})


def test_one_class_is_refused() -> None:
    with pytest.raises(LabelError, match="one class only"):
        Labels.from_columns({"y": ["a"] * 30})


def test_free_text_is_no_label() -> None:
    with pytest.raises(LabelError, match="is it a label"):
        Labels.from_columns({"y": [f"text {i}" for i in range(200)]})


def test_no_column_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Labels.from_columns({})


def test_strata_of_multilabel_follow_the_rarest_label() -> None:
    common, rare = [1] * 15 + [0] * 15, [1] * 10 + [0] * 20
    labels = Labels.from_columns({"common": common, "rare": rare})
    strata = labels.strata()
    assert len(set(strata[:10])) == len(set(strata[10:15])) == len(set(strata[15:])) == 1
    assert len({strata[0], strata[10], strata[15]}) == 3


def test_a_positive_label_and_the_rest() -> None:
    column = ["none", "hate", "hate", "rude", "none"] * 10
    labels = Labels.from_columns({"c": column}, positive="hate")
    assert (labels.kind, labels.classes) == ("binary", ("not hate", "hate"))
    assert labels.values.tolist() == [0, 1, 1, 0, 0] * 10
    two = Labels.from_columns({"c": ["none", "hate"] * 10}, positive="hate")
    assert two.classes == ("none", "hate")  # by the alphabet, "none" would be the positive one
    assert two.values.tolist() == [0, 1] * 10
    with pytest.raises(LabelError, match="row 3 has no label"):
        Labels.from_columns({"c": ["a", "b", None] * 10}, positive="a")
    with pytest.raises(LabelError, match="its labels are 'a', 'b'"):
        Labels.from_columns({"c": ["a", "b"] * 10}, positive="c")
    with pytest.raises(ConfigurationError, match="positive label of 2 columns"):
        Labels.from_columns({"c": [0, 1], "d": [1, 0]}, positive="c")
