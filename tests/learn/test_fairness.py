"""Bias AUCs against loops over pairs; groups from words and from columns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from splinellm.errors import LabelError
from splinellm.learn.card import Card
from splinellm.learn.fairness import (
    FAIRNESS,
    MEASURES,
    Area,
    area_with_interval,
    column_members,
    fairness_figures,
    out_of_fold_subgroups,
    power_mean,
    subgroup_figures,
    summary,
)
from splinellm.learn.identity_terms import identity_groups, identity_members
from splinellm.learn.labels import Labels
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.readme import readme_of
from splinellm.learn.training import train
from tests.learn.tables import balanced, learnable_table


def by_pairs(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """AUC and DeLong's variance of it, from the matrix of all pairs."""
    wins = np.array(
        [[1.0 if p > n else 0.5 if p == n else 0.0 for n in negative] for p in positive]
    )
    rows, columns = wins.mean(axis=1), wins.mean(axis=0)
    variance = sum((rows - wins.mean()) ** 2) / (len(rows) - 1) / len(rows)
    variance += sum((columns - wins.mean()) ** 2) / (len(columns) - 1) / len(columns)
    return float(wins.mean()), float(variance)


def rows_of_a_biased_classifier(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, coarse scores with ties, and a group whose scores are all raised."""
    random = np.random.default_rng(3)
    truth = random.integers(0, 2, n)
    inside = random.random(n) < 0.25
    scores = np.round(random.normal(size=n) + 2 * truth + 1.5 * inside, 1)
    return truth, scores, inside


def test_the_three_areas_are_those_of_pairs() -> None:
    truth, scores, inside = rows_of_a_biased_classifier()
    (one,) = subgroup_figures(truth, scores, {"g": inside}, label="toxic", threshold=1.0)
    assert (one.rows, one.positives) == (inside.sum(), (inside & (truth == 1)).sum())
    sides = {
        "subgroup": (inside & (truth == 1), inside & (truth == 0)),
        "BPSN": (~inside & (truth == 1), inside & (truth == 0)),
        "BNSP": (inside & (truth == 1), ~inside & (truth == 0)),
    }
    for measure in MEASURES:
        positive, negative = (scores[rows] for rows in sides[measure])
        value, variance = by_pairs(positive, negative)
        area = one.areas[measure]
        assert area is not None
        assert area.value == pytest.approx(value, abs=1e-12)
        # Symmetric in logits, with the slope there times DeLong's deviation.
        logits = np.log(np.array([area.low, area.high]) / (1 - np.array([area.low, area.high])))
        reach = 1.959964 * variance**0.5 / (value * (1 - value))
        assert np.diff(logits)[0] == pytest.approx(2 * reach)
        assert logits.mean() == pytest.approx(np.log(value / (1 - value)))
    values = {measure: one.areas[measure].value for measure in MEASURES}  # type: ignore[union-attr]
    assert values["BPSN"] < values["subgroup"] < values["BNSP"]  # raised scores: false alarms
    assert one.fpr == (scores[inside & (truth == 0)] >= 1.0).mean()


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    truth = 0.7602499  # of normal scores one deviation apart
    held = 0
    for _ in range(300):
        area = area_with_interval(random.normal(1, 1, 25), random.normal(0, 1, 40))
        assert area is not None
        held += area.low <= truth <= area.high
    assert 0.91 <= held / 300 <= 0.99


@pytest.mark.parametrize("shift", [10.0, -10.0])
def test_a_perfect_small_group_is_not_certain(shift: float) -> None:
    area = area_with_interval(np.arange(10) + shift * 2, np.arange(10) * 0.5)
    assert area is not None
    assert area.value == (1.0 if shift > 0 else 0.0)
    assert area.high - area.low > 0.05
    assert 0.0 <= area.low <= area.value <= area.high <= 1.0
    tied = area_with_interval(np.ones(20), np.ones(20))
    assert tied is not None
    assert tied.value == 0.5
    assert tied.low < 0.4 < 0.6 < tied.high


def test_too_few_rows_are_no_figure() -> None:
    assert area_with_interval(np.arange(9.0), np.arange(99.0)) is None
    truth, scores, _ = rows_of_a_biased_classifier()
    few = np.arange(400) < 12
    members = {"few": few, "nobody": np.zeros(400, bool)}
    (one,) = subgroup_figures(truth, scores, members, label="toxic", threshold=0.0)
    assert one.group == "few"
    assert not one.is_measured
    assert one.fpr is None
    labels = Labels("binary", ("clean", "toxic"), truth.astype(np.int64))
    probabilities = np.stack([-scores, scores], axis=1)
    assert fairness_figures(labels, probabilities, members, {}, "m") == {}


def test_the_power_mean_is_near_the_worst() -> None:
    values = [0.9, 0.95, 0.6]
    assert power_mean(values) == pytest.approx((sum(v**-5 for v in values) / 3) ** (-1 / 5))
    assert 0.6 < power_mean(values) < 0.75
    assert power_mean([0.9, 0.0]) == 0.0
    assert summary([]) == dict.fromkeys(MEASURES)


def test_scores_out_of_fold_are_averaged_over_repeats() -> None:
    truth, scores, inside = rows_of_a_biased_classifier()
    labels = Labels("binary", ("clean", "toxic"), truth.astype(np.int64))
    kept = OutOfFold(400)
    for half in (np.arange(200), np.arange(200, 390)):
        kept.add("toxic", half, scores[half] + 1)
        kept.add("toxic", half, scores[half] - 1)
    (found,) = out_of_fold_subgroups(kept, labels, {"g": inside})
    seen = np.arange(400) < 390
    (expected,) = subgroup_figures(truth[seen], scores[seen], {"g": inside[seen]}, label="toxic")
    assert found.rows == expected.rows
    for measure in MEASURES:
        mine, other = found.areas[measure], expected.areas[measure]
        assert isinstance(mine, Area)
        assert isinstance(other, Area)
        assert mine.value == pytest.approx(other.value, abs=1e-9)
    assert out_of_fold_subgroups(OutOfFold(400), labels, {"g": inside}) == []


def test_a_card_has_a_section_of_groups_and_its_readme_shows_it() -> None:
    target = balanced(600)
    labels = Labels("binary", ("clean", "toxic"), target)
    members = {"all | sorts": np.arange(600) % 3 == 0, "rare": np.arange(600) < 12}
    table = learnable_table(target, shift=0.5)
    card = train(table, labels, name="t", members=members).card
    figures = card.metrics[FAIRNESS]
    row = figures["all | sorts"]
    assert row["rows"] == 200  # of few rows each is held out once
    assert row["subgroup_95"][0] <= row["subgroup_auc"] <= row["subgroup_95"][1]
    assert 0 <= row["fpr"] <= 1
    assert figures["power mean, p = -5"]["BPSN_auc"] == pytest.approx(row["BPSN_auc"])
    assert figures["too small"].startswith("rare (")
    assert "Borkan" in figures["measured on"]
    assert "NaN" not in card.to_json()
    again = Card.from_json(card.to_json())
    assert r"| all \| sorts | " in readme_of(again)
    assert FAIRNESS not in train(table, labels, name="t").card.metrics


def test_several_labels_have_rows_each() -> None:
    values = np.stack([balanced(400), balanced(400, 4) // 2], axis=1)
    labels = Labels("multilabel", ("a", "b"), values)
    members = {"g": np.arange(400) % 3 == 0}
    figures = fairness_figures(labels, values + 0.0, members, {"a": 0.5, "b": 0.5}, "m")
    assert [name for name in figures if ": g" in name] == ["a: g", "b: g"]
    assert figures["b: g"]["subgroup_auc"] == 1.0


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("My Muslim neighbours", {"muslim"}),
        ("MUSLIMS\u2019 food", {"muslim"}),
        ("islamist muslimah", set()),
        ("a black cat on a white wall, an old house", set()),
        ("I'm black and she is white", {"black", "white"}),
        ("I\u2019m black", {"black"}),
        ("black-men; old  people", {"black", "men", "old"}),
        ("She is a black transgender woman", {"transgender", "women"}),
        ("African-American", {"black", "african"}),
        ("same\nsex couples", {"gay"}),
        ("women's rights, a lesbian_flag", {"women"}),
        ("the blind spot", set()),
        ("manual human menace", set()),
        ("", set()),
    ],
)
def test_words_of_a_group_are_whole_words(text: str, groups: set[str]) -> None:
    found = identity_members(["nothing", text])
    assert list(found) == list(identity_groups())
    assert {name for name, inside in found.items() if inside[1]} == groups
    assert not any(inside[0] for inside in found.values())


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["x", "y", None, "x"], {"x": [1, 0, 0, 1], "y": [0, 1, 0, 0]}),
        ([["x", "y"], [], ["y"], None], {"x": [1, 0, 0, 0], "y": [1, 0, 1, 0]}),
        ([0.0, 0.4, 0.5, None], {"g": [0, 0, 1, 0]}),
        (["1", "0", "", "1"], {"g": [1, 0, 0, 1]}),
        ([True, False, True, float("nan")], {"g": [1, 0, 1, 0]}),
        (["yes", "no", "NO", "Yes"], {"g": [1, 0, 0, 1]}),
        ([1, 2, 3, 1], {"1": [1, 0, 0, 1], "2": [0, 1, 0, 0], "3": [0, 0, 1, 0]}),
    ],
)
def test_groups_of_a_column(column: list[Any], expected: dict[str, list[int]]) -> None:
    found = column_members({"g": column})
    assert {name: inside.astype(int).tolist() for name, inside in found.items()} == expected


def test_several_columns_and_bad_ones() -> None:
    found = column_members({"a": [1, 0], "b": ["u", "v"]})
    assert list(found) == ["a", "b: u", "b: v"]
    with pytest.raises(LabelError, match="is empty"):
        column_members({"a": [None, ""]})
    with pytest.raises(LabelError, match="300 different values"):
        column_members({"a": [f"id{i}" for i in range(300)]})


def test_figures_are_json() -> None:
    truth, scores, inside = rows_of_a_biased_classifier()
    labels = Labels("binary", ("clean", "toxic"), truth.astype(np.int64))
    figures = fairness_figures(
        labels, np.stack([-scores, scores], 1), {"g": inside}, {"toxic": 1.0}, "m"
    )
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_of_exclusive_classes_rows_are_flagged_by_the_most_probable_one() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 300)
    probabilities = random.dirichlet([4, 4, 4], 300)  # seldom is one as probable as a half
    chosen = probabilities.argmax(axis=1)
    inside = random.random(300) < 0.5
    labels = Labels("multiclass", ("a", "b", "c"), truth)
    halves = dict.fromkeys(labels.classes, 0.5)
    found = fairness_figures(labels, probabilities, {"g": inside}, halves, "all rows")
    for place, name in enumerate(labels.classes):
        without = inside & (truth != place)
        assert found[f"{name}: g"]["fpr"] == pytest.approx((chosen[without] == place).mean())
