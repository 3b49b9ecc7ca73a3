"""What is refused before a model is loaded: `serve` and `serve --print-config` say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service import chosen
from service.chosen import choose, require_models, why_left_out
from service.engine import SilentListener
from service.models import load_models
from service.settings import load_settings
from splinellm.cli import run
from splinellm.errors import (
    ArtifactError,
    ModelLoadError,
    ModelNotFoundError,
    OfflineError,
    SplineLLMError,
)
from tests.service.fakes import FakeBackbone, fake_classifiers


@pytest.fixture(autouse=True)
def _boxed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classifiers that need not be read; any other name is looked for where it would be."""
    boxed = {one.card.name: one for one in fake_classifiers(FakeBackbone("minilm-l6"))}
    load = chosen.load_classifier
    monkeypatch.setattr(chosen, "boxed_names", lambda: sorted(boxed))
    monkeypatch.setattr(chosen, "load_classifier", lambda name: boxed.get(name) or load(name))


REFUSED = [
    ({"classifiers": "nowhere"}, "there is no classifier 'nowhere'"),
    ({"classifiers": "toxicity=FOLDER"}, "model_card|card.json|cannot read"),
    ({"classifiers": "domain,domain"}, "two classifiers are called 'domain'"),
    ({"moderation_categories": "self-harm=toxicity:1"}, "'toxicity' has no class '1'"),
    ({"moderation_categories": "self-harm=my-clf"}, "no classifier 'my-clf' is served"),
    ({"perspective_attributes": "LEGAL=domain"}, "'domain' needs a class"),
    ({"threshold": "nowhere=0.5"}, "threshold: no classifier 'nowhere'"),
    ({"threshold": "toxicity:nothing=0.5"}, "threshold: classifier 'toxicity': no class"),
    ({"threshold": "domain=0.5"}, "threshold: classifier 'domain': of several classes"),
    ({"threshold": "domain:law=0.5"}, "threshold: classifier 'domain': of several classes"),
    ({"cascade": "toxicity:person"}, "'toxicity' is never uncertain"),
    ({"cascade": "toxicity:nowhere"}, "there is no classifier 'nowhere'"),
    ({"cascade": "toxicity:domain"}, "do not tell the same classes apart"),
    ({"drift_reference": "nowhere=x.json"}, "no classifier 'nowhere' is served"),
    ({"drift_reference": "toxicity=FOLDER/x.json"}, "cannot read"),
    ({"chat_template": "FOLDER/none.jinja"}, "the chat template"),
    ({"chat_template": "FOLDER/empty.jinja"}, "empty.jinja' is empty"),
    ({"chat_template": "FOLDER/bad.jinja"}, "the chat template refuses all conversations: line 1"),
    ({"model": "FOLDER"}, "holds no model: it has no config.json"),
    ({"model": "MAMBA"}, "mamba"),
    ({"model": "FOLDER/none.gguf"}, "there is no file"),
    ({"model": "FOLDER,FOLDER/"}, "two models are called"),
    ({"model": "Not a name at all!"}, "there is no model"),
    ({"device": "cuda:99"}, "cuda:99"),
]


@pytest.mark.parametrize(("told", "message"), REFUSED, ids=[str(told) for told, _ in REFUSED])
def test_print_config_refuses_what_serving_refuses(
    told: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mamba").mkdir()
    (tmp_path / "mamba" / "config.json").write_text('{"model_type": "mamba"}')
    (tmp_path / "empty.jinja").write_text("\n")
    (tmp_path / "bad.jinja").write_text("{% for m in messages %}")
    places = {"MAMBA": str(tmp_path / "mamba"), "FOLDER": str(tmp_path)}
    for name, place in places.items():
        told = {key: value.replace(name, place) for key, value in told.items()}
    with pytest.raises(SplineLLMError, match=message) as caught:
        load_models(load_settings(**told), SilentListener())
    options = [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]
    assert run(["serve", "--print-config", *options]) == 1
    captured = capsys.readouterr()
    (line,) = [one for one in captured.err.splitlines() if not one.startswith("{")]
    assert line == "splinellm: error: " + " ".join(str(caught.value).split())
    assert captured.out == ""


def test_print_config_warns_of_what_is_probably_not_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapped = ["--moderation-categories", "selfharm=toxicity"]
    command = ["serve", "--print-config", "--classifiers", "toxicity,domain", *mapped]
    assert run(command) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["moderation_categories"] == ["selfharm=toxicity"]
    typo, unasked = captured.err.splitlines()
    assert typo.startswith("splinellm: warning: moderation_categories: 'selfharm' is a name of")
    assert typo.endswith("did you mean self-harm?")
    assert "not asked by /v1/moderations or Perspective's format: domain;" in unasked
    # What is left out where nothing can be downloaded; what a setting names cannot be.
    monkeypatch.setenv("SPLINELLM_CACHE", str(tmp_path))
    monkeypatch.setenv("SPLINELLM_OFFLINE", "1")
    (tmp_path / "a.gguf").write_bytes(b"")
    command = ["serve", "--print-config", "--model", str(tmp_path / "a.gguf")]
    assert run(command) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1:4] for line in lines] == [
        ["warning", "left out", name] for name in ("toxicity", "domain", "toxicity-types")
    ]
    assert run([*command, "--threshold", "toxicity=0.7"]) == 1
    (error,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert "model 'minilm-l6' is not cached" in error


def test_classifiers_that_settings_name_are_no_longer_optional() -> None:
    found = choose(
        load_settings(threshold="toxicity-types=0.4", moderation_categories="a=toxicity")
    )
    assert found.optional == {"domain"}
    assert [one.card.name for one in found.classifiers] == ["toxicity", "domain", "toxicity-types"]
    assert choose(load_settings(classifiers="domain")).optional == frozenset()


def test_models_that_are_there_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splinellm.backbone.loading._load", None)
    settings = load_settings()
    assert require_models(settings, choose(settings)) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OfflineError("at /secret"), "its model 'minilm-l6' is not cached"),
        (ModelLoadError("at /secret"), "its model 'minilm-l6' could not be loaded"),
        (ModelNotFoundError("at /secret"), "its model 'minilm-l6' could not be loaded"),
        (ArtifactError("at /secret"), "the log says why"),
    ],
)
def test_clients_are_told_nothing_of_the_machine(error: SplineLLMError, why: str) -> None:
    assert why_left_out(error, "minilm-l6") == why
