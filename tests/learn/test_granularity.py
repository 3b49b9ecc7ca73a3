"""Classifiers are about prompts: rows that stand for tokens or prefixes are refused."""

from __future__ import annotations

from typing import Any

import pytest

from splinellm import SplineExtractor, SplineFeatures
from splinellm.backbone.loading import Backbone
from splinellm.errors import ArtifactError, PromptError, TableFormatError
from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier
from splinellm.learn.evaluation import evaluate
from splinellm.learn.labels import Labels
from splinellm.learn.training import train

LABELS = Labels.from_columns({"label": ["a", "b"] * 20})


@pytest.mark.parametrize("granularity", ["prefix", "token"])
def test_rows_of_tokens_are_refused(granularity: Any, llama: Backbone) -> None:
    extractor = SplineExtractor(llama)
    table = extractor.extract([[*range(10, 50)]], granularity=granularity)
    assert len(table) == len(LABELS)
    message = f"a row per {granularity}, not one per prompt"
    with pytest.raises(TableFormatError, match=message):
        train(table, LABELS, name="x")
    with pytest.raises(TableFormatError, match=message):
        next(evaluate(table, LABELS, []))
    card = Card("x", "binary", ("a", "b"), {"b": 0.5}, extractor.provenance, {}, {}, {})
    with pytest.raises(ArtifactError, match=f"granularity is {granularity}, not prompt"):
        Classifier([], card).predict_table(table)
    with pytest.raises(PromptError):
        SplineFeatures().transform(table)
