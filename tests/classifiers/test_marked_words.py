"""The recipe's step for marked words: where spans are, and never what the verdict is."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm import SplineExtractor
from splinellm.classifiers.marked_words import marked_figures, with_marked_words
from splinellm.classifiers.rows import Rows
from splinellm.learn.labels import Labels
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from tests.planted import planted_texts
from tests.tiny import tiny_backbone

TEXTS = planted_texts(100)
EXTRACTOR = SplineExtractor(tiny_backbone("llama"), features="blocks:8", max_tokens=96)


@pytest.fixture(scope="module")
def types() -> Pooled:
    """A classifier of two labels, which annotations alone could not have been given to."""
    toxic = np.arange(100) % 2
    labels = Labels("multilabel", ("toxic", "long"), np.column_stack([toxic, 1 - toxic]))
    settings = PooledSettings(Pooling(window=8, stride=4), hybrid=True, n_components=None)
    return train_pooled(TEXTS, labels, EXTRACTOR, name="types", settings=settings)


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Posts with one marked word each."""
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS[1::2]]
    begins = [text.index("idiot") for text in texts]
    marks = [
        np.array([a <= i < a + 5 for i in range(len(t))])
        for a, t in zip(begins, texts, strict=True)
    ]
    n = len(texts)
    return Rows(texts, np.full(n, "toxic"), np.full(n, "toxic_spans"), np.ones(n), [*marks])


def test_verdicts_stay_and_spans_are_the_marked_words(types: Pooled, rows: Rows) -> None:
    taught = with_marked_words(types, rows)
    before = types.predict_texts(TEXTS, EXTRACTOR).probabilities
    np.testing.assert_array_equal(taught.predict_texts(TEXTS, EXTRACTOR).probabilities, before)
    text = "good zzz idiot zzz good"
    (whole,) = types.spans([text], EXTRACTOR, threshold=0.0)
    (found,) = taught.spans([text], EXTRACTOR, threshold=0.0)
    assert {(one.begin, one.end) for one in whole} == {(0, len(text))}
    assert {(one.begin, one.end, one.label) for one in found} == {
        (9, 14, "toxic"),
        (9, 14, "long"),
    }


def test_the_card_counts_marked_texts_but_those_kept_aside(types: Pooled, rows: Rows) -> None:
    taught = with_marked_words(types, rows)
    assert 0 < taught.card.settings["marked texts"] < len(rows)
    assert "marked texts" not in types.card.settings
    assert marked_figures(types, rows) == {}
