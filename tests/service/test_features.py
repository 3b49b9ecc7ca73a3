"""/v1/features: the numbers of every input, in order, as JSON and as Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from service.models import ModelCatalog
from splinellm.schema import PAPER_FEATURES
from splinellm.table import FeatureTable
from tests.service.fakes import N_LAYERS, fake_values, token_of

ARROW = "application/vnd.apache.arrow.stream"


def expected(text: str, layers: tuple[int, ...], features: tuple[str, ...]) -> np.ndarray:
    ids = [token_of(word) for word in text.split()]
    return fake_values(ids, layers, features, 32).reshape(len(layers), len(features))


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/features", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def refusal(client: TestClient, **body: Any) -> tuple[int, str, str | None]:
    answer = client.post("/v1/features", json=body)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_every_input_gets_its_own_numbers(client: TestClient) -> None:
    texts = ["one two three", "four", "five six"]
    answer = ask(client, input=texts)
    assert answer["layers"] == list(range(N_LAYERS))
    assert answer["feature_names"] == list(PAPER_FEATURES)
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    for index, (text, row) in enumerate(zip(texts, answer["data"], strict=True)):
        assert (row["index"], row["n_tokens"], row["truncated"]) == (
            index,
            len(text.split()),
            False,
        )
        values = np.array(row["values"], np.float32)
        np.testing.assert_array_equal(
            values, expected(text, tuple(range(N_LAYERS)), PAPER_FEATURES)
        )


def test_token_ids_are_the_text_they_stand_for(client: TestClient) -> None:
    ids = [token_of("one"), token_of("two")]
    rows = [
        ask(client, input=value)["data"][0]["values"]
        for value in ("one two", ["one two"], ids, [ids])
    ]
    assert rows[1:] == rows[:1] * 3


@pytest.mark.parametrize("layers", ["0-1,5", [0, 1, 5], [5, -5, 0]])
def test_layers_and_features_are_chosen(client: TestClient, layers: Any) -> None:
    answer = ask(client, input="one", layers=layers, features=["sign_max", "sign_block_03"])
    assert answer["layers"] == [0, 1, 5]
    assert answer["feature_names"] == ["sign_max", "sign_block_03"]
    np.testing.assert_array_equal(
        np.array(answer["data"][0]["values"], np.float32),
        expected("one", (0, 1, 5), ("sign_max", "sign_block_03")),
    )


@pytest.mark.parametrize("granularity", ["prompt", "prefix", "token"])
@pytest.mark.parametrize(
    ("features", "name"),
    [
        ("sign_entropy", "sign_entropy"),
        (["sign_entropy_std", "sign_entropy_mean"], "sign_entropy"),
        ("complexity:0.05", "complexity_0.05"),
        (["complexity_0.05_std", "complexity"], "complexity_0.05"),
    ],
)
def test_later_statistics(client: TestClient, features: Any, name: str, granularity: str) -> None:
    both = (f"{name}_mean", f"{name}_std")
    names = (name,) if granularity == "token" else both
    answer = ask(client, input="one", layers=0, features=features, granularity=granularity)
    assert answer["feature_names"] == list(names)
    values = np.array([row["values"] for row in answer["data"]], np.float32)
    assert values.shape == (1, 1, len(names))
    if granularity != "token":
        np.testing.assert_array_equal(values[0], expected("one", (0,), both))


def test_a_long_text_is_cut_and_says_so_or_refused(client: TestClient) -> None:
    text = "w " * 1500
    row = ask(client, input=text.strip())["data"][0]
    assert (row["n_tokens"], row["truncated"]) == (1024, True)
    kept = expected(" ".join(["w"] * 1024), tuple(range(N_LAYERS)), PAPER_FEATURES)
    np.testing.assert_array_equal(np.array(row["values"], np.float32), kept)
    assert refusal(client, input=["x", text.strip()], overflow="error") == (
        400,
        "input_too_long",
        "input[1]",
    )


def test_arrow_has_the_same_rows_and_their_provenance(
    client: TestClient, catalog: ModelCatalog
) -> None:
    body = {"input": ["one two", ("w " * 1100).strip()], "layers": "0,4"}
    as_json = client.post("/v1/features", json=body).json()
    answer = client.post("/v1/features", json=body, headers={"accept": ARROW})
    assert answer.headers["content-type"] == ARROW
    table = FeatureTable.from_arrow(pa.ipc.open_stream(answer.content).read_all())
    model = catalog.default
    assert table.provenance == model.provenance(model.plan("0,4"))
    assert table.n_tokens.tolist() == [2, 1024]
    assert table.truncated.tolist() == [False, True]
    values = np.array([row["values"] for row in as_json["data"]], np.float32)
    np.testing.assert_array_equal(table.array, values)


def test_fingerprints_differ_where_numbers_may_not_be_compared(client: TestClient) -> None:
    prints = [
        ask(client, input="one", layers=layers)["fingerprint"] for layers in ("0-1", [1, 0], "0")
    ]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"input": []}, 400, "invalid_request", "input"),
        ({"input": ""}, 400, "invalid_prompt", "input"),
        ({"input": ["x", ""]}, 400, "invalid_prompt", "input[1]"),
        ({"input": ["x", 1]}, 400, "invalid_request", "input[1]"),
        ({"input": [1, "x"]}, 400, "invalid_prompt", "input"),
        ({"input": [True]}, 400, "invalid_prompt", "input"),
        ({"input": [[1], []]}, 400, "invalid_prompt", "input[1]"),
        ({"input": [[1], [2.5]]}, 400, "invalid_prompt", "input[1]"),
        ({"input": [[1], [50_000]]}, 400, "invalid_prompt", "input[1]"),
        ({"input": [[-1]]}, 400, "invalid_prompt", "input[0]"),
        ({"input": [None]}, 400, "invalid_request", "input[0]"),
        ({"input": {"a": 1}}, 400, "invalid_request", "input"),
        ({"input": None}, 400, "invalid_request", "input"),
        ({}, 400, "invalid_request", "input"),
        ({"input": ["x", "y" * 65_537]}, 400, "input_too_long", "input[1]"),
        ({"input": ["x"] * 257}, 413, "batch_too_large", "input"),
        ({"input": "x", "layers": "6"}, 400, "invalid_schema", None),
        ({"input": "x", "layers": [True]}, 400, "invalid_request", "layers"),
        ({"input": "x", "features": "sign"}, 400, "invalid_schema", None),
        ({"input": "x", "features": "blocks:0"}, 400, "invalid_schema", None),
        ({"input": "x", "model": "gpt-4"}, 404, "model_not_found", "model"),
        ({"input": "x", "layer": 1}, 400, "invalid_request", "layer"),
        ({"input": "x", "granularity": "words"}, 400, "invalid_request", "granularity"),
        ({"input": "x", "overflow": "window"}, 400, "invalid_request", "overflow"),
        ({"input": ["x", "NAN"]}, 422, "non_finite_features", "input[1]"),
        ({"input": ["x", "HUGE"]}, 413, "out_of_memory", "input[1]"),
        ({"input": ["x", "POISON"]}, 500, "inference_failed", "input[1]"),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient, body: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    assert refusal(client, **body) == (status, code, param)


def test_time_and_tokens_are_in_headers(client: TestClient) -> None:
    headers = client.post("/v1/features", json={"input": ["one two", "three"]}).headers
    assert headers["x-tokens"] == "3"
    assert float(headers["x-total-ms"]) >= float(headers["x-inference-ms"]) >= 0
