"""Thresholds for a rate of false alarms, and bands of what is uncertain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splinellm.errors import ArtifactError, ConfigurationError
from splinellm.learn.decisions import Band, band_figures, bands_of, choose_band
from splinellm.learn.labels import Labels
from splinellm.learn.lengths import reliability_by_length
from splinellm.learn.metrics import Target, choose_threshold, recall_at_fpr
from splinellm.learn.training import train
from tests.learn.tables import balanced, learnable_table


def test_a_rate_of_false_alarms_is_kept_to_at_the_highest_recall() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 2000)
    scores = np.round(random.random(2000) * 0.7 + 0.3 * truth, 2)  # with many ties
    for rate in (0.001, 0.01, 0.2, 1.0):
        chosen = choose_threshold(truth, scores, Target("fpr", rate))
        assert chosen is not None
        assert (scores[truth == 0] >= chosen).mean() <= rate
        lower = scores[scores < chosen]
        assert not len(lower) or (scores[truth == 0] >= lower.max()).mean() > rate
        recall = (scores[truth == 1] >= chosen).mean()
        assert recall_at_fpr(truth, scores, rate) == pytest.approx(recall)


def test_no_threshold_keeps_to_a_rate_when_a_clean_row_is_highest() -> None:
    truth, scores = np.array([0, 1, 0]), np.array([0.9, 0.5, 0.1])
    assert choose_threshold(truth, scores, Target("fpr", 0.3)) is None
    assert choose_threshold(truth, scores, Target("fpr", 0.5)) == 0.5
    assert recall_at_fpr(truth, scores, 0.3) == 0.0


@pytest.mark.parametrize(("measure", "value"), [("fpr", 0.0), ("fpr", 1.1), ("f1", 0.5)])
def test_impossible_targets(measure: Any, value: float) -> None:
    with pytest.raises(ConfigurationError):
        Target(measure, value)


@pytest.mark.parametrize("value", ["0.1", None, True])
def test_a_target_is_a_number(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="target fpr is of type"):
        Target("fpr", value)


@pytest.mark.parametrize("threshold", [0.5, 0.03, 0.97])
def test_a_band_holds_its_share_around_the_threshold(threshold: float) -> None:
    probabilities = np.random.default_rng(1).random(1000)
    band = choose_band(probabilities, threshold, 0.2)
    assert band.low <= threshold <= band.high
    assert band.holds(probabilities).mean() == pytest.approx(0.2, abs=0.01)
    odds = [p / (1 - p) for p in (band.low, threshold, band.high)]
    assert odds[1] / odds[0] == pytest.approx(odds[2] / odds[1], rel=1e-9)


def test_figures_of_a_band() -> None:
    labels = Labels("binary", ("a", "b"), np.array([0, 1, 1, 0]))
    scores = np.array([0.45, 0.48, 0.9, 0.7])
    figures = band_figures(labels, np.stack([1 - scores, scores], 1), {}, {"b": Band(0.4, 0.6)})
    assert figures == {"b": {"share": 0.5, "error_inside": 0.5, "error_outside": 0.5}}


def test_training_puts_target_and_band_into_the_card() -> None:
    target = balanced(400)
    table = learnable_table(target, shift=0.4)
    labels = Labels("binary", ("clean", "toxic"), target)
    card = train(table, labels, name="t", target=Target("fpr", 0.05), abstain=0.25).card
    assert card.settings["threshold_for"] == "fpr 0.05"
    band = bands_of(card)["toxic"]
    assert band.low < card.thresholds["toxic"] < band.high
    assert card.metrics["held out"]["toxic"]["fpr"] <= 0.15
    figures = card.metrics["uncertain"]["toxic"]
    assert 0.1 < figures["share"] < 0.45
    assert figures["error_inside"] > figures["error_outside"]
    plain = train(table, labels, name="t").card
    assert bands_of(plain) == {}
    assert "uncertain" not in plain.metrics


def test_bands_need_a_threshold_and_a_share() -> None:
    target = balanced(300, 3)
    table = learnable_table(target)
    with pytest.raises(ConfigurationError, match="most probable"):
        train(table, Labels("multiclass", ("a", "b", "c"), target), name="t", abstain=0.1)
    with pytest.raises(ConfigurationError, match="share of 1"):
        train(table, Labels("binary", ("a", "b"), target % 2), name="t", abstain=1.0)


def test_targets_need_a_threshold_that_decides() -> None:
    target = balanced(300, 3)
    labels = Labels("multiclass", ("a", "b", "c"), target)
    with pytest.raises(ConfigurationError, match="target fpr is reached by a threshold"):
        train(learnable_table(target), labels, name="t", target=Target("fpr", 0.1))


@pytest.mark.parametrize("band", [3, {"b": 1}, {"b": {"low": 0.9, "high": 0.1}}, {"c": {}}])
def test_a_damaged_band_is_refused(band: Any) -> None:
    target = balanced(100)
    card = train(learnable_table(target), Labels("binary", ("a", "b"), target), name="t").card
    card.settings["abstain"] = band
    with pytest.raises(ArtifactError, match="uncertain band"):
        bands_of(card)


def test_reliability_is_told_by_length() -> None:
    truth, scores = np.array([0, 1, 1]), np.array([0.2, 0.6, 1.0])
    figures = reliability_by_length(truth, scores, np.array([16, 17, 5000]))
    assert list(figures) == ["1 to 16 tokens", "17 to 64 tokens", "over 1024 tokens"]
    assert figures["17 to 64 tokens"] == {
        "rows": 1,
        "mean_probability": 0.6,
        "share": 1.0,
        "brier": pytest.approx(0.16),
    }
