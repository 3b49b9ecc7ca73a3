"""Classifier folders: round trips, and every way to tamper with one."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import (
    ArtifactError,
    ClassifierNotFoundError,
    ConfigurationError,
    SplineLLMError,
)
from splinellm.learn.artifact import TRUSTED_TYPES, load_classifier, save_classifier
from splinellm.learn.estimators import ESTIMATORS
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from tests.learn.tables import balanced, learnable_table

TARGET = balanced(200)
TABLE = learnable_table(TARGET)
LABELS = Labels("binary", ("clean", "toxic"), TARGET)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_classifier(train(TABLE, LABELS, name="x"), tmp_path / "x")
    return tmp_path / "x"


def edit_card(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def replace_skops(folder: Path, data: bytes) -> None:
    (folder / "classifier.skops").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit_card(folder, lambda card: card.update(classifier_sha256=digest))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_every_estimator_and_task_comes_back_the_same(
    estimator: str, kind: str, tmp_path: Path
) -> None:
    target = balanced(240, 3)
    labels = {
        "binary": Labels("binary", ("a", "b"), target % 2),
        "multiclass": Labels("multiclass", ("a", "b", "c"), target),
        "multilabel": Labels("multilabel", ("a", "b"), np.stack([target == 0, target > 1], 1) * 1),
    }[kind]
    table = learnable_table(target)
    saved = save_classifier(train(table, labels, name="x", estimator=estimator), tmp_path / "x")  # type: ignore[arg-type]
    loaded = load_classifier(tmp_path / "x")
    assert loaded.card == saved.card
    # A forest sums its trees in the order in which its threads are done.
    assert np.allclose(
        loaded.predict_table(table).probabilities,
        saved.predict_table(table).probabilities,
        atol=1e-12,
    )


def test_the_readme_says_what_the_card_says(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    card = load_classifier(folder).card
    assert card.provenance.weights_sha256 in readme
    assert f"{card.metrics['held out']['toxic']['roc_auc']:.4g}" in readme


def test_another_dtype_or_backbone_in_the_card_no_longer_matches_the_features(
    folder: Path,
) -> None:
    for change in ({"dtype": "bfloat16"}, {"weights_sha256": "f" * 64}):
        edit_card(folder, lambda card, change=change: card["provenance"].update(change))
        with pytest.raises(ArtifactError, match=next(iter(change))):
            load_classifier(folder).predict_table(TABLE)


def test_another_schema_or_card_version_is_refused(folder: Path) -> None:
    edit_card(folder, lambda card: card["provenance"].update(schema_version=99))
    with pytest.raises(SplineLLMError, match="schema version 99"):
        load_classifier(folder)
    edit_card(folder, lambda card: card.update(card_version=7))
    with pytest.raises(ArtifactError, match="card version 7"):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(card_version=7), "card version 7"),
        (lambda card: card.update(pace="slow"), "the card holds something else: pace"),
        (lambda card: card["provenance"].update(schema_version=99), "schema version 99"),
        (lambda card: card["provenance"].update(pace="slow"), "holds something else: pace"),
        (
            lambda card: card["settings"].update(pooling={"pool": "max", "pace": "slow"}),
            "the pooling is unreadable: .*'pace'",
        ),
    ],
)
def test_what_a_later_version_may_have_written_is_refused_with_what_to_do(
    folder: Path, change: Callable[[Any], object], message: str
) -> None:
    edit_card(folder, change)
    with pytest.raises(SplineLLMError, match=f"{message}.*update this one"):
        load_classifier(folder)


def of_type(data: bytes, name: str) -> bytes:
    """A file of skops whose first object says to be of another type."""
    module, _, of_module = name.rpartition(".")
    archive = zipfile.ZipFile(io.BytesIO(data))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as changed:
        for member in archive.namelist():
            content = archive.read(member)
            if member == "schema.json":
                schema = json.loads(content)
                schema["content"][0].update({"__class__": of_module, "__module__": module})
                content = json.dumps(schema).encode()
            changed.writestr(member, content)
    return buffer.getvalue()


def test_a_type_of_a_later_version_is_refused_with_what_to_do(folder: Path) -> None:
    replace_skops(
        folder, of_type(skops.io.dumps([LogisticRegression()]), "splinellm.learn.later.Later")
    )
    with pytest.raises(ArtifactError, match=r"not trusted: splinellm\.learn\.later.*update this"):
        load_classifier(folder)


def test_a_foreign_type_is_refused_by_name(folder: Path) -> None:
    class Payload:
        pass

    Payload.__module__, Payload.__qualname__ = "evil", "Payload"
    replace_skops(folder, of_type(skops.io.dumps([LogisticRegression()]), "os.system"))
    with pytest.raises(ArtifactError, match="not trusted"):
        load_classifier(folder)


def test_a_pickle_is_never_opened(folder: Path) -> None:
    replace_skops(folder, b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ArtifactError, match="not a skops file"):
        load_classifier(folder)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(folder: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.npy", bytes(400 << 20))
    replace_skops(folder, buffer.getvalue())
    with pytest.raises(ArtifactError, match="would unpack to 3 files of 1200 MB"):
        load_classifier(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "classifier.skops"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="truncated"):
        load_classifier(folder)


def test_a_file_that_is_not_the_card_s_is_refused(folder: Path, tmp_path: Path) -> None:
    other = save_classifier(train(TABLE, LABELS, name="y", seed=3), tmp_path / "y")
    assert other.card.classifier_sha256
    (folder / "classifier.skops").write_bytes((tmp_path / "y" / "classifier.skops").read_bytes())
    edit_card(folder, lambda card: card.update(classifier_sha256="0" * 64))
    with pytest.raises(ArtifactError, match="but the card says 0000"):
        load_classifier(folder)


def test_an_estimator_of_another_width_is_refused(folder: Path) -> None:
    narrow = TABLE.select([0])
    data = skops.io.dumps(train(narrow, LABELS, name="x").estimators)
    replace_skops(folder, data)
    with pytest.raises(ArtifactError, match="takes 8 features"):
        load_classifier(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"card_version": 1}', "null"])
def test_an_unreadable_card_is_refused(folder: Path, text: str) -> None:
    (folder / "card.json").write_text(text)
    with pytest.raises(ArtifactError, match="card"):
        load_classifier(folder)


def test_a_folder_of_something_else_is_told_with_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"card\.json' cannot be read: .*train wrote"):
        load_classifier(tmp_path)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "classifier.skops").unlink()
    with pytest.raises(ArtifactError, match=r"classifier\.skops"):
        load_classifier(folder)


def test_an_unknown_name_lists_the_boxed_ones() -> None:
    with pytest.raises(ClassifierNotFoundError, match="boxed:"):
        load_classifier("toxicityy")


def test_only_listed_types_are_trusted() -> None:
    assert not [name for name in TRUSTED_TYPES if name.startswith(("builtins", "os", "numpy"))]


def test_how_texts_are_read_is_part_of_the_card(folder: Path, tmp_path: Path) -> None:
    plain = load_classifier(folder)
    assert plain.card.normalisation is None
    assert "normalisation" not in plain.card.settings
    assert plain.card.as_read(["i d i o t", [5, 6]]) == ["i d i o t", [5, 6]]
    save_classifier(train(TABLE, LABELS, name="x", normalisation="1"), tmp_path / "y")
    card = load_classifier(tmp_path / "y").card
    assert card.as_read(["i d i o t", [5, 6], None]) == ["idiot", [5, 6], None]
    assert "| normalisation | 1 |" in (tmp_path / "y" / "README.md").read_text()
    edit_card(folder, lambda record: record["settings"].update(normalisation="3"))  # type: ignore[attr-defined]
    with pytest.raises(ArtifactError, match="version '3' are unknown"):
        load_classifier(folder)
    with pytest.raises(ConfigurationError, match="version 'x' are unknown"):
        train(TABLE, LABELS, name="x", normalisation="x")


def test_texts_are_normalised_before_they_are_read(llama: Backbone, tmp_path: Path) -> None:
    extractor = SplineExtractor(llama, features="blocks:8")
    texts = [f"{'bad' if i % 2 else 'good'} text number {i}" for i in range(40)]
    labels = Labels("binary", ("clean", "toxic"), np.arange(40) % 2)
    table = extractor.extract(texts)
    hidden = [text.replace("b", "\u200bb\u200b") for text in texts]
    expected = train(table, labels, name="x").predict_table(table).probabilities
    on = train(table, labels, name="x", normalisation="1")
    np.testing.assert_array_equal(on.predict_texts(hidden, extractor).probabilities, expected)
    off = train(table, labels, name="x")
    np.testing.assert_array_equal(off.predict_texts(texts, extractor).probabilities, expected)
    assert not np.array_equal(off.predict_texts(hidden, extractor).probabilities, expected)
