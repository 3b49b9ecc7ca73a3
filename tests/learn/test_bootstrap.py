"""Intervals: those of resamples drawn row by row with scikit-learn's figures, and Wilson's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from splinellm.learn.bootstrap import _figures, figure_intervals
from splinellm.learn.labels import Labels
from splinellm.learn.metrics import (
    Target,
    choose_threshold,
    class_figures,
    misses,
    nearest_threshold,
)


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
