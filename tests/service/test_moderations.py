"""/v1/moderations: OpenAI's categories, never an invented score."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.categories import OPENAI_CATEGORIES
from service.models import ModelCatalog
from service.settings import load_settings
from tests.service.fakes import TOXIC_WORDS, backbone_of

SCORED = {"harassment": "insult", "harassment/threatening": "threat", "hate": "identity_hate"}


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/moderations", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_all_keys_are_in_all_maps(client: TestClient) -> None:
    answer = ask(client, input=["an insult", "calm"])
    assert answer["id"].startswith("modr-")
    assert len(answer["results"]) == 2
    wanted = {*OPENAI_CATEGORIES, *TOXIC_WORDS.values()}
    assert len(OPENAI_CATEGORIES) == 13
    for result in answer["results"]:
        for name in ("categories", "category_scores", "category_applied_input_types"):
            assert set(result[name]) == wanted
        assert result["flagged"] == any(result["categories"].values())


@pytest.mark.parametrize(("category", "label"), SCORED.items())
def test_categories_are_labels_of_the_classifier(
    client: TestClient, category: str, label: str
) -> None:
    word = {label: word for word, label in TOXIC_WORDS.items()}[label]
    classified = client.post(
        "/v1/classify", json={"input": f"a {word}", "classifier": "toxicity-types"}
    ).json()["data"][0]
    (result,) = ask(client, input=f"a {word}")["results"]
    assert result["flagged"]
    assert result["categories"][category] is result["categories"][label] is True
    assert result["category_scores"][category] == classified["probabilities"][label]
    assert result["category_applied_input_types"][category] == ["text"]


def test_what_nobody_judges_is_named_and_never_scored(client: TestClient) -> None:
    text = " ".join(TOXIC_WORDS)
    answer = ask(client, input=text)
    assert set(answer["unscored_categories"]) == set(OPENAI_CATEGORIES) - set(SCORED)
    (result,) = answer["results"]
    for name in answer["unscored_categories"]:
        assert result["categories"][name] is False
        assert result["category_scores"][name] == 0
        assert result["category_applied_input_types"][name] == []


def test_the_score_of_toxic_is_that_of_the_classifier_of_toxicity(client: TestClient) -> None:
    (row,) = client.post("/v1/classify", json={"input": "toxic", "classifier": "toxicity"}).json()[
        "data"
    ]
    (result,) = ask(client, input="toxic")["results"]
    assert result["category_scores"]["toxic"] == row["probabilities"]["toxic"]
    assert result["flagged"]


def test_both_classifiers_share_one_forward_pass(client: TestClient, catalog: ModelCatalog) -> None:
    seen = backbone_of(catalog.default).seen
    before = len(seen)
    assert ask(client, input="one")["classifiers"] == ["toxicity", "toxicity-types"]
    assert len(seen) == before + 1


def test_content_parts_are_one_input(client: TestClient) -> None:
    parts = [{"type": "text", "text": "calm"}, {"type": "text", "text": "an insult"}]
    (result,) = ask(client, input=parts)["results"]
    (joined,) = ask(client, input="calm\nan insult")["results"]
    assert result["category_scores"] == joined["category_scores"]


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a"}}


@pytest.mark.parametrize("position", [0, 1])
def test_an_image_is_reported_beside_the_verdict_on_the_text(
    client: TestClient, position: int
) -> None:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "an insult"}]
    parts.insert(position, IMAGE)
    (result,) = ask(client, input=parts)["results"]
    (alone,) = ask(client, input="an insult")["results"]
    assert result.pop("unscored_parts") == [{"part": f"input[{position}]", "type": "image_url"}]
    assert alone.pop("unscored_parts") == []
    assert result == alone
    assert {
        kind for kinds in result["category_applied_input_types"].values() for kind in kinds
    } == {"text"}


@pytest.mark.parametrize("position", [0, 1])
def test_an_image_can_be_refused(catalog: ModelCatalog, position: int) -> None:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "fine"}]
    parts.insert(position, IMAGE)
    app = create_app(load_settings(image_parts="error"), load=lambda *_: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        answer = client.post("/v1/moderations", json={"input": parts})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == f"input[{position}].type"
    assert "example.org" not in answer.text


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([IMAGE], "input"),
        ([{"type": "text", "text": "fine"}, {"type": "input_audio"}], "input[1].type"),
        ([{"type": "text", "text": "fine"}, {"type": ["image_url"]}], "input[1].type"),
    ],
)
def test_nothing_to_score_and_parts_of_other_kinds(
    client: TestClient, parts: list[Any], param: str
) -> None:
    answer = client.post("/v1/moderations", json={"input": parts})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_long_texts_are_read_to_their_end(client: TestClient) -> None:
    (result,) = ask(client, input="fine " * 20_000 + "toxic")["results"]
    assert result["flagged"]
    assert not result["truncated"]


def test_more_inputs_than_a_batch_has(client: TestClient, catalog: ModelCatalog) -> None:
    texts = [f"text {i}" + " an insult" * (i == 1500) for i in range(2048)]
    results = ask(client, input=texts)["results"]
    (one,) = ask(client, input=texts[1500])["results"]
    assert len(results) == 2048
    assert results[1500]["category_scores"] == one["category_scores"]
    answer = client.post("/v1/moderations", json={"input": [*texts, "x"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "batch_too_large")


@pytest.mark.parametrize(
    "model", [None, "omni-moderation-latest", "text-moderation-stable", "toxicity", "fake"]
)
def test_names_that_stand_for_the_default(client: TestClient, model: str | None) -> None:
    assert ask(client, input="x", model=model)["model"] == "fake"


def test_a_classifier_that_is_named_answers_alone(client: TestClient) -> None:
    answer = ask(client, input="toxic insult", model="toxicity-types")
    assert answer["classifiers"] == ["toxicity-types"]
    body = {"input": "toxic insult", "classifier": "toxicity-types"}
    (row,) = client.post("/v1/classify", json=body).json()["data"]
    (result,) = answer["results"]
    for label, probability in row["probabilities"].items():
        assert result["category_scores"][label] == probability
    assert result["category_scores"]["harassment"] == row["probabilities"]["insult"]


def test_names_that_cannot_answer_say_which_can(client: TestClient) -> None:
    for name, status, code in [
        ("domain", 400, "invalid_request"),
        ("gpt-4", 404, "model_not_found"),
    ]:
        answer = client.post("/v1/moderations", json={"input": "x", "model": name})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, "model")
        assert "toxicity, " in error["message"]
        assert "toxicity-types" in error["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": "x", "model": "gpt-4"}, 404, "model"),
        ({"input": ["x", ""]}, 400, "input[1]"),
        ({"input": [[1, 2]]}, 400, "input[0]"),
        ({"input": [1, 2]}, 400, "input[0]"),
        ({"input": [{"type": "text", "text": ""}]}, 400, "input[0].text"),
        ({"input": [{"type": "text"}]}, 400, "input[0].text"),
        ({"input": [{"type": "text", "text": "x"}, "y"]}, 400, "input[1]"),
        ({"input": ["x", {"type": "text", "text": "y"}]}, 400, "input[1]"),
        ({"input": [{"type": "text", "text": "x"}] * 33}, 400, "input"),
        ({"input": "w" * 131_073}, 400, "input"),
        ({}, 400, "input"),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient, body: dict[str, Any], status: int, param: str
) -> None:
    answer = client.post("/v1/moderations", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
