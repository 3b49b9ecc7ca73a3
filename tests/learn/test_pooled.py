"""Pooled classifiers: from texts to verdicts and spans, at any length."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest
from scipy.special import expit

from splinellm import PooledClassifier, SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import (
    ArtifactError,
    ConfigurationError,
    LabelError,
    PromptError,
)
from splinellm.learn import register_backbone
from splinellm.learn.labels import Labels
from splinellm.learn.marker import fit_marker
from splinellm.learn.pooled import Judged, Pooled
from splinellm.learn.pooled_scorer import PooledScorer
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from splinellm.learn.spans import Span, merged_spans
from splinellm.plan import Plan
from tests.learn.counting import count_reads
from tests.learn.pooled import LABELS, POOLING, SETTINGS, TEXTS, extractor, marked, trained
from tests.tiny import tiny_backbone


def by_hand(classifier: Pooled, text: str) -> tuple[float, np.ndarray]:
    """Probability of a text, and of its tokens, by loops over windows of the table's rows."""
    rows = extractor().extract([text], granularity="token").values.astype(np.float64)
    scorer = classifier.scorer
    begins = range(0, max(1, len(rows) - 8 + 4), 4) if len(rows) > 8 else [0]
    windows = [(a, min(a + 8, len(rows))) for a in begins]
    scores = [rows[a:b].mean(0) @ scorer.coef_[0] + scorer.intercept_[0] for a, b in windows]
    pooled = np.log(np.mean(np.exp(3.0 * np.array(scores)))) / 3.0
    slope, offset = scorer.calibration_[0]
    held = [[a <= t < b for a, b in windows] for t in range(len(rows))]
    tokens = [np.mean(np.array(scores)[mask]) for mask in held]
    return float(expit(slope * pooled + offset)), expit(slope * np.array(tokens) + offset)


def test_a_verdict_is_the_pooled_score_of_windows_of_token_rows() -> None:
    classifier = trained()
    for text in (TEXTS[1], TEXTS[2], "a"):
        probability, _ = by_hand(classifier, text)
        found = classifier.predict_texts([text], extractor()).probabilities
        np.testing.assert_allclose(found, [[1 - probability, probability]], atol=1e-5)


def test_spans_are_tokens_from_the_threshold_on_merged() -> None:
    classifier = trained(hybrid=True)  # which nobody marked words for
    text = " ".join(TEXTS[:6])[:160]
    (judged,) = classifier.judge([text], extractor(), overflow="truncate")
    assert isinstance(judged, Judged)
    tokens = expit(judged.of_tokens[:, 0])
    index = extractor().extract([text], granularity="token").tokens
    assert index is not None
    limit = float(np.median(tokens))
    (spans,) = classifier.spans([text], extractor(), threshold=limit, overflow="truncate")
    covered = np.zeros(len(text), np.bool_)
    for span in spans:
        assert span.label == "toxic"
        assert span.score >= limit
        covered[span.begin : span.end] = True
    for a, b, score in zip(index.begin, index.end, tokens, strict=True):
        if abs(score - limit) > 1e-4 and a < b:
            assert covered[a:b].all() == (score > limit)
    assert classifier.spans([text], extractor(), threshold=1.0) == [[]]
    above = float((tokens.max() + expit(judged.logits[0])) / 2)
    if tokens.max() < above:  # the text is bad, and none of its tokens is: all of it then
        (whole,) = classifier.spans([text], extractor(), threshold=above, overflow="truncate")
        assert [(one.begin, one.end) for one in whole] == [(0, int(judged.end.max()))]
    with pytest.raises(ConfigurationError):
        classifier.spans([text], extractor(), threshold=1.5)


def test_regions_are_narrowed_to_words_that_people_marked() -> None:
    classifier = trained()
    more = [text for text in TEXTS if "idiot" in text] * 30  # few words need few texts, but many
    scorer = copy(classifier.scorer)
    scorer.marker_ = fit_marker(more, [marked(text) for text in more])
    classifier = Pooled([scorer], classifier.card)
    (spans,) = classifier.spans(["bad zzz idiot zzz bad"], extractor(), threshold=0.05)
    assert [(one.begin, one.end) for one in spans] == [(8, 13)]


def test_merging() -> None:
    begin, end = np.array([0, 0, 3, 3, 8, -1, 9]), np.array([0, 3, 8, 8, 9, -1, 12])
    scores = np.array([1.0, 0.6, 0.7, 0.5, 0.2, 0.9, 0.8])
    assert merged_spans(begin, end, scores, scores >= 0.5, "x") == [
        Span(0, 8, "x", 0.7),
        Span(9, 12, "x", 0.8),
    ]


