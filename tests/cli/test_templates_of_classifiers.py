"""Chat templates matter to who reads conversations with them, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import models
from service.chosen import Chosen, choose
from service.mapping import unreadable
from service.models import _Attacher, _Progress
from service.settings import load_settings
from splinellm import SplineExtractor
from splinellm.cli import loading
from splinellm.conversations import said
from splinellm.errors import ArtifactError, ChatTemplateError, ConfigurationError
from splinellm.extraction.chat import template_sha256
from splinellm.io.feature_files import read_features
from splinellm.learn import register_backbone, release_backbones
from splinellm.learn.artifact import load_classifier, save_classifier
from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from splinellm.table import FeatureTable
from tests.chats import CHATML, MISTRAL
from tests.cli.conftest import Result
from tests.conversing import ask, backbone, chats, extractor, items, served

Cli = Callable[..., Result]
ROWS = chats()
TEXTS = [said(row, "last") for row in ROWS]
LABELS = Labels("binary", ("clean", "toxic"), np.arange(len(ROWS)) % 2)
OTHER = "0" * 64


class Classified(Classifier):
    """A subclass that knows of no template."""

    def __init__(
        self, estimators: list[Any], card: Card, *, model: Any = None, device: str = "cpu"
    ):
        super().__init__(estimators, card, model=model, device=device)


def of_earlier(classifier: Classifier) -> Classifier:
    """What an earlier version wrote, with another template than there is now."""
    source = replace(classifier.card.provenance, chat_template_sha256=OTHER)
    return classifier.with_card(replace(classifier.card, provenance=source))


@pytest.fixture(scope="module")
def of_texts() -> Classifier:
    return train(extractor().extract(TEXTS), LABELS, name="texts")


@pytest.fixture
def tiny(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr(loading, "load_extractor", extractor)
    return cli


def test_what_is_made_of_texts_alone_names_no_template() -> None:
    reader = extractor()
    known = template_sha256(CHATML)
    assert reader.provenance.chat_template_sha256 == known
    of_chats = reader.extract(ROWS[:2])
    alike = reader.extract(TEXTS[:2])
    assert [table.provenance.chat_template_sha256 for table in (of_chats, alike)] == [known, ""]
    assert reader.extract([TEXTS[0], ROWS[0]]).provenance.chat_template_sha256 == known
    for prompts, told in ((TEXTS[:2], ""), (ROWS[:2], known)):
        assert reader.extract_windows(prompts).table.provenance.chat_template_sha256 == told
        tokens = reader.extract(prompts, granularity="token")
        assert tokens.provenance.chat_template_sha256 == told
    for tables in ([alike, of_chats], [of_chats, alike]):
        assert FeatureTable.concatenate(tables).provenance.chat_template_sha256 == known


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_classifiers_and_files_of_texts_name_none_and_of_conversations_theirs(
    tiny: Cli, suffix: str
) -> None:
    lines = [
        {"text": text, "messages": row, "label": int(label)}
        for text, row, label in zip(TEXTS, ROWS, LABELS.values, strict=True)
    ]
    bad = {"text": "", "messages": [], "label": 0}
    Path("in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, bad]))
    Path("chatml.jinja").write_text(CHATML)
    skipping = ("--on-error", "skip", "-q")
    for column, told in (("--text-column", ""), ("--messages-column", template_sha256(CHATML))):
        named: tuple[str, ...] = (column, "text")
        if told:
            named = (column, "messages", "--chat-template", "chatml.jinja")
        output = f"out.{suffix}"
        result = tiny("extract", "in.jsonl", "-o", output, *named, *skipping, "--force")
        assert result.code == 0, result.stderr
        assert read_features(output).provenance.chat_template_sha256 == told
        for data, given in (("in.jsonl", named), (output, ())):
            result = tiny("train", data, "--label", "label", "-o", "mine", *given, *skipping)
            assert result.code == 0, result.stderr
            assert load_classifier("mine").card.provenance.chat_template_sha256 == told


def test_one_of_texts_judges_texts_under_any_template(of_texts: Classifier) -> None:
    other = SplineExtractor(backbone(), features="blocks:8", chat_template=MISTRAL)
    expected = of_texts.predict_texts(TEXTS, extractor()).probabilities
    for one in (of_texts, of_earlier(of_texts)):
        for texts in (TEXTS, TEXTS[:1]):
            found = one.predict_texts(texts, other).probabilities
            np.testing.assert_array_equal(found, expected[: len(texts)])
        features = one.predict_features(other.extract(TEXTS)).probabilities
        np.testing.assert_allclose(features, expected, rtol=1e-6)
    of_texts.verdicts(ROWS[:2], other)
    # What an earlier version wrote does not tell what it was trained on.
    for chosen in (ROWS[:2], ROWS[:1], [TEXTS[0], ROWS[0]]):
        with pytest.raises(ArtifactError, match="chat_template_sha256 is"):
            of_earlier(of_texts).verdicts(chosen, other)


def test_predict_refuses_another_template_for_conversations_alone(
    tiny: Cli, of_texts: Classifier
) -> None:
    save_classifier(of_earlier(of_texts), "mine")
    Path("in.jsonl").write_text(
        "".join(
            json.dumps({"text": text, "messages": row}) + "\n"
            for text, row in zip(TEXTS[:3], ROWS, strict=False)
        )
    )
    assert tiny("predict", "mine", "in.jsonl", "-o", "out.jsonl", "-q").code == 0
    told = ("--messages-column", "messages", "--on-error", "skip", "--force", "-q")
    result = tiny("predict", "mine", "in.jsonl", "-o", "out.jsonl", *told)
    assert result.code == 1
    assert "give the one it was trained with" in result.stderr
    assert not Path("out.jsonl.rejects.jsonl").exists()


def test_a_service_asks_it_of_texts_and_refuses_conversations(
    of_texts: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = of_earlier(of_texts)
    expected = of_texts.predict_texts(TEXTS[:2], extractor()).probabilities[:, 1]
    for one in (of_texts, older):
        data = ask("/v1/classify", {"input": TEXTS[:2]}, one)["data"]
        found = [row["probabilities"]["toxic"] for row in data]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert "data" in ask("/v1/classify", {"input": items(ROWS[:1])}, of_texts)
    error = ask("/v1/classify", {"input": [TEXTS[0], *items(ROWS[:1])]}, older)["error"]
    assert (error["code"], error["param"]) == ("invalid_request", "input[1]")
    assert "'texts' was trained with another chat template" in error["message"]
    body = {"input": items(ROWS[:1])[0], "layers": "0"}
    assert ask("/v1/inspect", body, older)["verdicts"] == []  # nobody has asked it
    assert "error" in ask("/v1/inspect", body | {"classifiers": ["texts"]}, older)
    # The log says so at the start.
    catalog = served()
    warnings: list[str] = []
    monkeypatch.setattr(models._logger, "warning", lambda text, *_: warnings.append(text))
    try:
        for one, n_warnings in ((of_texts, 0), (older, 1)):
            chosen = Chosen([one], frozenset(), {}, [], {}, None, [])
            attacher = _Attacher([catalog.default], lambda *_: pytest.fail("loaded"), _Progress(1))
            attacher.attach(chosen)
            assert [each.name for each in attacher.found] == ["texts"]
            assert len(warnings) == n_warnings
        assert "conversations are refused" in warnings[0]
    finally:
        assert catalog.stop(30)


def test_a_service_tells_at_its_start_who_can_judge_no_text(
    of_texts: Classifier, tmp_path: Path
) -> None:
    answers = train(extractor(count="last").extract(ROWS), LABELS, name="x", abstain=0.2)
    save_classifier(answers, tmp_path / "answers")
    save_classifier(of_texts, tmp_path / "texts")
    for told, warned in (
        ({"classifiers": f"toxicity={tmp_path / 'answers'}"}, True),
        ({"classifiers": f"toxicity={tmp_path / 'texts'}"}, False),
        ({"classifiers": f"judge={tmp_path / 'answers'},toxicity={tmp_path / 'texts'}"}, False),
    ):
        warnings = "\n".join(choose(load_settings(**told)).warnings)
        words = "'toxicity' judges conversations (it was trained on count last)"
        assert (words in warnings) is warned
        assert ("give it another name" in warnings) is warned

    # Of a cascade, whoever reads no texts.
    class Chain:
        names = ("toxicity", "second")

    known: dict[str, Any] = {"toxicity": of_texts}
    known["second"] = answers.with_card(replace(answers.card, name="second"))
    (found,) = unreadable(known, {"toxicity": Chain()})
    assert found.startswith("'second' judges conversations")
    assert "ask 'toxicity' of texts" in found


def test_a_classifier_of_conversations_is_given_its_template_in_python(tmp_path: Path) -> None:
    answers = train(extractor(count="last").extract(ROWS), LABELS, name="answers")
    save_classifier(answers, tmp_path / "answers")
    register_backbone("tiny", backbone())  # whose tokenizer has no template
    try:
        with pytest.raises(ChatTemplateError, match="has no chat template"):
            load_classifier(tmp_path / "answers").predict(ROWS)
        mine = load_classifier(tmp_path / "answers", chat_template=CHATML)
        expected = answers.predict_texts(ROWS, extractor(count="last")).probabilities
        np.testing.assert_allclose(mine.predict_proba(ROWS), expected, rtol=1e-6)
        np.testing.assert_allclose(mine.with_threshold(0.3).predict_proba(ROWS), expected)
        assert Classified(mine.estimators, mine.card).with_threshold(0.3).model is None
        reader = load_classifier(tmp_path / "answers").default_extractor(chat_template=CHATML)
        np.testing.assert_allclose(answers.predict_texts(ROWS, reader).probabilities, expected)
        other = load_classifier(tmp_path / "answers", chat_template=MISTRAL)
        with pytest.raises(ArtifactError, match=r"chat_template_sha256 is .* of load_class"):
            other.predict(ROWS)
        with pytest.raises(ChatTemplateError, match="refuses all conversations: line 1"):
            mine.default_extractor(chat_template="{% for %}")
    finally:
        release_backbones("tiny")


def test_inspect_renders_conversations_with_the_template_it_is_given(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        loading,
        "load_extractor",
        lambda *, chat_template=None, **_: SplineExtractor(
            backbone(), features="blocks:8", chat_template=chat_template
        ),
    )
    answers = train(extractor(count="last").extract(ROWS), LABELS, name="answers")
    save_classifier(answers, "answers")
    Path("chat.json").write_text(json.dumps(ROWS[0]))
    Path("chatml.jinja").write_text(CHATML)
    register_backbone("tiny", backbone())  # whose tokenizer has no template
    told = ("inspect", "chat.json", "--json", "--classifier", "answers")
    try:
        assert "the model has no chat template" in cli(*told).stderr
        result = cli(*told, "--chat-template", "chatml.jinja")
        assert result.code == 0, result.stderr
    finally:
        release_backbones("tiny")
    found = json.loads(result.stdout)
    expected = answers.predict_texts(ROWS[:1], extractor(count="last")).probabilities[0]
    np.testing.assert_allclose([*found["verdicts"][0]["probabilities"].values()], expected)
    whole = extractor().extract(ROWS[:1])
    np.testing.assert_allclose(found["values"], whole.array[0], rtol=1e-6)


def test_what_a_card_can_be_asked_is_known_before_a_row_is_read(of_texts: Classifier) -> None:
    answers = train(extractor(count="last").extract(ROWS), LABELS, name="answers").card
    answers.require_prompts(are_messages=True, count="last", chat_template=CHATML)
    answers.require_prompts(are_messages=True, count="all")
    with pytest.raises(ConfigurationError, match=r"count last\) .name their column: messages_col"):
        answers.require_prompts(are_messages=False)
    with pytest.raises(ConfigurationError, match="trained on count last, not on user"):
        answers.require_prompts(are_messages=True, count="user")
    with pytest.raises(ChatTemplateError, match="give the one it was trained with"):
        answers.require_prompts(are_messages=True, chat_template=MISTRAL)
    of_texts.card.require_prompts(are_messages=False, chat_template=MISTRAL)
    of_texts.card.require_prompts(are_messages=True, chat_template=MISTRAL)
