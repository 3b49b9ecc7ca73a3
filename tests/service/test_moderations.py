"""/v1/moderations: OpenAI's categories, never an invented score."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.models import ModelCatalog
from service.schemas.moderations import OPENAI_CATEGORIES
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


@pytest.mark.parametrize("position", [0, 1])
def test_an_image_is_refused(client: TestClient, position: int) -> None:
    parts: list[dict[str, Any]] = [{"type": "text", "text": "fine"}]
    parts.insert(position, {"type": "image_url", "image_url": {"url": "https://example.org/a"}})
    answer = client.post("/v1/moderations", json={"input": parts})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == f"input[{position}].type"
    assert "example.org" not in answer.text


@pytest.mark.parametrize(
    "model", [None, "omni-moderation-latest", "text-moderation-stable", "toxicity", "fake"]
)
def test_names_that_stand_for_the_default(client: TestClient, model: str | None) -> None:
    assert ask(client, input="x", model=model)["model"] == "fake"


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
        ({"input": "w " * 1100}, 400, "input"),
        ({}, 400, "input"),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient, body: dict[str, Any], status: int, param: str
) -> None:
    answer = client.post("/v1/moderations", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
