"""/v1/features with a row for every prefix or every token."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import EngineLimits, SilentListener
from service.models import ModelCatalog, ServedModel
from service.routes import call
from service.schemas.features import MAX_TOKEN_NUMBERS, MAX_TOKEN_ROWS
from service.settings import Settings
from splinellm import SplineExtractor
from splinellm.schema import PAPER_FEATURES, Granularity
from splinellm.table import FeatureTable
from tests.service.fakes import N_LAYERS, backbone_of, fake_token_values, token_of

ARROW = "application/vnd.apache.arrow.stream"
KINDS: list[Granularity] = ["prefix", "token"]
OF_A_TOKEN = ("sign_fraction", "hyperplane_distance", "intrinsic_dimension")
TEXTS = ["one two  three", "four 😀"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Granularity:
    granularity: Granularity = request.param
    return granularity


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/features", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def expected(ids: list[int], position: int, kind: Granularity) -> np.ndarray:
    features = PAPER_FEATURES if kind == "prefix" else OF_A_TOKEN
    values = fake_token_values(ids, position, kind, range(N_LAYERS), features, 32)
    return values.reshape(N_LAYERS, len(features))


def check_values(rows: list[dict[str, Any]], texts: list[str], kind: Granularity) -> None:
    words = [[token_of(word) for word in text.split()] for text in texts]
    places = [(index, i) for index, ids in enumerate(words) for i in range(len(ids))]
    assert [(row["index"], row["position"]) for row in rows] == places
    for (index, i), row in zip(places, rows, strict=True):
        values = np.array(row["values"], np.float32)
        np.testing.assert_array_equal(values, expected(words[index], i, kind))


def test_every_token_has_its_row_and_its_place(client: TestClient, kind: Granularity) -> None:
    answer = ask(client, input=TEXTS, granularity=kind)
    assert answer["feature_names"] == list(PAPER_FEATURES if kind == "prefix" else OF_A_TOKEN)
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    rows = answer["data"]
    check_values(rows, TEXTS, kind)
    assert [row["token"] for row in rows] == ["one", " two", "  three", "four", " 😀"]
    assert [(row["begin"], row["end"]) for row in rows] == [(0, 3), (3, 7), (7, 14), (0, 4), (4, 6)]
    assert [row["n_tokens"] for row in rows] == (
        [1, 2, 3, 1, 2] if kind == "prefix" else [3, 3, 3, 2, 2]
    )
    assert not any(row["truncated"] for row in rows)


def test_token_ids_have_no_place_in_a_text(client: TestClient, kind: Granularity) -> None:
    ids = [token_of("one"), token_of("two")]
    rows = ask(client, input=[ids], granularity=kind)["data"]
    check_values(rows, ["one two"], kind)
    assert [(row["begin"], row["end"]) for row in rows] == [(None, None)] * 2
    assert [row["token"] for row in rows] == [f" #{token}" for token in ids]


def test_equal_texts_are_computed_once_but_have_their_own_rows(
    client: TestClient, catalog: ModelCatalog, kind: Granularity
) -> None:
    """Equal for the model: the space between their words is not the same."""
    rows = ask(client, input=["a b", "c", "a  b"], granularity=kind)["data"]
    check_values(rows, ["a b", "c", "a b"], kind)
    assert [row["token"] for row in rows] == ["a", " b", "c", "a", "  b"]
    assert sum(map(len, backbone_of(catalog.default).seen)) == 2


def test_a_long_text_is_cut_and_its_rows_say_so(client: TestClient, kind: Granularity) -> None:
    text = " ".join(f"w{i}" for i in range(1030))
    rows = ask(client, input=["x", text], granularity=kind, layers=0, features="sign_mean")["data"]
    assert len(rows) == 1 + 1024
    assert [row["truncated"] for row in rows] == [False] + [True] * 1024
    last = rows[-1]
    assert (last["token"], last["n_tokens"], last["position"]) == (" w1023", 1024, 1023)
    assert text[last["begin"] : last["end"]] == last["token"]


def test_arrow_has_the_same_rows(
    client: TestClient, catalog: ModelCatalog, kind: Granularity
) -> None:
    long = ("w " * 1100).strip()
    body = {"input": ["one two", long], "layers": "0,4", "granularity": kind}
    rows = client.post("/v1/features", json=body).json()["data"]
    answer = client.post("/v1/features", json=body, headers={"accept": ARROW})
    assert answer.headers["content-type"] == ARROW
    stream = pa.ipc.open_stream(answer.content).read_all()
    assert stream.column_names[:7] == [
        *("row", "position", "token", "begin", "end", "n_tokens", "truncated")
    ]
    names = {"index": "row"}
    for name in ("index", "position", "token", "begin", "end", "n_tokens", "truncated"):
        assert stream[names.get(name, name)].to_pylist() == [row[name] for row in rows]
    table = FeatureTable.from_arrow(stream)
    model = catalog.default
    assert table.provenance == model.provenance(model.plan("0,4", granularity=kind))
    np.testing.assert_array_equal(
        table.array, np.array([row["values"] for row in rows], np.float32)
    )


def test_fingerprints_tell_kinds_of_rows_apart(client: TestClient) -> None:
    prints = {
        ask(client, input="x", granularity=kind)["fingerprint"] for kind in ("prompt", *KINDS)
    }
    assert len(prints) == 3


def test_kinds_of_rows_at_the_same_time(client: TestClient, catalog: ModelCatalog) -> None:
    """Of equal texts, batched apart, one in seven poisoned: everybody gets what is theirs."""
    kinds: list[Granularity] = ["prompt", *KINDS]

    def body(number: int) -> dict[str, Any]:
        texts = ["a text of all", f"own {number}", "a text"][: 1 + number % 3]
        if number % 7 == 6:
            texts.append("this is POISON")
        return {"input": texts, "granularity": kinds[number // 3 % 3]}

    def one(number: int) -> tuple[int, Any]:
        answer = client.post("/v1/features", json=body(number))
        return answer.status_code, answer.json()

    alone = [one(number) for number in range(28)]
    gate = backbone_of(catalog.default).gate
    with ThreadPoolExecutor(29) as pool:
        blocking = pool.submit(client.post, "/v1/features", json={"input": "BLOCK"})
        gate.wait_until_entered()
        waiting = [pool.submit(one, number) for number in range(28)]
        n_inputs = sum(len(body(number)["input"]) for number in range(28))
        while catalog.default.engine.queued_inputs < n_inputs and not any(
            future.done() for future in waiting
        ):
            pass
        gate.open()
        together = [future.result() for future in waiting]
        blocking.result()
    for number, (before, now) in enumerate(zip(alone, together, strict=True)):
        if number % 7 == 6:
            error = now[1]["error"]
            param = f"input[{1 + number % 3}]"
            assert (now[0], error["code"], error["param"]) == (500, "inference_failed", param)
        else:
            assert now[0] == 200
            assert now == before


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"input": ["x", "y NAN"]}, 422, "non_finite_features", "input[1]"),
        ({"input": ["x", "HUGE y"]}, 413, "out_of_memory", "input[1]"),
        ({"input": ["x", "POISON"]}, 500, "inference_failed", "input[1]"),
        ({"input": ["x", ""]}, 400, "invalid_prompt", "input[1]"),
        ({"input": "w " * 1100, "overflow": "error"}, 400, "input_too_long", "input"),
        ({"input": "x", "features": "sign_fraction"}, 400, "invalid_schema", None),
        ({"input": "x", "layers": "6"}, 400, "invalid_schema", None),
    ],
)
def test_what_is_wrong_is_named(
    client: TestClient,
    kind: Granularity,
    body: dict[str, Any],
    status: int,
    code: str,
    param: str | None,
) -> None:
    answer = client.post("/v1/features", json=body | {"granularity": kind})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


def test_too_many_rows_are_refused_before_anything_is_computed(
    client: TestClient, catalog: ModelCatalog, kind: Granularity
) -> None:
    """What is cut does not count, nor does anything where rows stand for prompts."""
    seen = backbone_of(catalog.default).seen
    full = [("w " * 1500).strip()] * (MAX_TOKEN_ROWS // 1024)
    small = {"layers": 0, "features": "sign_mean"}
    answer = client.post("/v1/features", json={"input": [*full, "x"], "granularity": kind} | small)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (413, "batch_too_large", "input")
    assert str(MAX_TOKEN_ROWS) in error["message"]
    assert seen == []
    assert len(ask(client, input=full, granularity=kind, **small)["data"]) == MAX_TOKEN_ROWS
    assert len(ask(client, input=[*full, "x"], **small)["data"]) == len(full) + 1


def test_too_many_numbers_are_refused_before_anything_is_computed(
    client: TestClient, catalog: ModelCatalog, kind: Granularity
) -> None:
    """Thousands of sign blocks in every layer, of every token."""
    n_tokens = MAX_TOKEN_NUMBERS // (N_LAYERS * 9999) + 1
    body = {"input": "w " * n_tokens, "features": "blocks:9999", "granularity": kind}
    answer = client.post("/v1/features", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (413, "batch_too_large")
    assert str(MAX_TOKEN_NUMBERS) in error["message"]
    assert backbone_of(catalog.default).seen == []


def test_texts_are_found_and_large_answers_are_written_in_the_pool(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: Granularity
) -> None:
    """On the event loop they would keep everybody else waiting."""
    tasks = []
    in_pool = call.Call.in_pool

    async def recorded(self: call.Call, task: Any, *args: Any, **options: Any) -> Any:
        tasks.append(task.__name__)
        return await in_pool(self, task, *args, **options)

    monkeypatch.setattr(call.Call, "in_pool", recorded)
    ask(client, input="a b c d e", granularity=kind)
    assert tasks[-2:] == ["table", "<lambda>"]


@pytest.fixture
def real(default_extractor: SplineExtractor) -> Iterator[TestClient]:
    """The default model behind HTTP."""
    model = ServedModel(
        "smollm2-135m",
        default_extractor.backbone,
        limits=EngineLimits(batch_wait_s=0),
        listener=SilentListener(),
        max_tokens=1024,
    )
    model.engine.start()
    catalog = ModelCatalog([model], [])
    app = create_app(Settings(), load=lambda *_: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        yield client
    assert catalog.stop(60)


@pytest.mark.model
def test_the_default_model_answers_what_extract_gives(
    real: TestClient, default_extractor: SplineExtractor, kind: Granularity
) -> None:
    texts = ["The capital of France is", "def f(): 😀"]
    answer = ask(real, input=texts, features="paper,blocks", granularity=kind)
    table = default_extractor.extract(texts, granularity=kind)
    rows = answer["data"]
    assert tuple(answer["feature_names"]) == table.provenance.features
    assert table.tokens is not None
    for name, column in {
        "index": table.tokens.row,
        "position": table.tokens.position,
        "begin": table.tokens.begin,
        "end": table.tokens.end,
        "n_tokens": table.n_tokens,
    }.items():
        assert [row[name] for row in rows] == column.tolist()
    assert [row["token"] for row in rows] == list(table.tokens.token)
    values = np.array([row["values"] for row in rows], np.float32)
    dimension = answer["feature_names"].index("intrinsic_dimension")
    np.testing.assert_array_equal(values[..., dimension], table.array[..., dimension])
    np.testing.assert_allclose(values, table.array, rtol=0, atol=1e-5)
