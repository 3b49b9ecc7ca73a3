"""The trainer: its gradient, its minimum, and what is put among clean texts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from splinellm.learn.pooled_fit import Design, _Loss, averaged, bags_of, fit_path, padded_bags
from splinellm.learn.pooling import POOLS, Pooling
from splinellm.learn.windows import Windows

N = 120
COUNTS = np.random.default_rng(1).integers(1, 7, N)
TARGET = np.arange(N) % 2
ALL = np.arange(N)


def windows(dtype: Any = np.uint8, *, signal: int = 0) -> Windows:
    """Noise, where one window of each text of class 1 has more of the first two columns."""
    random = np.random.default_rng(0)
    values = random.integers(60, 200, (COUNTS.sum(), 6))
    starts = np.concatenate([[0], np.cumsum(COUNTS)])
    for text in np.flatnonzero(TARGET):
        values[starts[text] + random.integers(COUNTS[text]), :2] += signal
    real = values.clip(0, 255).astype(np.uint8)
    kept = real if dtype == np.uint8 else (real / 255).astype(np.float32)
    return Windows(kept, starts, np.zeros((len(real), 2), np.int64), COUNTS * 8, COUNTS < 0)


@pytest.mark.parametrize("components", [None, 3])
@pytest.mark.parametrize("pool", POOLS)
def test_the_gradient_is_that_of_the_loss(pool: Any, components: int | None) -> None:
    found = windows(np.float32, signal=40)
    design = Design.of(found, np.arange(len(found.values)), components, 0)
    labels = np.full(len(found.values), -1, np.int8)
    labels[::3], labels[::5] = 0, 1
    bags = padded_bags(found, ALL, TARGET, 0)
    loss = _Loss(design, bags, Pooling(pool), 0.01, labels)
    at = np.random.default_rng(2).normal(size=design.width + 1)
    _, gradient = loss(at)
    np.testing.assert_allclose(gradient, approx_fprime(at, lambda w: loss(w)[0], 1e-3), atol=3e-3)


def test_whole_texts_by_their_mean_are_scikit_learns_logistic_regression() -> None:
    found = windows(np.float32, signal=60)
    whole = np.array([found.values[a:b].mean(0) for a, b in pairwise(found.starts)])
    one = Windows(
        whole, np.arange(N + 1), np.zeros((N, 2), np.int64), found.n_tokens, found.truncated
    )
    target = (np.arange(N) % 3 == 0).astype(int)
    design = Design.of(one, ALL, None, 0)
    (weights,) = fit_path(design, bags_of(one, ALL, target), Pooling("mean"), [0.1])
    scaled = (whole - whole.mean(0)) / whole.std(0)
    sample = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8).fit(scaled, target)
    np.testing.assert_allclose(weights[:-1], sample.coef_[0], atol=2e-3)
    coefficients, intercept = design.unfolded(weights)
    scores = one.scores(coefficients[:, None], np.array([intercept]))[:, 0]
    np.testing.assert_allclose(scores, sample.decision_function(scaled), atol=5e-3)


@pytest.mark.parametrize("components", [None, 3])
def test_means_of_texts_have_the_loss_of_their_windows(components: int | None) -> None:
    found = windows(np.float32, signal=60)
    design = Design.of(found, np.arange(len(found.values)), components, 0)
    bags = padded_bags(found, ALL, TARGET, 0, weights=np.linspace(0.5, 2.0, N))
    fewer = averaged(design, bags)
    if components is None:
        assert fewer == (design, bags)
        return
    assert fewer[0].values is not None
    assert fewer[0].values.shape == (N, 3)
    at = np.random.default_rng(2).normal(size=4)
    pairs = [_Loss(*one, Pooling("mean"), 0.01, None)(at) for one in ((design, bags), fewer)]
    assert pairs[0][0] == pytest.approx(pairs[1][0], rel=1e-6)
    np.testing.assert_allclose(pairs[0][1], pairs[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", ["max", "log-sum-exp", "agreeing"])
def test_one_window_among_others_is_learnt(pool: Any) -> None:
    found = windows(signal=120)
    design = Design.of(found, np.arange(len(found.values)), None, 0)
    pooling = Pooling(pool, agreeing=1)
    bags = padded_bags(found, ALL, TARGET, 0)
    runs = [fit_path(design, bags, pooling, [1e-2, 1.0]) for _ in "ab"]
    np.testing.assert_array_equal(runs[0], runs[1])
    bags = bags_of(found, ALL, TARGET)
    pooled = pooling.pooled(design.scores(runs[0][1][:-1])[bags.index], bags.starts)
    assert roc_auc_score(TARGET, pooled) > 0.9


def test_padding_keeps_a_text_whole_and_takes_clean_ones_of_the_same_rows() -> None:
    found = windows()
    rows = np.arange(0, N, 3)
    bags = padded_bags(found, rows, TARGET, 5, share=1.0)
    owners = found.owners[bags.index]
    assert bags.targets.tolist() == TARGET[rows].tolist()
    for row, a, b in zip(rows, bags.starts, bags.starts[1:], strict=False):
        assert (owners[a:b] == row).sum() >= COUNTS[row]
        others = set(owners[a:b].tolist()) - {row}
        assert others <= set(rows[TARGET[rows] == 0].tolist())
        assert others
    plain = padded_bags(found, rows, TARGET, 5, share=0.0)
    np.testing.assert_array_equal(plain.index, bags_of(found, rows, TARGET).index)


def test_a_column_that_never_varies_does_no_harm() -> None:
    found = windows(np.float32)
    found.values[:, 3] = 0.3
    design = Design.of(found, np.arange(len(found.values)), None, 0)
    (weights,) = fit_path(design, bags_of(found, ALL, TARGET), Pooling("mean"), [1.0])
    assert np.isfinite(weights).all()
    assert np.isfinite(design.unfolded(weights)[0]).all()