def test_each_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = count_reads(monkeypatch)
    few = LABELS[np.arange(40)]
    settings = PooledSettings(POOLING, hybrid=True)
    train_pooled(TEXTS[:40], few, extractor(), name="x", settings=settings)
    assert len(reads) == len(set(TEXTS[:40]))
    reads.clear()
    list(trained().judge(TEXTS[:7], extractor()))
    assert len(reads) == 7


@pytest.mark.parametrize("n_texts", [0, 1, 2])
def test_an_extractor_of_something_else_is_refused(n_texts: int) -> None:
    other = SplineExtractor(tiny_backbone("llama"), **SETTINGS | {"max_tokens": 5})
    with pytest.raises(ArtifactError, match="max_tokens is 5, not"):
        trained().predict_texts(TEXTS[:n_texts], other)


def test_the_model_is_looked_at_once_for_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, looks = extractor(), []
    look = reader.backbone.identity.look
    monkeypatch.setattr(reader.backbone.identity, "look", lambda: looks.append(look()))
    trained().predict_texts(TEXTS[:1], reader)
    assert len(looks) == 1


def test_long_texts_are_read_in_pieces_refused_or_cut() -> None:
    classifier = trained()
    long = " ".join(TEXTS[::2])
    n_tokens = len(extractor().backbone.tokenizer(long)["input_ids"])
    assert n_tokens > 5 * 96
    (whole,) = list(classifier.judge([long], extractor()))
    assert not isinstance(whole, PromptError)
    real = whole.end > whole.begin
    # Every character is read once, in order.
    assert whole.begin[real][0] == 0
    assert whole.end[-1] == len(long)
    assert (np.diff(whole.begin) >= 0).all()
    assert (whole.begin[1:] <= whole.end[:-1] + 1).all()
    assert not whole.truncated
    assert abs(len(whole.of_tokens) - n_tokens) < 30
    (cut,) = list(classifier.judge([long], extractor(), overflow="truncate"))
    assert not isinstance(cut, PromptError)
    assert (len(cut.of_tokens), cut.truncated) == (96, True)
    np.testing.assert_allclose(whole.of_tokens[:80], cut.of_tokens[:80], atol=1e-9)
    (refused,) = list(classifier.judge([long], extractor(), overflow="error"))
    assert isinstance(refused, PromptError)
    assert "more than 96 tokens" in str(refused)
    with pytest.raises(ConfigurationError, match="unknown overflow"):
        list(classifier.judge([long], extractor(), overflow="ignore"))  # type: ignore[arg-type]


def test_a_text_without_spaces_ends_all_the_same() -> None:
    text = "\u00e9\U0001f600" * 600
    (found,) = list(trained().judge([text], extractor()))
    assert not isinstance(found, PromptError)
    assert found.end.max() == len(text)


def test_spans_are_of_the_original_text() -> None:
    classifier = trained(hybrid=True, normalisation="1")
    plain = TEXTS[3]
    hidden = plain.replace("idiot", "i d\u200b i o t").replace("alpha", "&#97;lpha")
    (a,), (b,) = (classifier.spans([t], extractor(), threshold=0.0) for t in (plain, hidden))
    assert [(s.begin, s.end) for s in a] == [(0, len(plain))]
    assert [(s.begin, s.end) for s in b] == [(0, len(hidden))]
    np.testing.assert_array_equal(
        classifier.predict_texts([plain], extractor()).probabilities,
        classifier.predict_texts([hidden], extractor()).probabilities,
    )


def test_tables_of_tokens_are_judged_and_of_prompts_refused() -> None:
    classifier = trained()
    table = extractor().extract(TEXTS[:9], granularity="token")
    np.testing.assert_allclose(
        classifier.predict_table(table).probabilities,
        classifier.predict_texts(TEXTS[:9], extractor()).probabilities,
        atol=1e-6,
    )
    assert len(classifier.predict_table(table[:0])) == 0
    with pytest.raises(ArtifactError, match="granularity is prompt, not token"):
        classifier.predict_table(extractor().extract(TEXTS[:2]))
    with pytest.raises(ArtifactError, match="reads words"):
        trained(hybrid=True).predict_table(table)
    with pytest.raises(ConfigurationError, match="pools"):
        classifier.probabilities(table.values)


