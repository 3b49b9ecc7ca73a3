"""A tiny model in a folder, which other processes can load, and a classifier of its features."""

from __future__ import annotations

from pathlib import Path

import pytest

from splinellm import SplineExtractor
from splinellm.learn.artifact import save_classifier
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from tests.ray.rows import texts_of
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def extractor(model: str) -> SplineExtractor:
    return SplineExtractor.from_pretrained(model)


@pytest.fixture(scope="session")
def classifier(extractor: SplineExtractor, tmp_path_factory: pytest.TempPathFactory) -> str:
    texts = texts_of(60)
    labels = Labels.from_columns({"label": ["odd" if i % 2 else "even" for i in range(60)]})
    folder: Path = tmp_path_factory.mktemp("classifiers") / "parity"
    save_classifier(train(extractor.extract(texts), labels, name="parity"), folder)
    return str(folder)
