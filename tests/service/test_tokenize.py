"""/v1/tokenize: ids and places."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.models import ModelCatalog
from tests.service.fakes import token_of


def test_ids_and_offsets(client: TestClient) -> None:
    text = "one 😀 two"
    answer = client.post("/v1/tokenize", json={"input": text}).json()
    (row,) = answer["data"]
    assert row["ids"] == [token_of(word) for word in text.split()]
    assert "".join(text[begin:end] for begin, end in row["offsets"]) == text
    assert (row["n_tokens"], row["truncated"]) == (3, False)


def test_the_ids_are_what_the_other_routes_read(client: TestClient) -> None:
    text = "some text </s> with a special token's name"
    ids = client.post("/v1/tokenize", json={"input": text}).json()["data"][0]["ids"]
    features = [
        client.post("/v1/features", json={"input": value}).json()["data"][0]["values"]
        for value in (text, ids)
    ]
    assert features[0] == features[1]


def test_a_long_text_is_told_whole(client: TestClient) -> None:
    answer = client.post("/v1/tokenize", json={"input": ["x", ("w " * 1025).strip()]}).json()
    rows = [(row["n_tokens"], len(row["ids"]), row["truncated"]) for row in answer["data"]]
    assert rows == [(1, 1, False), (1025, 1025, True)]
    assert answer["max_input_tokens"] == 1024


def test_a_text_beyond_the_models_positions_is_told(
    client: TestClient, catalog: ModelCatalog
) -> None:
    """As its features are cut, whatever the setting would allow."""
    catalog.get(None).max_tokens = 7
    request = {"input": "w w w w w w w w"}
    answer = client.post("/v1/tokenize", json=request).json()
    (row,) = answer["data"]
    assert (answer["max_input_tokens"], row["n_tokens"], row["truncated"]) == (7, 8, True)
    (row,) = client.post("/v1/features", json=request).json()["data"]
    assert (row["n_tokens"], row["truncated"]) == (7, True)


def test_token_ids_have_no_place(client: TestClient) -> None:
    (row,) = client.post("/v1/tokenize", json={"input": [5, 6]}).json()["data"]
    assert (row["ids"], row["offsets"], row["n_tokens"]) == ([5, 6], None, 2)


@pytest.mark.parametrize("name", ["</s>", "<|im_end|>"])
def test_names_of_special_tokens_stay_text(client: TestClient, name: str) -> None:
    (row,) = client.post("/v1/tokenize", json={"input": name}).json()["data"]
    assert row["ids"] == [token_of(name)]