def test_one_bad_text_fails_alone_and_ids_have_no_words() -> None:
    found = list(trained().judge(["good", "", [5, 6, 7]], extractor()))
    assert [isinstance(one, PromptError) for one in found] == [False, True, False]
    assert found[1].index == 1  # type: ignore[union-attr]
    (no_words,) = list(trained(hybrid=True).judge([[5, 6, 7]], extractor()))
    assert isinstance(no_words, PromptError)


def test_several_classes_and_labels() -> None:
    target = np.arange(100) % 3
    several = Labels("multiclass", ("a", "b", "c"), target)
    settings = PooledSettings(Pooling("mean", None), augment=False, n_components=4)
    classifier = train_pooled(TEXTS, several, extractor(), name="x", settings=settings)
    probabilities = classifier.predict_texts(TEXTS, extractor()).probabilities
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    flags = Labels("multilabel", ("a", "b"), np.stack([target == 0, LABELS.values], 1).astype(int))
    classifier = train_pooled(TEXTS, flags, extractor(), name="x", settings=settings)
    assert classifier.predict_texts(TEXTS[:3], extractor()).flags.shape == (3, 2)
    with pytest.raises(ConfigurationError, match="annotated spans are for two classes"):
        train_pooled(TEXTS, several, extractor(), name="x", marks=[None] * 100)


def test_the_estimator_keeps_the_users_labels(llama: Backbone) -> None:
    register_backbone("pooled-tiny", llama)
    settings = SETTINGS | {"window": 8, "stride": 4, "hybrid": True, "normalise": True}
    model = PooledClassifier("pooled-tiny", **settings)
    y = np.where(np.arange(100) % 2, 7, -1)
    places = [text.find("idiot") for text in TEXTS]
    spans = [None if at < 0 else [[at, at + 5]] for at in places]
    fitted = model.fit(TEXTS, y, spans=spans, groups=[*range(100)])
    assert fitted is model
    assert set(model.predict(TEXTS).tolist()) == {-1, 7}
    assert model.score(TEXTS, y) > 0.9
    assert model.classifier_.card.settings["annotated windows"] > 0
    found = model.spans([TEXTS[1]])
    assert all(span.label == "7" for span in found[0])
    assert PooledClassifier(**model.get_params()).get_params() == model.get_params()
    with pytest.raises(LabelError, match="2 spans do not fit 100 texts"):
        model.fit(TEXTS, y, spans=[None, None])
    with pytest.raises(LabelError, match="one class"):
        model.fit(TEXTS, [0] * 100)


def test_features_that_are_no_shares(llama: Backbone) -> None:
    paper = SplineExtractor(llama, features="paper", max_tokens=96)
    classifier = train_pooled(TEXTS, LABELS, paper, name="x", settings=PooledSettings(POOLING))
    assert classifier.card.provenance.features == (
        "sign_fraction",
        "hyperplane_distance",
        "intrinsic_dimension",
    )
    again = SplineExtractor(llama, **Plan.of(classifier.card.provenance).settings())
    probabilities = classifier.predict_texts(TEXTS, again).probabilities
    assert np.isfinite(probabilities).all()
    expected = classifier.predict_texts(TEXTS, paper).probabilities
    np.testing.assert_array_equal(probabilities, expected)


@pytest.mark.parametrize("n_classes", [1, 6])
def test_scores_of_a_token_are_the_same_beside_others(n_classes: int) -> None:
    random = np.random.default_rng(0)
    scorer = PooledScorer()
    scorer.coef_ = random.standard_normal((n_classes, 4608))
    scorer.intercept_ = random.standard_normal(n_classes)
    values = random.random((130, 4608), dtype=np.float32)
    together = scorer.logits(values)
    alone = np.concatenate([scorer.logits(values[i : i + 1]) for i in range(len(values))])
    np.testing.assert_array_equal(alone, together)
    exact = values.astype(np.float64) @ scorer.coef_.T + scorer.intercept_
    np.testing.assert_allclose(together, exact, rtol=1e-4, atol=1e-3)


def test_a_single_text_is_not_read_by_an_extractor_of_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = count_reads(monkeypatch)
    other = SplineExtractor(tiny_backbone("llama"), **SETTINGS | {"max_tokens": 5})
    classifier = trained()
    reads.clear()
    for _ in range(2):
        with pytest.raises(ArtifactError, match="max_tokens is 5, not"):
            classifier.predict_texts(TEXTS[:1], other)
        assert not reads
        # What fitted once is no pass for another.
        classifier.predict_texts(TEXTS[:1], extractor())
        assert len(reads) == 1
        reads.clear()
