"""Verdicts from Python: one line for whoever has texts, features or a scikit-learn habit."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibrationDisplay
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score

import splinellm
from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.errors import (
    ArtifactError,
    ConfigurationError,
    LabelError,
    PromptError,
    SplineLLMError,
    TableFormatError,
)
from splinellm.learn import register_backbone, release_backbones
from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.lengths import LengthWarning
from splinellm.learn.pooled import Judged, Pooled
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from splinellm.learn.training import train
from splinellm.live.guard import Guard
from splinellm.prompts import SpecialTextWarning
from tests.planted import planted_texts
from tests.tiny import tiny_backbone, tiny_model

TEXTS = planted_texts(60)
LABELS = np.array(["clean", "toxic"])[np.arange(60) % 2]


@cache
def extractor() -> SplineExtractor:
    return SplineExtractor(tiny_backbone("llama"), features="blocks:8", max_tokens=48)


@cache
def plain() -> Classifier:
    labels = Labels("binary", ("clean", "toxic"), np.arange(60) % 2)
    return train(extractor().extract(TEXTS), labels, name="plain")


@cache
def pooled(**options: Any) -> Pooled:
    labels = Labels("binary", ("clean", "toxic"), np.arange(60) % 2)
    settings = PooledSettings(Pooling(window=8, stride=4), n_components=None, **options)
    return train_pooled(TEXTS, labels, extractor(), name="pooled", settings=settings)


@pytest.fixture(autouse=True)
def _model() -> Any:
    """What the cards call the model is in memory."""
    register_backbone("tiny", extractor().backbone)
    yield
    release_backbones("tiny")


@pytest.mark.filterwarnings("ignore::splinellm.learn.lengths.LengthWarning")
@pytest.mark.parametrize("make", [plain, pooled])
def test_texts_in_verdicts_out(make: Any, tmp_path: Any) -> None:
    make().save(tmp_path / "mine")
    classifier = splinellm.load_classifier(tmp_path / "mine")
    assert classifier.card.name == "mine"
    given = [*TEXTS[:5], " ".join(TEXTS)]
    proba = classifier.predict_proba(given)
    wanted = make().predict_texts(given, extractor())
    np.testing.assert_allclose(proba, wanted.probabilities, atol=1e-12)
    assert classifier.predict(given).tolist() == wanted.predicted
    frame = classifier.scores(pd.Series(given, index=list("abcdef")))
    assert list(frame) == [
        "n_tokens",
        "truncated",
        "predicted",
        "probability.clean",
        "probability.toxic",
    ]
    assert list(frame.index) == list("abcdef")
    assert frame["n_tokens"].iloc[-1] > 48 * 5
    assert not frame["truncated"].any()
    assert classifier.predict(given[0]).shape == (1,)
    assert classifier.predict_proba([]).shape == (0, 2)
    np.testing.assert_array_equal(
        classifier.predict(given, threshold=1.0), ["clean"] * 6 if proba.max() < 1 else None
    )
    assert list(classifier.with_threshold(0.0).predict(given)) == ["toxic"] * 6


@pytest.mark.filterwarnings("ignore::splinellm.learn.lengths.LengthWarning")
@pytest.mark.parametrize("n_tokens", [1, 48, 49, 500])
def test_the_worst_window_of_a_long_text_decides(n_tokens: int) -> None:
    ids = np.random.default_rng(n_tokens).integers(4, 300, n_tokens).tolist()
    found = plain().verdicts([ids], extractor())
    assert found.n_tokens.tolist() == [n_tokens]
    step, last = 36, n_tokens - 48  # of 48 tokens, a quarter again
    starts = [0] if last <= 0 else [*range(0, last, step), last]
    parts = [plain().verdicts([ids[s : s + 48]], extractor()) for s in starts]
    worst = max(part.predictions.probabilities[0, 1] for part in parts)
    assert found.predictions.probabilities[0, 1] == pytest.approx(worst, abs=1e-6)
    cut = plain().verdicts([ids], extractor(), overflow="truncate")
    assert cut.truncated.tolist() == [n_tokens > 48]
    refused = plain().verdicts([ids], extractor(), overflow="error").errors
    assert bool(refused) == (n_tokens > 48)


def test_texts_far_longer_than_those_that_were_trained_on_are_warned_of() -> None:
    for classifier, text in ((plain(), " ".join(TEXTS)), (pooled(augment=False), " ".join(TEXTS))):
        with pytest.warns(LengthWarning, match="was tried on texts of up to 64 tokens"):
            classifier.verdicts([text], extractor())


def test_features_in_any_container() -> None:
    table = extractor().extract(TEXTS)
    short = [text for text, is_cut in zip(TEXTS, table.truncated, strict=True) if not is_cut]
    classifier, table = plain(), table[~table.truncated]
    wanted = classifier.predict_texts(short, extractor()).probabilities
    for given in (table, table.to_pandas(), table.to_arrow(), table.values):
        np.testing.assert_allclose(classifier.predict_proba(given), wanted, atol=1e-6)
    frame = classifier.scores(table.to_pandas())
    assert frame["n_tokens"].tolist() == table.n_tokens.tolist()
    of_tokens = extractor().extract(short[:9], granularity="token")
    np.testing.assert_allclose(
        pooled().predict_proba(of_tokens), pooled().predict_proba(short[:9]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.predict(None), PromptError, "NoneType"),
        (lambda c: c.predict(5), PromptError, "int"),
        (lambda c: c.predict({"text": "x"}), PromptError, "as in data"),
        (lambda c: c.predict(pd.DataFrame({"a": ["x"], "b": ["y"]})), PromptError, "2 columns"),
        (lambda c: c.predict(["x", None]), PromptError, "missing"),
        (lambda c: c.predict(np.zeros((2, 3))), ArtifactError, "give texts, or a FeatureTable"),
        (lambda c: c.predict_table(TEXTS), ArtifactError, "give texts, or a FeatureTable"),
        (
            lambda c: c.predict(SplineExtractor(extractor().backbone).extract(TEXTS[:1])),
            ArtifactError,
            "or give it the texts",
        ),
        (
            lambda c: c.predict(extractor().extract(TEXTS[:1]).to_pandas().iloc[:, :9]),
            ArtifactError,
            "no column",
        ),
        (
            lambda c: c.predict(
                extractor().extract(TEXTS[:1]).to_pandas().replace({None: 1}).mask(lambda f: f == f)
            ),
            TableFormatError,
            "missing or not finite",
        ),
        (lambda c: c.predict(TEXTS[:1], threshold=2), ConfigurationError, "not in"),
        (lambda c: c.predict(TEXTS[:1], threshold={"x": 0.5}), ConfigurationError, "these have"),
        (lambda c: c.spans(TEXTS[:1]), ConfigurationError, "train one with --pool"),
    ],
)
def test_wrong_kinds_are_told_what_to_pass(
    call: Any, error: type[SplineLLMError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(plain())


def test_wrong_kinds_for_what_pools() -> None:
    with pytest.raises(ArtifactError, match="give the texts"):
        pooled().spans(extractor().extract(TEXTS[:2], granularity="token"))
    with pytest.raises(ConfigurationError, match="give it the texts"):
        pooled().predict(np.zeros((2, 24), np.float32))
    hybrid = pooled(hybrid=True)
    found = hybrid._judged_as_read(None, [{"role": "user", "content": "x"}], 0)  # type: ignore[arg-type]
    assert isinstance(found, PromptError)
    assert "reads words, not conversations (give it texts)" in str(found)


def test_representations_are_short_and_show_no_text() -> None:
    """Whoever logs a variable, or reports it with a traceback, logs what ``repr`` gives."""
    text = "somebody's secret, said once"
    judged = Judged(*[np.zeros(1)] * 4, truncated=False, likely=partial(len, text))
    found = [
        *[classifier.verdicts([text]) for classifier in (plain(), pooled(), pooled(hybrid=True))],
        judged,
        extractor().inspect(text, [pooled()]),
        extractor().extract([text], granularity="token").tokens,
        plain().card,
    ]
    for value in found:
        assert "secret" not in repr(value)
        assert len(repr(value)) < 800
    assert repr(plain().card) == "Card('plain', binary: clean, toxic; reads tiny)"


def test_it_is_a_classifier_to_scikit_learn() -> None:
    classifier = plain()
    assert is_classifier(classifier)
    assert clone(classifier).estimators is classifier.estimators
    assert "plain" in repr(classifier)
    assert classifier.classes_.tolist() == ["clean", "toxic"]
    table = extractor().extract(TEXTS)
    wanted = float((classifier.predict(TEXTS) == LABELS).mean())
    assert cross_val_score(classifier, TEXTS, LABELS, cv=3).mean() == pytest.approx(wanted)
    assert cross_val_score(classifier, table.values, LABELS, cv=3, scoring="roc_auc").shape == (3,)
    importance = permutation_importance(
        classifier, table.to_pandas(), LABELS, n_repeats=1, random_state=0
    )
    assert importance.importances_mean.shape == (len(table.names) + 2,)
    assert importance.importances_mean[0] == 0.0  # n_tokens is no feature


def test_calibration_curves_are_drawn() -> None:
    pytest.importorskip("matplotlib", reason="scikit-learn draws with matplotlib")
    named = CalibrationDisplay.from_estimator(plain(), TEXTS, LABELS)
    numbers = (LABELS == "toxic").astype(int)
    fitted = clone(plain()).fit(TEXTS, numbers)
    counted = CalibrationDisplay.from_estimator(fitted, TEXTS, numbers)
    assert counted.prob_true.tolist() == named.prob_true.tolist()


@pytest.mark.parametrize("kind", [int, bool, float])
def test_zeros_and_ones_are_the_two_classes(kind: type) -> None:
    """Each fold used to end in a NaN and a traceback of mixed label types."""
    classifier, numbers = plain(), (LABELS == "toxic").astype(kind)
    wanted = cross_val_score(classifier, TEXTS, LABELS, cv=3).tolist()
    for scoring in (None, "accuracy"):
        found = cross_val_score(
            classifier, TEXTS, numbers, cv=3, scoring=scoring, error_score="raise"
        )
        assert found.tolist() == wanted
    assert classifier.classes_.tolist() == ["clean", "toxic"]  # folds fit clones
    values = extractor().extract(TEXTS).to_pandas()
    named, counted = (
        permutation_importance(classifier, values, y, n_repeats=1, random_state=0)
        for y in (LABELS, numbers)
    )
    assert counted.importances_mean.tolist() == named.importances_mean.tolist()
    search = GridSearchCV(classifier, {}, cv=3, error_score="raise").fit(TEXTS, numbers)
    assert search.best_score_ == pytest.approx(np.mean(wanted))
    assert search.predict(TEXTS).dtype == numbers.dtype
    fitted = clone(classifier).fit(TEXTS, numbers)
    share = float((fitted.predict(TEXTS) == numbers).mean())
    assert share == classifier.score(TEXTS, numbers) == classifier.score(TEXTS, LABELS)
    assert fitted.fit(TEXTS, LABELS).classes_.tolist() == ["clean", "toxic"]


def test_numbers_that_are_names_are_no_flags() -> None:
    labels = Labels("binary", ("1", "2"), np.arange(60) % 2)
    classifier = train(extractor().extract(TEXTS), labels, name="numbers")
    assert classifier.fit(TEXTS, 1 + np.arange(60) % 2).classes_.tolist() == [1, 2]
    with pytest.raises(LabelError, match=r"'0' \(labels are 1 and 2\)"):
        classifier.score(TEXTS, np.arange(60) % 2)


def test_labels_that_are_none_of_the_classes_are_told_once() -> None:
    wrong = np.array(["nice", "nasty"])[np.arange(60) % 2]
    with pytest.raises(LabelError, match=r"'nice' \(labels are clean and toxic, or 0 and 1\)"):
        plain().score(TEXTS, wrong)
    with pytest.raises(ValueError, match="labels are clean and toxic, or 0 and 1"):
        cross_val_score(plain(), TEXTS, wrong, cv=3)


def test_labels_that_are_numbers_stay_numbers() -> None:
    labels = Labels("binary", ("0", "1"), np.arange(60) % 2)
    classifier = train(extractor().extract(TEXTS), labels, name="numbers")
    assert classifier.score(TEXTS, np.arange(60) % 2) > 0.5
    assert set(classifier.predict(TEXTS).tolist()) <= {0, 1}


def test_attach_and_guard_take_settings_from_a_classifier(tmp_path: Any) -> None:
    classifier = plain().with_threshold(0.25).save(tmp_path / "mine")
    with attach(tiny_model("llama"), classifier=classifier) as recorder:
        assert recorder.provenance.layers == classifier.card.provenance.layers
        assert recorder.provenance.features == classifier.card.provenance.features
        assert Guard(recorder, classifier)._threshold == 0.25
        assert Guard(recorder, str(tmp_path / "mine"), threshold=0.5)._threshold == 0.5
    with pytest.raises(ConfigurationError, match="either the classifier or these"):
        attach(tiny_model("llama"), classifier=classifier, layers="0")
    with pytest.raises(ArtifactError, match="expected a classifier, got int"):
        attach(tiny_model("llama"), classifier=5)  # type: ignore[arg-type]


def test_an_own_extractor_is_made_once_and_warns_at_every_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = pooled()
    made.verdicts([TEXTS[0]])
    monkeypatch.setattr(SplineExtractor, "__init__", lambda *_, **__: pytest.fail("made again"))
    for _ in range(2):
        with pytest.warns(SpecialTextWarning):
            made.verdicts(["so toxic </s>"])
    first, second = made.default_extractor(), made.default_extractor()
    first.silence()
    first.batch_tokens = 7
    assert second.batch_tokens != 7
    with pytest.warns(SpecialTextWarning):
        second.extract(["so toxic </s>"])
    first.extract(["so toxic </s>"])  # silent


def test_weights_are_looked_at_once_for_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pooled()
    backbone = made.default_extractor().backbone
    looks: list[None] = []
    look = Backbone.look
    monkeypatch.setattr(Backbone, "look", lambda self: (looks.append(None), look(self)))
    made.verdicts([TEXTS[0]])
    assert len(looks) == 1
    with torch.no_grad():
        next(backbone.model.parameters()).add_(1.0)
    try:
        with pytest.raises(ArtifactError, match="weights_sha256"):
            made.verdicts([TEXTS[0]])
    finally:
        with torch.no_grad():
            next(backbone.model.parameters()).sub_(1.0)
        release_backbones("tiny")
        extractor.cache_clear()
        plain.cache_clear()
        pooled.cache_clear()
