from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from splinellm.learn import estimators
from splinellm.learn.estimators import REGULARISATION, best_c
from splinellm.learn.splits import Split


def made_up(n_rows: int, n_noise: int) -> tuple[np.ndarray, np.ndarray, list[Split]]:
    """One column that tells the class, with errors, among noise; and three folds."""
    random = np.random.default_rng(0)
    target = random.integers(0, 2, n_rows)
    noise = random.normal(size=(n_rows, n_noise))
    values = np.column_stack([target + random.normal(size=n_rows), noise])
    rows = np.arange(n_rows)
    return values, target, [(rows[rows % 3 != i], rows[rows % 3 == i]) for i in range(3)]


def scores_are(monkeypatch: pytest.MonkeyPatch, scores: Iterable[float]) -> list[float]:
    """Give the candidates these scores in turn; returns the list of those that were given."""
    left, used = iter(scores), list[float]()

    def score(*_: object) -> float:
        used.append(next(left))
        return used[-1]

    monkeypatch.setattr(estimators, "area_under_curve", score)
    return used


def test_noise_wants_a_strong_penalty() -> None:
    assert best_c(*made_up(120, 300)) < 1.0


def test_the_strongest_penalty_among_equals_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    used = scores_are(monkeypatch, [0.7, 0.8, 0.8005, 0.8009, 0.8, 0.8])
    assert best_c(*made_up(30, 1)) == REGULARISATION[1]
    assert len(used) == len(REGULARISATION)


def test_weaker_penalties_are_not_tried_past_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    used = scores_are(monkeypatch, [0.7, 0.8, 0.9, 0.85, 0.85])
    assert best_c(*made_up(30, 1)) == REGULARISATION[2]
    assert len(used) == 5


def test_one_worse_score_is_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    scores_are(monkeypatch, [0.8, 0.7, 0.9, 0.85, 0.92, 0.92])
    assert best_c(*made_up(30, 1)) == REGULARISATION[4]
