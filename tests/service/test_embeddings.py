"""/v1/embeddings: OpenAI's format, as raw JSON. test_openai_client.py asks with the client."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from splinellm.schema import PAPER_FEATURES
from tests.service.fakes import N_LAYERS


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_the_vector_is_the_features_layer_by_layer(client: TestClient) -> None:
    body = {"input": ["one two", "three"], "layers": [4, 1]}
    rows = client.post("/v1/features", json=body).json()["data"]
    answer = ask(client, **body)
    assert answer["object"] == "list"
    assert (answer["layers"], answer["feature_names"]) == ([1, 4], list(PAPER_FEATURES))
    for index, (vector, row) in enumerate(zip(answer["data"], rows, strict=True)):
        assert (vector["object"], vector["index"]) == ("embedding", index)
        assert vector["embedding"] == [value for layer in row["values"] for value in layer]


def test_base64_is_the_same_little_endian_float32(client: TestClient) -> None:
    numbers = ask(client, input="one", encoding_format="float")["data"][0]["embedding"]
    packed = ask(client, input="one", encoding_format="base64")["data"][0]["embedding"]
    unpacked = np.frombuffer(base64.b64decode(packed), "<f4")
    np.testing.assert_array_equal(unpacked, np.array(numbers, np.float32))


def test_dimensions_may_only_be_what_they_are(client: TestClient) -> None:
    length = N_LAYERS * len(PAPER_FEATURES)
    assert len(ask(client, input="x", dimensions=length)["data"][0]["embedding"]) == length
    answer = client.post("/v1/embeddings", json={"input": "x", "dimensions": length - 1})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "dimensions"


def test_fields_of_other_clients_are_ignored(client: TestClient) -> None:
    assert ask(client, input="x", user="u", model="fake", input_type="query")["model"] == "fake"


def test_cut_inputs_are_told(client: TestClient) -> None:
    answer = ask(client, input=["x", ("w " * 1025).strip()])
    assert answer["truncated"] == [False, True]
    assert answer["usage"]["prompt_tokens"] == 1 + 1024


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"encoding_format": "int8"}, 400, "encoding_format"),
        ({"model": "text-embedding-3-small"}, 404, "model"),
        ({"dimensions": 0}, 400, "dimensions"),
        ({"input": [[50_000]]}, 400, "input[0]"),
        ({"input": []}, 400, "input"),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient, change: dict[str, Any], status: int, param: str
) -> None:
    answer = client.post("/v1/embeddings", json={"input": "x"} | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
