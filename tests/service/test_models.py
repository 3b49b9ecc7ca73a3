from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service import chosen, models
from service.engine import EngineLimits, Plan, SilentListener
from service.errors import ClassifierNotServedError, ModelNotServedError
from service.logs import configure_logging
from service.models import ModelCatalog, ServedModel, attach, load_models
from service.served_model import MAX_EXTRACTORS
from service.settings import Settings
from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import ArtifactError, ConfigurationError, NonFiniteFeaturesError, SchemaError
from splinellm.learn.classifier import Classifier
from splinellm.schema import FeatureSelection
from splinellm.table import FeatureTable
from tests.counted import counted
from tests.service.fakes import FakeBackbone, FakeExtractor, fake_classifiers, fake_model
from tests.tiny import MAX_POSITIONS, N_HYPERPLANES, tiny_backbone, tiny_model, tiny_tokenizer

TEXTS = ["The capital of France is", "def add(a, b):", "</s> is text", "x", "You are wonderful"]


def serve(backbone: Backbone, **settings: Any) -> ServedModel:
    return ServedModel(
        "tiny",
        backbone,
        limits=EngineLimits(batch_wait_s=0),
        listener=SilentListener(),
        **{"max_tokens": 64} | settings,
    )


@pytest.fixture
def served(llama: Backbone) -> Iterator[ServedModel]:
    model = serve(llama)
    model.engine.start()
    yield model
    assert model.engine.stop(30)


@pytest.mark.filterwarnings("ignore::splinellm.prompts.SpecialTextWarning")
def test_answers_equal_extract_whatever_else_is_in_flight(
    served: ServedModel, llama: Backbone
) -> None:
    plans = [
        served.plan(),
        served.plan("0"),
        served.plan([1, 2], "blocks:8,sign_mean"),
        served.plan(granularity="prefix"),
        served.plan("1", "paper,blocks:8", granularity="token"),
    ]

    def ask(number: int) -> tuple[Plan, list[str], FeatureTable]:
        plan, texts = plans[number % 5], [*TEXTS[number % 4 :], f"prompt number {number}"]
        tokenized, errors = served.tokenize(texts, plan)
        assert not errors
        windows = [tokenized[i] for i in range(len(texts))]
        outcome = served.engine.submit(plan, windows).result(60)
        assert not outcome.errors
        return plan, texts, served.table(plan, windows, outcome.rows, texts)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    for plan, texts, table in answers:
        extractor = SplineExtractor(llama, **plan.settings())
        expected = extractor.extract(texts, granularity=plan.granularity)
        assert table.provenance == expected.provenance
        assert table.n_tokens.tolist() == expected.n_tokens.tolist()
        np.testing.assert_allclose(table.values, expected.values, rtol=1e-4, atol=1e-5)
        assert (table.tokens is None) == (expected.tokens is None)
        if table.tokens is not None and expected.tokens is not None:
            assert table.tokens.to_arrow().equals(expected.tokens.to_arrow())


def test_every_text_is_tokenised_once(llama: Backbone) -> None:
    backbone, tokenizer = counted(llama)
    model = serve(backbone)
    model.engine.start()
    plan = model.plan()
    tokenizer.texts.clear()
    tokenized, _ = model.tokenize(TEXTS, plan)
    windows = [tokenized[i] for i in range(len(TEXTS))]
    outcome = model.engine.submit(plan, windows).result(60)
    assert len(model.table(plan, windows, outcome.rows)) == len(TEXTS)
    assert model.engine.stop(30)
    assert tokenizer.texts == TEXTS


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"layers": "0-3"}, "the model's layers are 0-2"),
        ({"features": "vibes"}, "unknown feature"),
        ({"features": f"blocks:{N_HYPERPLANES + 1}"}, "cannot be cut"),
        ({"max_tokens": 65}, "it can be 1 to 64"),
        ({"max_tokens": 0}, "it can be 1 to 64"),
    ],
)
def test_an_impossible_plan_is_refused_with_what_is_possible(
    served: ServedModel, request_: dict[str, Any], told: str
) -> None:
    with pytest.raises(SchemaError, match=told):
        served.plan(**request_)


