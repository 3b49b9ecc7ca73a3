"""Hard cases: what is in the file, and what is counted right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from splinellm.classifiers.hard_cases import TITLE, hard_cases, judge_hard_cases
from splinellm.classifiers.judging import Judge, judge_of
from splinellm.errors import ArtifactError
from splinellm.learn.artifact import load_classifier
from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.readme import readme_of
from splinellm.learn.training import train
from tests.fakes import LearnableExtractor, fake_provenance
from tests.learn.tables import balanced


def test_there_are_forty_different_ones_of_both_labels() -> None:
    cases = hard_cases()
    assert len({case.text for case in cases}) == 40
    assert Counter(case.label for case in cases) == {"clean": 23, "toxic": 17}
    assert {"👍", "My dog died", "IDIOT"} <= {case.text for case in cases}
    assert all(case.kind for case in cases)


def test_right_ones_are_counted_and_wrong_ones_listed() -> None:
    def scores(texts: Sequence[str]) -> np.ndarray:
        return np.array([0.7 if text.isascii() else 0.6 for text in texts])

    cases = hard_cases()
    found = judge_hard_cases(Judge("all flagged, from 0.6 on", scores, threshold=0.6))
    clean = [case for case in cases if case.label == "clean"]
    assert found.pop("right") == "17 of 40"
    assert "40 texts" in found.pop("measured on")
    assert list(found) == [case.text for case in clean]
    assert found["👍"] == {"kind": "one emoji", "should be": "clean", "score": 0.6}
    none = judge_hard_cases(Judge("nothing flagged", scores, threshold=0.71))
    assert none["right"] == "23 of 40"


@pytest.mark.filterwarnings("ignore::splinellm.learn.lengths.LengthWarning")
def test_a_classifier_judges_its_own_class_at_its_own_threshold() -> None:
    extractor = LearnableExtractor(fake_provenance(max_tokens=99))
    texts = [f"{i} {'toxic' if i % 2 else 'kind'}" for i in range(60)]
    labels = Labels("binary", ("clean", "toxic"), balanced(60))
    classifier = train(extractor.extract(texts), labels, name="t")
    classifier.card.thresholds["toxic"] = 0.99999
    judge = judge_of(classifier, extractor)
    scores = judge.scores(["so toxic", "so kind"])
    assert scores[0] > 0.5 > scores[1]
    assert not judge.flags(["so toxic"]).any()
    with pytest.raises(ArtifactError, match="no class 'spam'"):
        judge_of(classifier, extractor, label="spam")
    card = classifier.card
    card.metrics[TITLE] = judge_hard_cases(judge)
    row = next(line for line in readme_of(card).splitlines() if line.startswith("| IDIOT"))
    assert row.startswith("| IDIOT | short insult, shouted | toxic | ")
    assert "| def kill_child" not in readme_of(card)  # clean, and nothing is flagged


@pytest.mark.model
def test_a_boxed_classifier_loads_its_own_model() -> None:
    classifier = load_classifier("toxicity-fast")
    assert isinstance(classifier, Classifier)
    scores = judge_of(classifier).scores(["You are an idiot.", "Have a nice day."])
    assert scores[0] > 0.5 > scores[1]
