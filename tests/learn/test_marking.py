"""Words that people marked, and regions that are narrowed to them."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm.learn.marking import FLOOR, NEAR, narrowed


@pytest.mark.parametrize(
    ("inside", "likely", "kept"),
    [
        ("111", [0.9, 0.4, 0.5], "101"),
        ("111", [FLOOR / 2] * 3, "111"),
        ("11011", [0.9, 0.1, 0.9, 0.2, 0.0], "10000"),
        ("11011", [0.9, 0.1, 0.9, 0.5, 0.0], "10010"),
        ("000", [0.9, 0.9, 0.9], "000"),
        ("", [], ""),
    ],
)
def test_regions_are_narrowed_to_the_worst_words_around(
    inside: str, likely: list[float], kept: str
) -> None:
    flags = np.array([c == "1" for c in inside])
    found = narrowed(flags, np.array(likely))
    assert "".join("01"[int(flag)] for flag in found) == kept


def test_what_is_far_away_is_narrowed_by_itself() -> None:
    inside = np.zeros(2 * NEAR + 4, np.bool_)
    likely = np.zeros(len(inside))
    inside[[0, 1, -2, -1]] = True
    likely[[0, -1]] = 0.9, 0.2
    assert np.flatnonzero(narrowed(inside, likely)).tolist() == [0, len(inside) - 1]
    likely[-1] = 0.0
    assert np.flatnonzero(narrowed(inside, likely)).tolist() == [0, *np.flatnonzero(inside)[2:]]


def test_likely_words_outside_of_regions_count_where_they_may() -> None:
    inside = np.array([True, True, False, False])
    wide = np.array([True, True, True, False])
    likely = np.array([0.9, 0.1, 0.8, 0.9])
    assert narrowed(inside, likely, wide).tolist() == [True, False, True, False]
    assert narrowed(inside, np.zeros(4), wide).tolist() == inside.tolist()  # nothing is likely


def test_words_far_from_all_that_was_found_do_not_count() -> None:
    inside = np.zeros(2000, bool)
    inside[1000:1010] = True
    likely = np.full(2000, 0.07)  # innocent words, a little likely everywhere
    likely[[1004, 1150, 1500]] = 0.9, 0.6, 0.9
    kept = narrowed(inside, likely, np.ones(2000, bool))
    assert np.flatnonzero(kept).tolist() == [1004, 1150]
    assert not narrowed(np.zeros(2000, bool), likely, np.ones(2000, bool)).any()
