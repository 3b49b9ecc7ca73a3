"""/v1/inspect: the numbers of the other routes, together."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

HOSTILE = "</script>\x00\u202e🙂 שלום"


def of(client: TestClient, **body: Any) -> Any:
    answer = client.post("/v1/inspect", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_says_what_features_and_classify_say(client: TestClient) -> None:
    text = f"one two {HOSTILE}"
    found = of(client, input=text, classifiers=["toxicity"])
    (row,) = client.post("/v1/features", json={"input": text}).json()["data"]
    assert found["values"] == row["values"]
    assert found["n_tokens"] == row["n_tokens"] == len(found["tokens"])
    rows = client.post("/v1/features", json={"input": text, "granularity": "token"}).json()
    assert found["token_feature_names"] == rows["feature_names"]
    for token, expected in zip(found["tokens"], rows["data"], strict=True):
        assert {name: expected[name] for name in token} == token
    (verdict,) = found["verdicts"]
    body = {"input": text, "classifier": "toxicity"}
    (expected,) = client.post("/v1/classify", json=body).json()["data"]
    assert verdict["probabilities"] == expected["probabilities"]
    assert verdict["labels"] == expected["labels"]
    assert verdict["message"] is None
    assert found["object"] == "inspection"


def test_usage_counts_the_text_once_and_once_for_each_reading_of_classifiers(
    client: TestClient,
) -> None:
    """Rows of two kinds are of the same tokens; they were counted twice."""
    text = "one two three"
    found = of(client, input=text, classifiers=[])
    assert found["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    read = client.post("/v1/classify", json={"input": text, "classifier": "toxicity"}).json()
    found = of(client, input=text, classifiers=["toxicity"])
    assert found["usage"]["total_tokens"] == 3 + read["usage"]["total_tokens"]


def test_classifiers_may_be_none_or_all(client: TestClient) -> None:
    assert of(client, input="x", classifiers=[])["verdicts"] == []
    known = [one["id"] for one in client.get("/v1/classifiers").json()["data"]]
    assert {one["classifier"] for one in of(client, input="x")["verdicts"]} == set(known)


def test_verdicts_read_all_of_a_long_text(client: TestClient) -> None:
    text = "one two three " * 600
    limit = client.get("/v1/models").json()["data"][0]["limits"]["max_input_tokens"]
    found = of(client, input=text, classifiers=["toxicity"])
    assert found["truncated"] is True
    assert found["n_tokens"] == len(found["tokens"]) == limit
    (verdict,) = found["verdicts"]
    body = {"input": text, "classifier": "toxicity", "overflow": "window"}
    (expected,) = client.post("/v1/classify", json=body).json()["data"]
    assert expected["n_tokens"] > limit
    assert verdict["probabilities"] == expected["probabilities"]
    assert verdict["truncated"] is False


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": ["a", "b"]}, 400, None),
        ({"input": ["a"]}, 400, None),
        ({"input": "a", "classifiers": ["nix"]}, 404, "classifier_not_found"),
        ({"input": "a", "model": "nix"}, 404, "model_not_found"),
        ({"input": "a", "layers": "99"}, 400, "invalid_schema"),
        ({"input": ""}, 400, None),
        ({}, 400, None),
    ],
)
def test_errors(client: TestClient, body: Any, status: int, code: str | None) -> None:
    answer = client.post("/v1/inspect", json=body)
    assert answer.status_code == status
    if code is not None:
        assert answer.json()["error"]["code"] == code
