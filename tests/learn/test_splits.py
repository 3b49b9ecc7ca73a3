"""Splits that do not flatter."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm.errors import ConfigurationError
from splinellm.learn.labels import Labels
from splinellm.learn.splits import (
    leave_one_out,
    merged_groups,
    near_duplicates,
    stratified_splits,
)


def labels_of(values: np.ndarray) -> Labels:
    return Labels("binary", ("a", "b"), values)


def test_near_duplicates_ignore_case_links_names_and_punctuation() -> None:
    groups = near_duplicates(
        [
            "You should really see this, it is great!",
            "RT @someone you SHOULD really see this... it is great https://x.example/1",
            "You should never have come back to this town.",
        ]
    )
    assert groups[0] == groups[1] != groups[2]


def test_near_duplicates_see_one_changed_word_in_a_long_text() -> None:
    words = [f"word{i}" for i in range(120)]
    changed = [*words[:60], "other", *words[61:]]
    groups = near_duplicates([" ".join(words), " ".join(changed), " ".join(words[::-1])])
    assert groups[0] == groups[1] != groups[2]


def test_texts_without_words_are_told_apart() -> None:
    groups = near_duplicates(["!!!", "???", "!!!"])
    assert groups[0] == groups[2] != groups[1]


def test_merged_groups_are_transitive() -> None:
    groups = merged_groups([["a", "a", "b", "c"], [1, 2, 2, 3]])
    assert groups is not None
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_groups_of_one_row_are_no_groups() -> None:
    assert merged_groups([[1, 2, 3]]) is None
    assert merged_groups([]) is None


def test_a_group_is_never_on_both_sides_and_every_row_is_tested_once() -> None:
    groups = np.arange(60) // 3
    splits = stratified_splits(labels_of(np.arange(60) % 2), groups, n_splits=4)
    for learn, test in splits:
        assert not set(groups[learn]) & set(groups[test])
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(60))


def test_repeats_shuffle_anew_and_the_seed_decides() -> None:
    labels = labels_of(np.arange(40) % 2)
    first, again = (stratified_splits(labels, None, n_splits=2, n_repeats=2) for _ in range(2))
    assert all((a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    assert (first[0][1] != first[2][1]).any()
    assert (first[0][1] != stratified_splits(labels, None, n_splits=2, seed=5)[0][1]).any()


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="fewer groups") as caught:
        stratified_splits(labels_of(np.arange(40) % 2), np.arange(40) // 20, n_splits=5)
    assert str(caught.value).endswith(
        "5 folds: the 40 rows are of 2 (add rows of others; rows that say nearly the same are one "
        "group, too)"
    )


@pytest.mark.parametrize("n_splits", [22, 500])  # more than of a class; more than all rows
@pytest.mark.parametrize("groups", [None, np.arange(40)])
def test_more_folds_than_rows_of_a_class_are_refused(
    groups: np.ndarray | None, n_splits: int
) -> None:
    labels = labels_of((np.arange(40) < 21).astype(np.int64))
    assert len(stratified_splits(labels, None, n_splits=19)) == 19
    with pytest.raises(ConfigurationError, match="folds"):
        stratified_splits(labels, groups, n_splits=n_splits)


def test_leaving_out_tests_each_source_on_the_others() -> None:
    splits = leave_one_out(["x", "y", "x"])
    assert list(splits) == ["x", "y"]
    learn, test = splits["x"]
    assert (learn.tolist(), test.tolist()) == ([1], [0, 2])