def test_no_plan_is_longer_than_the_model(llama: Backbone) -> None:
    assert serve(llama, max_tokens=10_000).plan().max_tokens == MAX_POSITIONS


def test_extractors_are_kept_but_not_all_of_them(served: ServedModel) -> None:
    first = served.plan(max_tokens=1)
    kept = served.extractor(first)
    for max_tokens in range(1, MAX_EXTRACTORS + 1):
        served.plan(max_tokens=max_tokens)
    assert served.extractor(first) is kept
    assert served.extractor(served.plan(max_tokens=1, granularity="token")) is kept
    assert len(served._extractors) == MAX_EXTRACTORS
    served.plan("0")
    served.plan("1")
    assert served.extractor(first) is kept  # it was asked for again
    assert len(served._extractors) == MAX_EXTRACTORS


def test_half_precision_warns_in_its_provenance_only() -> None:
    """Warnings are errors here."""
    model = serve(tiny_backbone(dtype=torch.bfloat16))
    assert model.provenance(model.plan()).distance_precision == "reduced"


def test_tokenising_cuts_nothing_and_obeys_the_plan(llama: Backbone) -> None:
    text = "word " * 100 + "</s>"
    eos = llama.tokenizer.eos_token_id
    strict, lenient = serve(llama), serve(llama, allow_special_tokens=True)
    for model, has_eos in ((strict, False), (lenient, True)):
        tokenized, errors = model.tokenize([text, ""], model.plan())
        assert len(tokenized[0].ids) > 100
        assert not tokenized[0].truncated
        assert (eos in tokenized[0].ids) is has_eos
        assert list(errors) == [1]


def test_offsets_are_in_characters_of_the_text(served: ServedModel) -> None:
    text = "The capital café 😀"
    [offsets] = served.offsets([text])
    tokenized, _ = served.tokenize([text], served.plan())
    assert len(offsets) == len(tokenized[0].ids)
    assert offsets[0][0] == 0
    assert offsets[-1] == (len(text) - 1, len(text))


def test_what_every_text_starts_with(served: ServedModel) -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    with_bos = serve(Backbone(tiny_model(), tokenizer, "tiny"))
    assert with_bos.prefix == (tokenizer.bos_token_id,)
    assert served.prefix == ()


def test_unknown_names_are_not_repeated(catalog: ModelCatalog) -> None:
    assert catalog.get().name == catalog.names[0] == "fake"
    assert catalog.get_classifier().name == "toxicity"
    with pytest.raises(ModelNotServedError, match="served: fake") as error:
        catalog.get("canary")
    assert "canary" not in str(error.value)
    with pytest.raises(ClassifierNotServedError, match="served: toxicity") as error:
        catalog.get_classifier("canary")
    assert "canary" not in str(error.value)


def changed(classifier: Classifier, **changes: Any) -> Classifier:
    provenance = replace(classifier.card.provenance, **changes)
    return Classifier(classifier.estimators, replace(classifier.card, provenance=provenance))


def test_a_classifier_finds_its_model_among_several() -> None:
    one, other = fake_model("one"), fake_model("other")
    other.backbone.weights_sha256 = "1" * 64
    classifier = changed(fake_classifiers(FakeBackbone())[0], weights_sha256="1" * 64)
    assert attach(classifier, [one, other]).model is other
    for model in (one, other):
        model.engine.stop(30)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights_sha256": "2" * 64}, "weights_sha256 is 000"),
        ({"dtype": "bfloat16"}, "dtype is float32, not bfloat16"),
        ({"tokenizer_probe": (1, 2)}, "tokenizer_probe"),
        ({"granularity": "prefix"}, "granularity is prompt, not prefix"),
    ],
)
def test_a_classifier_of_another_model_is_refused_with_the_difference(
    catalog: ModelCatalog, changes: dict[str, Any], told: str
) -> None:
    classifier = changed(fake_classifiers(FakeBackbone())[0], **changes)
    with pytest.raises(ArtifactError, match=told):
        attach(classifier, [catalog.get()])


