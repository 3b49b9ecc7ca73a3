"""Intervals: those of resamples drawn row by row with scikit-learn's figures, and Wilson's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from splinellm.learn.bootstrap import _figures, figure_intervals
from splinellm.learn.labels import Labels
from splinellm.learn.metrics import (
    ACCURACY,
    ACCURACY_INTERVAL,
    Target,
    choice_figures,
    choose_threshold,
    class_figures,
    misses,
    nearest_threshold,
)
from splinellm.learn.predictions import CHOICE, Predictions, verdict_flags


def test_a_resample_is_measured_as_its_rows_would_be() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(2, size=40)
    scores = np.round(random.random(40), 1)  # with ties
    rows = random.integers(40, size=40)
    weights = np.bincount(rows, minlength=40)[None].astype(float)
    found = _figures(weights, truth, scores, scores >= 0.5)
    y, s = truth[rows], scores[rows]
    flagged = s >= 0.5
    wanted = {
        "roc_auc": roc_auc_score(y, s),
        "average_precision": average_precision_score(y, s),
        "brier": brier_score_loss(y, s),
        "precision": y[flagged].mean(),
        "recall": flagged[y == 1].mean(),
        "fpr": flagged[y == 0].mean(),
    }
    for name, value in wanted.items():
        assert found[name][0] == pytest.approx(value, abs=1e-12), name


def test_intervals_narrow_with_rows_and_hold_the_figure() -> None:
    widths = []
    for n_rows in (60, 6000):
        random = np.random.default_rng(1)
        truth = random.integers(2, size=n_rows)
        scores = np.clip(0.3 * truth + 0.7 * random.random(n_rows), 0, 1)
        probabilities = np.stack([1 - scores, scores], 1)
        labels = Labels("binary", ("clean", "toxic"), truth)
        row = class_figures(labels, probabilities, {"toxic": 0.5})["toxic"]
        for name, (low, high) in row["intervals"].items():
            assert low <= row[name] <= high
        low, high = row["intervals"]["roc_auc"]
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_twelve_rows_without_a_mistake_prove_little() -> None:
    labels = Labels("binary", ("clean", "toxic"), np.arange(12) % 2)
    scores = labels.values * 0.8 + 0.1
    found = figure_intervals(labels, np.stack([1 - scores, scores], 1), {"toxic": 0.5})["toxic"]
    assert found["recall"][0] == pytest.approx(0.61, abs=0.01)  # Wilson's, of 6 of 6
    assert found["fpr"] == pytest.approx([0.0, 0.39], abs=0.01)


def test_what_no_threshold_reaches_has_the_nearest() -> None:
    truth, scores = np.array([0, 1, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    for target, nearest in ((Target("fpr", 0.1), 0.7), (Target("precision", 0.99), 0.7)):
        assert choose_threshold(truth, scores, target) is None
        assert nearest_threshold(truth, scores, target) == nearest
    assert misses(Target("fpr", 0.1), {"fpr": 0.2})
    assert not misses(Target("recall", 0.1), {"recall": 0.2})


def test_figures_of_exclusive_classes_are_of_the_most_probable_one() -> None:
    random = np.random.default_rng(0)
    classes = ("a", "b", "c")
    truth = random.integers(3, size=300)
    # Seldom is any class as probable as a half; of two that are equal the first is chosen.
    probabilities = np.round(random.dirichlet([4, 4, 4], 300) + 0.1 * np.eye(3)[truth], 1)
    chosen = probabilities.argmax(axis=1)
    assert (probabilities.max(axis=1) < 0.5).mean() > 0.2
    labels = Labels("multiclass", classes, truth)
    thresholds = dict.fromkeys(classes, 0.5)
    found = class_figures(labels, probabilities, thresholds)
    predictions = Predictions("multiclass", classes, probabilities, thresholds)
    assert predictions.predicted == [classes[i] for i in chosen]
    wanted = zip(
        precision_score(truth, chosen, average=None),
        recall_score(truth, chosen, average=None),
        strict=True,
    )
    for place, (name, (precision, recall)) in enumerate(zip(classes, wanted, strict=True)):
        row = found[name]
        assert (row["precision"], row["recall"]) == pytest.approx((precision, recall))
        assert row["fpr"] == pytest.approx((chosen[truth != place] == place).mean())
        for figure in ("precision", "recall", "fpr"):
            low, high = row["intervals"][figure]
            assert low < row[figure] < high
    told = choice_figures(labels, probabilities)
    assert told[CHOICE] == "the most probable class"
    assert told[ACCURACY] == pytest.approx((chosen == truth).mean())
    low, high = told[ACCURACY_INTERVAL]
    assert low < told[ACCURACY] < high
    # Of rows that are alike in tens, a tenth is evidence.
    of_tens = choice_figures(labels, probabilities, np.argsort(chosen == truth) // 10)
    assert of_tens[ACCURACY_INTERVAL][1] - of_tens[ACCURACY_INTERVAL][0] > high - low
    certain = choice_figures(labels, np.eye(3)[truth])
    assert (certain[ACCURACY], certain[ACCURACY_INTERVAL][1]) == (1.0, 1.0)
    assert certain[ACCURACY_INTERVAL][0] < 1.0
    assert choice_figures(Labels("binary", ("a", "b"), truth % 2), probabilities[:, :2]) == {}


def test_flags_of_a_verdict_are_those_of_the_predictions() -> None:
    probabilities = np.random.default_rng(0).random((50, 3))
    thresholds = {"b": 0.2, "c": 0.8}
    found = verdict_flags("multilabel", ("a", "b", "c"), probabilities, thresholds)
    predictions = Predictions("multilabel", ("a", "b", "c"), probabilities, thresholds)
    np.testing.assert_array_equal(found, predictions.flags)
    by_row = {**thresholds, "a": np.where(np.arange(50) < 10, 0.0, 1.1)}
    found = verdict_flags("multilabel", ("a", "b", "c"), probabilities, by_row)
    assert found[:, 0].tolist() == [True] * 10 + [False] * 40
