"""Pooling against plain loops, and its derivative against torch's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from splinellm.errors import ConfigurationError
from splinellm.learn.pooling import POOLS, Pooling, token_means, window_means

STARTS = np.array([0, 1, 6, 8, 17])


def by_hand(pooling: Pooling, scores: torch.Tensor) -> torch.Tensor:
    if pooling.pool == "mean":
        return scores.mean()
    if pooling.pool == "max":
        return scores.max()
    if pooling.pool == "agreeing":
        return scores.topk(min(pooling.agreeing, len(scores))).values.mean()
    r = pooling.sharpness
    return (torch.logsumexp(r * scores, 0) - np.log(len(scores))) / r


@pytest.mark.parametrize("pool", POOLS)
def test_scores_and_shares_are_those_of_torch(pool: Any) -> None:
    pooling = Pooling(pool, sharpness=2.5, agreeing=3)
    scores = np.random.default_rng(0).normal(size=17) * 30
    pooled, shares = pooling.gradient(scores, STARTS)
    wanted = torch.tensor(scores, requires_grad=True)
    parts = [by_hand(pooling, wanted[a:b]) for a, b in pairwise(STARTS)]
    np.testing.assert_allclose(pooled, [part.item() for part in parts], rtol=1e-12)
    torch.stack(parts).sum().backward()
    assert wanted.grad is not None
    np.testing.assert_allclose(shares, wanted.grad.numpy(), atol=1e-12)


def test_huge_scores_do_not_overflow() -> None:
    pooled = Pooling(sharpness=1000.0).pooled(np.array([1e6, -1e6]), np.array([0, 2]))
    np.testing.assert_allclose(pooled, [1e6 - np.log(2) / 1000])


@pytest.mark.parametrize("pool", POOLS)
def test_ties_share_out_one(pool: Any) -> None:
    _, shares = Pooling(pool, agreeing=2).gradient(np.zeros(5), np.array([0, 4, 5]))
    np.testing.assert_allclose([shares[:4].sum(), shares[4]], 1.0)


def test_windows_leave_no_token_out() -> None:
    for window, stride in [(16, 8), (4, 1), (5, 5), (1, 1), (7, 3)]:
        pooling = Pooling(window=window, stride=stride)
        for n_tokens in range(1, 60):
            bounds = pooling.bounds(n_tokens)
            held = {t for a, b in bounds for t in range(a, b)}
            assert held == set(range(n_tokens))
            assert bounds[-1, 1] == n_tokens
            assert (bounds[:, 1] - bounds[:, 0] <= window).all()
            assert (np.diff(bounds[:, 0]) == stride).all()
            assert len(bounds) == 1 or bounds[-2, 1] < n_tokens  # none too many
    assert Pooling(window=None).bounds(99).tolist() == [[0, 99]]


def test_means_of_windows_and_of_tokens() -> None:
    values = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
    bounds = Pooling(window=8, stride=3).bounds(21)
    means = window_means(values, bounds)
    np.testing.assert_allclose(means, [values[a:b].mean(0) for a, b in bounds], atol=1e-6)
    of_tokens = token_means(means, bounds)
    expected = [means[(bounds[:, 0] <= t) & (t < bounds[:, 1])].mean(0) for t in range(21)]
    np.testing.assert_allclose(of_tokens, expected, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"pool": "median"},
        {"window": 0},
        {"window": True},
        {"stride": 17},
        {"stride": 0},
        {"agreeing": 0},
        {"sharpness": 0.0},
        {"sharpness": float("nan")},
        {"sharpness": float("inf")},
        {"window": 2.5},
    ],
)
def test_what_cannot_work_is_refused(settings: Any) -> None:
    with pytest.raises(ConfigurationError):
        Pooling(**settings)


def test_settings_come_back() -> None:
    pooling = Pooling("agreeing", None, 3, 2.0, 5)
    assert Pooling.from_settings(pooling.settings()) == pooling
    with pytest.raises(ConfigurationError, match="unreadable"):
        Pooling.from_settings({"pool": "max", "depth": 3})