@pytest.mark.parametrize("changes", [{"layers": (0, 99)}, {"max_tokens": MAX_POSITIONS + 1}])
def test_a_classifier_of_a_larger_model_is_refused(
    llama: Backbone, changes: dict[str, Any]
) -> None:
    """Its plan is impossible for the model; that is a difference like any other."""
    classifier = changed(fake_classifiers(FakeBackbone())[0], **changes)
    with pytest.raises(ArtifactError, match="does not fit model 'tiny'"):
        attach(classifier, [serve(llama)])


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Load fakes: a model called as its spec, and the classifiers that `boxed` holds by name."""
    boxed = {one.card.name: one for one in fake_classifiers(FakeBackbone())}
    made: dict[str, Any] = {"boxed": boxed, "settings": [], "extractor": FakeExtractor}

    def load_backbone(spec: str, **settings: Any) -> FakeBackbone:
        made["settings"].append(settings)
        return FakeBackbone(spec)

    def make(*args: Any, **settings: Any) -> Any:
        return ServedModel(*args, make_extractor=made["extractor"], **settings)

    monkeypatch.setattr(models, "load_backbone", load_backbone)
    monkeypatch.setattr(models, "ServedModel", make)
    monkeypatch.setattr(chosen, "boxed_names", lambda: sorted(boxed))
    monkeypatch.setattr(chosen, "load_classifier", boxed.__getitem__)
    return made


def test_loading_as_the_settings_say(loading: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    settings = Settings(model=("first", str(folder)), device="cpu", max_batch_tokens=99)
    catalog = load_models(settings, SilentListener())
    assert catalog.names == ("first", "mine")  # no paths of the server
    assert list(catalog.classifiers) == ["toxicity", "domain", "toxicity-types"]
    assert loading["settings"][0] == {"dtype": "auto", "device": "cpu", "device_map": None}
    for model in map(catalog.get, catalog.names):
        assert model.engine.alive
        assert model.extractor(model.plan()).batch_tokens == 99
        assert isinstance(model.backbone, FakeBackbone)
        assert model.backbone.seen  # it has answered
    assert catalog.stop(30)
    assert not any(catalog.get(name).engine.alive for name in catalog.names)


@pytest.mark.usefixtures("loading")
def test_the_log_tells_what_is_being_loaded_and_how_far(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info")
    catalog = load_models(Settings(model=("fake",)), SilentListener())
    catalog.stop(30)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    steps = [line for line in lines if line["event"] == "loading"]
    assert steps[0]["model"] == "fake"
    assert [line["classifier"] for line in steps[1:-1]] == list(catalog.classifiers)
    assert steps[-1]["warm_up"] == ["fake"]
    assert [(line["step"], line["of"]) for line in steps] == [(i, 5) for i in range(1, 6)]


def test_boxed_classifiers_of_other_models_are_left_out(
    loading: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    loading["boxed"]["domain"] = changed(loading["boxed"]["domain"], dtype="bfloat16")
    catalog = load_models(Settings(model=("fake",)), SilentListener())
    assert list(catalog.classifiers) == ["toxicity", "toxicity-types"]
    assert "'domain' does not fit" in caplog.text
    catalog.stop(30)


def test_a_classifier_that_was_asked_for_must_fit(loading: dict[str, Any]) -> None:
    loading["boxed"]["domain"] = changed(loading["boxed"]["domain"], dtype="bfloat16")
    with pytest.raises(ArtifactError, match=r"'domain' does not fit model 'fake'.*dtype"):
        load_models(Settings(model=("fake",), classifiers=("domain",)), SilentListener())


@pytest.mark.parametrize("wanted", [("domain", "toxicity"), ()])
def test_only_the_classifiers_asked_for_are_loaded(
    loading: dict[str, Any], wanted: tuple[str, ...]
) -> None:
    catalog = load_models(Settings(model=("fake",), classifiers=wanted), SilentListener())
    assert tuple(catalog.classifiers) == wanted
    catalog.stop(30)


def test_models_that_classifiers_need_are_loaded_too(loading: dict[str, Any]) -> None:
    """In the dtype of their cards, behind those of the settings."""
    boxed = loading["boxed"]
    boxed["domain"] = changed(boxed["domain"], model="small", weights_sha256="3" * 64)
    boxed["toxicity-types"] = changed(boxed["toxicity-types"], model="small", layers=(0,))

    def load_backbone(spec: str, **settings: Any) -> FakeBackbone:
        loading["settings"].append((spec, settings["dtype"]))
        found = FakeBackbone(spec)
        found.weights_sha256 = ("3" if spec == "small" else "0") * 64
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_backbone", load_backbone)
        catalog = load_models(Settings(model=("fake",)), SilentListener())
    assert catalog.names == ("fake", "small")
    assert catalog.get_classifier("toxicity").model.name == "fake"
    assert catalog.get_classifier("domain").model.name == "small"
    assert catalog.get_classifier("toxicity-types").model.name == "fake"
    assert loading["settings"] == [("fake", "auto"), ("small", "float32")]
    assert catalog.get("small").engine.alive
    assert catalog.stop(30)


def test_steps_of_cascades_are_loaded_too(loading: dict[str, Any]) -> None:
    boxed = loading["boxed"]
    card = replace(boxed["toxicity"].card, name="first")
    card = replace(card, settings={"abstain": {"toxic": {"low": 0.2, "high": 0.7}}})
    boxed["first"] = Classifier(boxed["toxicity"].estimators, card)
    settings = Settings(model=("fake",), classifiers=("domain",), cascade=("first:toxicity",))
    catalog = load_models(settings, SilentListener())
    assert list(catalog.classifiers) == ["domain", "first", "toxicity"]
    assert catalog.cascades["first"].names == ["first", "toxicity"]
    assert catalog.stop(30)
    with pytest.raises(ArtifactError, match="'toxicity' is never uncertain"):
        load_models(Settings(model=("fake",), cascade=("toxicity:person",)), SilentListener())


def test_two_of_one_name_are_refused(loading: dict[str, Any], tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "same", tmp_path / "b" / "same"]
    for folder in folders:
        folder.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="two models are called 'same'"):
        load_models(Settings(model=tuple(map(str, folders))), SilentListener())
    with pytest.raises(ConfigurationError, match="two classifiers are called 'domain'"):
        load_models(Settings(model=("fake",), classifiers=("domain", "domain")), SilentListener())


def test_a_model_that_cannot_answer_is_not_ready(
    loading: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    stopped: list[str] = []

    class Broken(FakeExtractor):
        def read(self, prompts: Any, **_: Any) -> Any:
            return dict.fromkeys(prompts, NonFiniteFeaturesError("the forward pass overflowed"))

    class Listener(SilentListener):
        def stopped(self, engine: str, unanswered: int) -> None:
            stopped.append(engine)

    loading["extractor"] = Broken
    with caplog.at_level(logging.DEBUG), pytest.raises(NonFiniteFeaturesError):
        load_models(Settings(model=("one", "two")), Listener())
    assert sorted(stopped) == ["one", "two"]


def test_a_classifier_plan_is_the_one_of_its_card(catalog: ModelCatalog) -> None:
    classifier = catalog.get_classifier("domain")
    assert classifier.plan.selection == FeatureSelection.parse("blocks")
    given = classifier.model.provenance(classifier.plan)
    assert classifier.card.provenance.first_difference(given) is None
