"""/v1/models and /v1/classifiers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.descriptions import short_names
from service.models import ModelCatalog
from service.settings import Settings
from splinellm.schema import PAPER_FEATURES, FeatureSelection
from tests.service.fakes import (
    CLASSIFIER_TOKENS,
    N_LAYERS,
    N_VOCABULARY,
    FakeBackbone,
    fake_model,
    provenance_of,
)


@pytest.fixture
def slashes() -> Iterator[TestClient]:
    """A service of two models, without classifiers, whose names hold slashes."""
    catalog = ModelCatalog([fake_model("org/first"), fake_model("org/second")], [])
    with TestClient(create_app(Settings(), load=lambda *_: catalog)) as client:
        while client.get("/readyz").status_code != 200:
            pass
        yield client
    catalog.stop(30)


def test_models(client: TestClient) -> None:
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    (model,) = answer["data"]
    assert {name: model[name] for name in ("id", "object", "owned_by")} == {
        "id": "fake",
        "object": "model",
        "owned_by": "splinellm",
    }
    assert isinstance(model["created"], int)
    assert (model["n_layers"], model["n_vocabulary"]) == (N_LAYERS, N_VOCABULARY)
    assert model["encoder"] is False
    assert model["feature_names"] == list(PAPER_FEATURES)
    assert model["limits"]["max_input_tokens"] == 1024
    features = client.post("/v1/features", json={"input": "x"}).json()
    assert model["fingerprint"] == features["fingerprint"]


def test_names_may_hold_slashes(slashes: TestClient) -> None:
    names = [model["id"] for model in slashes.get("/v1/models").json()["data"]]
    assert names == ["org/first", "org/second"]
    for path in ("/v1/models/org/second", "/models/org/second", "/v1/models/org%2Fsecond"):
        assert slashes.get(path).json()["id"] == "org/second"
    for name in names:
        answer = slashes.post("/v1/features", json={"input": "x", "model": name})
        assert answer.json()["model"] == name
    assert slashes.post("/v1/features", json={"input": "x"}).json()["model"] == "org/first"


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/moderations"])
def test_without_a_classifier_nothing_is_judged(slashes: TestClient, path: str) -> None:
    answer = slashes.post(path, json={"input": "x"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "classifier_not_found"


def test_classifiers_tell_what_is_on_their_cards(client: TestClient, catalog: ModelCatalog) -> None:
    answer = client.get("/v1/classifiers").json()
    assert [one["id"] for one in answer["data"]] == ["toxicity", "toxicity-types", "domain"]
    for one in answer["data"]:
        card = catalog.get_classifier(one["id"]).card
        assert one == client.get(f"/v1/classifiers/{one['id']}").json()
        assert (one["kind"], one["classes"]) == (card.kind, list(card.classes))
        assert (one["metrics"], one["weaknesses"]) == (card.metrics, list(card.weaknesses))
        assert (one["max_tokens"], one["model"]) == (CLASSIFIER_TOKENS, "fake")
        assert one["provenance"]["weights_sha256"] == card.provenance.weights_sha256


@pytest.mark.parametrize(
    ("features", "shown"),
    [
        ("blocks:48", ["blocks:48"]),
        ("sign_mean,blocks,sign_entropy", ["sign_mean", "sign_entropy_mean", "sign_entropy_std"]),
        ("sign_block_00,sign_block_31", ["sign_block_00", "sign_block_31"]),
        ("paper", list(PAPER_FEATURES)),
    ],
)
def test_all_sign_blocks_are_one_name(features: str, shown: list[str]) -> None:
    selection = FeatureSelection.parse(features)
    backbone = FakeBackbone("fake")
    provenance = replace(
        provenance_of(backbone), features=selection.names, n_blocks=selection.n_blocks
    )
    names = short_names(provenance)
    assert FeatureSelection.parse(names) == selection  # requests may name them so
    assert [name for name in names if name != "blocks:32"] == shown


@pytest.mark.parametrize("kind", ["model", "classifier"])
@pytest.mark.parametrize("name", ["nothing", "../fake", "a/b", "%00"])
def test_what_is_not_loaded_is_404(client: TestClient, kind: str, name: str) -> None:
    answer = client.get(f"/v1/{kind}s/x{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == f"{kind}_not_found"
