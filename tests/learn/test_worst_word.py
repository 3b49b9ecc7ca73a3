"""Classifiers whose lexicon adds the worst word of a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splinellm import SplineExtractor
from splinellm.errors import ConfigurationError
from splinellm.learn.artifact import load_classifier, save_classifier
from splinellm.learn.labels import Labels
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_fit import bags_of
from splinellm.learn.pooled_material import Material, PooledSettings
from splinellm.learn.pooled_training import train_pooled
from splinellm.learn.pooling import Pooling, window_means
from splinellm.learn.windows import Windows
from tests.planted import planted_texts
from tests.tiny import tiny_backbone

POOLING = Pooling(window=8, stride=4)
TEXTS = planted_texts(100)
LABELS = Labels("binary", ("clean", "toxic"), np.arange(100) % 2)


def extractor() -> SplineExtractor:
    return SplineExtractor(tiny_backbone("llama"), features="blocks:8", max_tokens=96)


def trained(*peaks: float) -> Pooled:
    settings = PooledSettings(POOLING, hybrid=True, n_components=None, peaks=peaks)
    return train_pooled(TEXTS, LABELS, extractor(), name="p", settings=settings)


def test_the_worst_word_is_part_of_the_verdict_and_stays_so_on_disk(tmp_path: Path) -> None:
    classifier = trained(0.5)
    assert classifier.card.settings["worst word"] == 0.5
    scorer, text = classifier.scorer, " ".join(TEXTS[1:4])[:200]
    assert scorer.lexicon_ is not None
    table = extractor().extract([text], granularity="token")
    assert table.tokens is not None
    bounds = POOLING.bounds(len(table))
    places = list(zip(table.tokens.begin.tolist(), table.tokens.end.tolist(), strict=True))
    held = [[p for p in places[a:b] if p[1] > p[0]] for a, b in bounds.tolist()]
    spans = np.array([[min(p)[0], max(b for _, b in p)] for p in held])
    words = scorer.lexicon_.scores_of_windows([text], [spans])
    windows = window_means(scorer.logits(table.values), bounds) + scorer.share_ * words
    (judged,) = classifier.verdicts([text], extractor(), overflow="truncate").complete().judged
    np.testing.assert_allclose(judged.logits, scorer.pooled(windows), atol=1e-6)
    save_classifier(classifier, tmp_path / "p")
    loaded = load_classifier(tmp_path / "p")
    assert isinstance(loaded, Pooled)
    np.testing.assert_array_equal(
        loaded.predict_texts(TEXTS, extractor()).probabilities,
        classifier.predict_texts(TEXTS, extractor()).probabilities,
    )


def test_a_classifier_of_before_has_no_worst_word(tmp_path: Path) -> None:
    classifier = trained(0.0)
    expected = classifier.predict_texts(TEXTS, extractor()).probabilities
    assert classifier.scorer.lexicon_ is not None
    del classifier.scorer.lexicon_.peak_  # as files hold it that were written before there was one
    save_classifier(classifier, tmp_path / "p")
    loaded = load_classifier(tmp_path / "p")
    found = loaded.predict_texts(TEXTS, extractor()).probabilities
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("tells", "expected"), [("worst word", 0.5), ("sum of words", 0.0)])
def test_what_tells_unseen_texts_apart_is_chosen(tells: str, expected: float) -> None:
    labels = Labels("binary", ("clean", "toxic"), np.arange(40) % 2)
    nothing = np.zeros(40, np.int64)
    windows = Windows(
        np.zeros((40, 1), np.float32),
        np.arange(41),
        np.zeros((40, 2), np.int64),
        nothing,
        nothing > 0,
    )
    settings = PooledSettings(hybrid=True, shares=(1.0,), peaks=(0.0, 0.5))
    material = Material(windows, [""] * 40, labels, None, settings)
    random = np.random.default_rng(0)
    noise = 3.0 * random.normal(size=40)
    telling = labels.values + 0.5 * random.normal(size=40)
    sums, highest = (noise, telling) if tells == "worst word" else (telling, noise)
    bags = bags_of(windows, np.arange(40), labels.values)
    peak, _ = material._peak_and_share(0.1 * noise, sums, highest, bags)
    assert peak == expected


@pytest.mark.parametrize("peaks", [(), (-0.5,), (0.5, float("nan")), (float("inf"),)])
def test_what_is_no_choice_is_refused(peaks: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="peaks"):
        PooledSettings(peaks=peaks)
