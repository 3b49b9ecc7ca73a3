"""Reliability by length: what a card says of it, and the warning about longer texts."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.lengths import (
    BY_LENGTH,
    TRIED_UP_TO,
    LengthWarning,
    length_figures,
    tried_up_to,
    warn_of_length,
)
from splinellm.learn.readme import readme_of
from splinellm.learn.training import train
from splinellm.table import FeatureTable
from tests.learn.tables import balanced, learnable_table


def of_lengths(table: FeatureTable, n_tokens: np.ndarray) -> FeatureTable:
    return replace(table, n_tokens=n_tokens)


@pytest.fixture(scope="module")
def of_short() -> Classifier:
    """Trained on 200 texts of 20 to 40 tokens."""
    target = balanced(200)
    table = of_lengths(learnable_table(target), 20 + np.arange(200) % 21)
    return train(table, Labels("binary", ("clean", "toxic"), target), name="mine")


@pytest.mark.parametrize(
    ("n_tokens", "end"),
    [
        ([1] * 400, {TRIED_UP_TO: 16}),
        ([1] * 381 + [17] * 19, {TRIED_UP_TO: 16}),  # nineteen are no evidence
        ([1] * 380 + [17] * 20, {TRIED_UP_TO: 64}),
        ([1] * 200 + [64] * 190 + [9999] * 10, {TRIED_UP_TO: 64}),
        ([1] * 360 + [300] * 10 + [2000] * 10, {TRIED_UP_TO: 1024}),  # these reach 1024 together
        ([1] * 95 + [100] * 5, {TRIED_UP_TO: 256}),  # of few rows a twentieth
        ([7], {TRIED_UP_TO: 16}),
        ([5000] * 40, {}),
    ],
)
def test_what_lengths_were_tried(n_tokens: list[int], end: dict[str, int]) -> None:
    assert tried_up_to(np.array(n_tokens)) == end


def test_a_card_tells_reliability_by_length(of_short: Classifier) -> None:
    card = of_short.card
    figures = card.metrics[BY_LENGTH]
    assert figures["measured on"] == card.metrics["held out"]["measured on"]
    assert figures[TRIED_UP_TO] == 64
    assert list(figures)[2:] == ["17 to 64 tokens"]
    row = figures["17 to 64 tokens"]
    assert (row["rows"], row["share"]) == (200, 0.5)
    assert row["brier"] == pytest.approx(card.metrics["held out"]["toxic"]["brier"])
    assert Card.from_json(card.to_json()).metrics[BY_LENGTH] == figures
    assert "| 17 to 64 tokens | 200 |" in readme_of(card)


def test_rows_are_told_by_their_own_lengths_and_classes() -> None:
    labels = Labels("multiclass", ("a", "b", "c"), np.array([0, 1, 2, 0]))
    probabilities = np.array([[1, 0, 0], [0.2, 0.6, 0.2], [0, 0, 1], [0.5, 0.5, 0]])
    figures = length_figures(labels, probabilities, np.array([3, 300, 300, 3]))
    assert figures["a: 1 to 16 tokens"]["mean_probability"] == 0.75
    assert figures["b: 257 to 1024 tokens"] == {
        "rows": 2,
        "mean_probability": pytest.approx(0.3),
        "share": 0.5,
        "brier": pytest.approx((0.4**2 + 0) / 2),
    }
    assert figures["c: 257 to 1024 tokens"]["share"] == 0.5


def test_far_longer_texts_are_warned_of_and_others_are_not(of_short: Classifier) -> None:
    with pytest.warns(LengthWarning, match="'mine' was tried on texts of up to 64 tokens"):
        warn_of_length(of_short.card, np.array([3, 129]))
    older = replace(of_short.card, metrics={"held out": {}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_length(of_short.card, np.array([3, 128]))
        warn_of_length(of_short.card, np.array([], np.int64))
        warn_of_length(older, np.array([3, 6500]))


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_every_kind_has_figures(kind: Any) -> None:
    target = balanced(120)
    values = target if kind == "binary" else np.stack([target, balanced(120, 4) // 2], axis=1)
    table = learnable_table(target)
    figures = train(table, Labels(kind, ("a", "b"), values), name="t").card.metrics[BY_LENGTH]
    names = [name for name, row in figures.items() if isinstance(row, dict)]
    expected = ["1 to 16 tokens"]
    assert names == (expected if kind == "binary" else [f"{c}: {expected[0]}" for c in "ab"])
