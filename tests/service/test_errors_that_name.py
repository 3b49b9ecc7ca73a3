"""What an error names: the field, the methods, the limit and the ways out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient


def error_of(client: TestClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.text.isascii()
    error: dict[str, Any] = answer.json()["error"]
    assert len(error["message"]) <= 200
    return error


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v1/features", "input, model, layers, features, granularity, count, overflow"),
        ("/v1/classify", "input, classifier, threshold, count, overflow"),
        ("/v1/tokenize", "input, model"),
    ],
)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("threshhold", "threshhold"),
        ("a\nb\u202e\x00\x7f", "a?b???"),
        ("größe", "gr??e"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 61 + "..."),
        ("", ""),
    ],
)
def test_an_unknown_field_is_named_and_known_ones_listed(
    client: TestClient, path: str, known: str, name: str, shown: str
) -> None:
    content = json.dumps({"input": "a", name: 1})
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert f"there is no field '{shown}' (" in error["message"]
    assert f"known: {known}" in error["message"]
    assert error["param"] == shown
    assert len(error["message"]) <= 200


@pytest.mark.parametrize(
    ("name", "near"), [("Input", "input"), ("clasifier", "classifier"), ("inputs", "input")]
)
def test_the_nearest_field_is_proposed(client: TestClient, name: str, near: str) -> None:
    assert f"did you mean '{near}'?" in error_of(client, "/v1/classify", {name: "a"})["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/classify", {"input": "a", "threshold": {"toxic": 2}}, "threshold.toxic"),
        ("/v1/classify", {"input": "a", "threshold": {"you fool": 2}}, "threshold"),
        ("/v1/classify", {"input": "a", "threshold": "high"}, "threshold"),
        ("/v1/classify", {"input": "a", "classifier": ["toxicity", 1]}, "classifier"),
        ("/v1/features", {"input": "a", "layers": [0, "x"]}, "layers"),
        ("/v1/features", {"input": "a", "features": ["paper", 1]}, "features"),
        ("/v1/inspect", {"input": "a", "classifiers": [{}]}, "classifiers[0]"),
        ("/v1/embeddings", {"input": ["a", 1]}, "input[1]"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("/v1/embeddings", {"input": "a", "layers": {"a": 1}}, "layers"),
        ("/v1/moderations", {"input": [{"type": "text", "text": ""}]}, "input[0].text"),
        ("/v1/moderations", {"input": [{"type": "text"}]}, "input[0].text"),
        ("/v1/moderations", {"input": [{"type": "audio"}]}, "input[0].type"),
        ("/v1/moderations", {"input": "a", "model": ["b"]}, "model"),
        (
            "/v1/classify",
            {"input": ["a", {"messages": [{"role": "user", "content": 1}]}]},
            "input[1].messages[0].content",
        ),
        (
            "/v1/classify",
            {"input": {"messages": [{"role": "boss", "content": "a"}]}},
            "input.messages[0].role",
        ),
    ],
)
def test_fields_within_fields_are_named(
    client: TestClient, path: str, body: dict[str, Any], param: str
) -> None:
    assert error_of(client, path, body)["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "taken"),
    [
        ("DELETE", "/v1/features", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/v1/models/fake", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("GET", "/v1alpha1/comments:analyze", "POST"),
    ],
)
def test_other_methods_are_listed(client: TestClient, method: str, path: str, taken: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.json()["error"]["message"] == f"this path takes {taken}"
    assert answer.headers["allow"] == taken


@pytest.mark.parametrize(
    ("path", "more", "ways"),
    [
        ("/v1/classify", {}, ['"window"', '"truncate"']),
        ("/v1/classify", {"overflow": "error"}, ['"window"', '"truncate"']),
        ("/v1/features", {"overflow": "error"}, ['"truncate"', "in parts"]),
        ("/v1/embeddings", {"overflow": "error"}, ['"truncate"', "in parts"]),
    ],
)
def test_too_many_tokens_are_counted_and_both_ways_out_are_told(
    client: TestClient, path: str, more: dict[str, str], ways: list[str]
) -> None:
    body = {"input": ["a", "b " * 1234], **more}
    error = error_of(client, path, body)
    assert error["code"] == "input_too_long"
    assert error["param"] == "input[1]"
    n_tokens = client.post("/v1/tokenize", json={"input": body["input"][1]}).json()["usage"]
    assert f"input[1] has {n_tokens['total_tokens']} tokens" in error["message"]
    assert "the limit is 1024" in error["message"]
    assert all(way in error["message"] for way in ways)
    for overflow in {"window", "truncate"} & {way.strip('"') for way in ways}:
        assert client.post(path, json=body | {"overflow": overflow}).status_code == 200


def test_too_many_characters_are_counted(client: TestClient) -> None:
    error = error_of(client, "/v1/classify", {"input": "a" * 65_537})
    assert "input has 65537 characters, but the limit is 65536" in error["message"]
    assert "in parts" in error["message"]
    assert "max_input_chars" in error["message"]
