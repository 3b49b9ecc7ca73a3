"""A pooled classifier on a text that grows: what it says is the same, and it reads what is new."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from splinellm import SplineExtractor
from splinellm.learn.labels import Labels
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from splinellm.normalisation import VERSION, normalise
from tests.planted import planted_texts
from tests.tiny import tiny_backbone

TEXTS = planted_texts(60)
DISGUISED = (
    "the house is an i d i o t house, a sh!t river of &lt;b&gt; stoooones and 1d10ts, alpha "
    "b\u200beta gamma zzz id\u00efot and a vvverry looong t r e e that ends"
)


@cache
def extractor(cache_bytes: int = 0, max_tokens: int = 48) -> SplineExtractor:
    return SplineExtractor(
        tiny_backbone(),
        features="blocks:8",
        max_tokens=max_tokens,
        prefix_cache_bytes=cache_bytes,
    )


@cache
def trained(normalisation: str | None) -> Pooled:
    labels = Labels("binary", ("clean", "toxic"), np.arange(60) % 2)
    settings = PooledSettings(Pooling(window=8, stride=4), hybrid=True, n_components=None)
    return train_pooled(
        TEXTS, labels, extractor(), name="p", settings=settings, normalisation=normalisation
    )


def check_at_every_step(classifier: Pooled, text: str, step: int) -> tuple[int, int]:
    """Compare with fresh extractions; count tokens read, with and without the cache."""
    cached = extractor(1 << 26)
    assert cached.prefix_cache is not None
    cached.prefix_cache.clear()
    before, n_fresh = cached.prefix_cache.n_read, 0
    for end in range(step, len(text) + 1, step):
        part = text[:end]
        found: Any = classifier.verdicts([part], cached).complete()
        fresh: Any = classifier.verdicts([part], extractor()).complete()
        probabilities = found.predictions.probabilities, fresh.predictions.probabilities
        np.testing.assert_allclose(*probabilities, atol=1e-5)
        (one,), (other,) = found.judged, fresh.judged
        np.testing.assert_allclose(one.of_tokens, other.of_tokens, atol=1e-4)
        np.testing.assert_array_equal(one.begin, other.begin)
        np.testing.assert_array_equal(one.end, other.end)
        n_fresh += len(other.of_tokens)
    return cached.prefix_cache.n_read - before, n_fresh


def test_pieces_stay_where_they_are_and_are_read_once() -> None:
    step, text = 7, " ".join(TEXTS[:6])
    n_tokens = len(extractor().tokenize_whole([text])[0][0].ids)
    assert n_tokens > 3 * 48  # many pieces
    n_read, n_fresh = check_at_every_step(trained(None), text, step)
    # A token is read when it is new, in what there is of its block, and as another piece's context.
    n_steps = len(text) // step
    assert n_read < 3 * n_tokens + 7 * n_steps + 48
    assert n_read < n_fresh / 4


def test_a_normalisation_that_thinks_again() -> None:
    parts = [normalise(DISGUISED[:end]).text for end in range(1, len(DISGUISED) + 1)]
    again = [not later.startswith(earlier) for earlier, later in pairwise(parts)]
    assert sum(again) > 5  # what comes later tells what earlier letters were
    check_at_every_step(trained(VERSION), DISGUISED, 1)
