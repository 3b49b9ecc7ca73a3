"""Annotated parts of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splinellm.errors import LabelError
from splinellm.learn.annotated import as_read, read_marks, window_labels
from splinellm.learn.windows import Windows


@pytest.mark.parametrize("value", ["[2, 3, 4]", [2, 3, 4], [[2, 5]], "[[2, 4], [4, 5]]", [(2, 5)]])
def test_offsets_and_pairs_say_the_same(value: Any) -> None:
    marks = read_marks(value, "abcdefg", 1)
    assert marks is not None
    assert np.flatnonzero(marks).tolist() == [2, 3, 4]


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
def test_not_annotated_is_not_found_nothing(value: Any) -> None:
    assert read_marks(value, "abc", 1) is None
    assert read_marks("[]", "abc", 1) is not None


@pytest.mark.parametrize(
    "value", ["{", "3", 3, {"a": 1}, "[3]", [-1], [[1]], [[2, 1]], [[0, 4]], [1.5], [True], ["0"]]
)
def test_anything_else_is_refused_by_row(value: Any) -> None:
    with pytest.raises(LabelError, match="row 7: "):
        read_marks(value, "abc", 7)


def test_marks_move_with_what_is_normalised() -> None:
    text = "you i d i o t, &amp; bye"
    marks = read_marks([[4, 13]], text, 1)
    assert marks is not None
    moved = as_read(marks, text)  # "you idiot, & bye"
    assert np.flatnonzero(moved).tolist() == [4, 5, 6, 7, 8]


def test_windows_are_labelled_by_what_they_hold_of_an_annotation() -> None:
    characters = np.array([[0, 10], [6, 16], [11, 20], [20, 30], [0, 0], [0, 9], [0, 9], [0, 9]])
    starts = np.array([0, 5, 6, 7, 8])
    found = Windows(
        np.zeros((8, 1), np.uint8), starts, characters, np.ones(4, np.int64), np.zeros(4, np.bool_)
    )
    marked = np.zeros(30, np.bool_)
    marked[8:12] = True  # half of it in the first, all in the second, a quarter in the third
    nothing, other = np.zeros(9, np.bool_), np.ones(9, np.bool_)
    labels = window_labels(found, [marked, None, nothing, other])
    assert labels.tolist() == [1, 1, -1, 0, -1, -1, -1, 1]
