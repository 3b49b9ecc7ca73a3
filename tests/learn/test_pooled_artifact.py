"""Pooled classifiers in folders: the same ones come back, and what is damaged does not."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm import SplineExtractor
from splinellm.errors import ArtifactError
from splinellm.learn.artifact import load_classifier, save_classifier
from splinellm.learn.lexicon import Lexicon
from splinellm.learn.marker import fit_marker
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_scorer import MARKED
from splinellm.plan import Plan
from tests.learn.pooled import POOLING, TEXTS, extractor, marked, trained
from tests.tiny import tiny_backbone


def test_words_that_a_folder_kept_alone_still_narrow_regions(tmp_path: Path) -> None:
    classifier = trained()
    more = [text for text in TEXTS if "idiot" in text] * 30
    marker = fit_marker(more, [marked(text) for text in more])
    assert marker is not None
    scorer = copy(classifier.scorer)
    scorer.marker_ = marker.lexicon_
    card = replace(classifier.card, settings={**classifier.card.settings, MARKED: 1})
    save_classifier(Pooled([scorer], card), tmp_path / "p")
    loaded = load_classifier(tmp_path / "p")
    assert isinstance(loaded, Pooled)
    (spans,) = loaded.spans(["bad zzz idiot zzz bad"], extractor(), threshold=0.05)
    assert [(one.begin, one.end) for one in spans] == [(8, 13)]


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_folder_gives_the_same_verdicts_and_spans(hybrid: bool, tmp_path: Path) -> None:
    classifier = trained(hybrid=hybrid)
    save_classifier(classifier, tmp_path / "p")
    loaded = load_classifier(tmp_path / "p")
    assert isinstance(loaded, Pooled)
    assert loaded.card.pooling == POOLING
    assert loaded.card.provenance.granularity == "token"
    assert loaded.card.settings["channels"] == ["geometry", "lexicon"][: 1 + hybrid]
    again = SplineExtractor(tiny_backbone("llama"), **Plan.of(loaded.card.provenance).settings())
    np.testing.assert_array_equal(
        loaded.predict_texts(TEXTS, again).probabilities,
        classifier.predict_texts(TEXTS, extractor()).probabilities,
    )
    assert loaded.spans(TEXTS, again) == classifier.spans(TEXTS, extractor())
    readme = (tmp_path / "p" / "README.md").read_text()
    assert "| pooling | pool log-sum-exp" in readme
    assert "reliability by length" in readme


def test_the_card_tells_the_channels_apart_and_shows_words() -> None:
    card = trained(hybrid=True).card
    figures = card.metrics["channels"]
    assert set(figures) == {"measured on", "geometry alone", "lexicon alone", "all channels"}
    assert figures["lexicon alone"]["roc_auc"] > 0.9
    assert "zzz" in card.settings["words"]["toxic"]["for"]
    assert card.metrics["uncertain"]["toxic"]["share"] >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["pooling"].update(window=16), "pools otherwise"),
        (lambda s: s["pooling"].update(pool="median"), "unknown pooling"),
        (lambda s: s.pop("pooling"), "how their scores are pooled"),
        (lambda s: s.update(channels=["geometry", "lexicon"]), "channels"),
    ],
)
def test_a_card_that_says_something_else_is_refused(
    change: Any, message: str, tmp_path: Path
) -> None:
    save_classifier(trained(), tmp_path / "p")
    record = json.loads((tmp_path / "p" / "card.json").read_text())
    change(record["settings"])
    (tmp_path / "p" / "card.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match=message):
        load_classifier(tmp_path / "p")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coef_", np.zeros((1, 3))),
        ("coef_", np.full((1, 16), np.nan)),
        ("calibration_", None),
        ("intercept_", np.zeros(2)),
        ("share_", np.full(1, np.inf)),
        ("stride", 99),
        ("lexicon_", "words"),
        ("logits", np.zeros(3)),
    ],
)
def test_damaged_arrays_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    classifier = trained()
    scorer = type(classifier.scorer)(**POOLING.settings())
    scorer.__dict__.update(classifier.scorer.__dict__)
    setattr(scorer, name, value)
    save_classifier(Pooled([scorer], classifier.card), tmp_path / "p")
    with pytest.raises(ArtifactError):
        load_classifier(tmp_path / "p")


def test_arrays_of_a_later_version_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """Left out, they would change verdicts in silence."""
    for part in ("estimator", "lexicon", "marker"):
        classifier = trained(hybrid=True)
        more = [text for text in TEXTS if "idiot" in text] * 30
        scorer = copy(classifier.scorer)
        scorer.lexicon_ = copy(scorer.lexicon_)
        scorer.marker_ = fit_marker(more, [marked(text) for text in more])
        owner = scorer if part == "estimator" else getattr(scorer, f"{part}_")
        owner.later_ = np.zeros(1)
        card = replace(classifier.card, settings={**classifier.card.settings, MARKED: 1})
        save_classifier(Pooled([scorer], card), tmp_path / part)
        with pytest.raises(ArtifactError, match=f"the {part} .*: later_ .*update this one"):
            load_classifier(tmp_path / part)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coef_", np.zeros((1, 3), np.float32)),
        ("words_", np.zeros(9, np.uint8)),
        ("letter_idf_", None),
        ("_made", np.zeros(2)),
    ],
)
def test_a_damaged_lexicon_is_refused(name: str, value: Any) -> None:
    lexicon = Lexicon()
    source = trained(hybrid=True).scorer.lexicon_
    assert source is not None
    lexicon.__setstate__(source.__getstate__())
    lexicon.require_fit(1)
    setattr(lexicon, name, value)
    with pytest.raises(ArtifactError, match="lexicon"):
        lexicon.require_fit(1)
