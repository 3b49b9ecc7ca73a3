"""What a bare app gets wrong, on every route that takes text: 400 or 413 in the one shape, or 200.

None of it may change what others are answered, and none of it may come back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import fake_catalog, token_of

CANARY = "canary-in-the-text"
PERSPECTIVE = "/v1alpha1/comments:analyze"
V1 = [
    "/v1/features",
    "/v1/classify",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/tokenize",
    "/classify",
]
ROUTES = [*V1, PERSPECTIVE]


def body_of(route: str, text: str) -> dict[str, Any]:
    if route == PERSPECTIVE:
        return {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}}
    return {"input": text}


def send(client: TestClient, route: str, content: bytes | str) -> tuple[int, str]:
    """Post and check that errors are in the one shape, ASCII, short and without the text."""
    answer = client.post(route, content=content, headers={"content-type": "application/json"})
    if answer.status_code != 200:
        assert answer.content.isascii()
        assert len(answer.content) < 600
        assert CANARY not in answer.text
        assert answer.headers["x-request-id"]
        error = answer.json()["error"]
        assert 0 < len(error["message"]) <= 200
        if route == PERSPECTIVE:
            assert error["code"] == answer.status_code
            return answer.status_code, error["details"][0]["reason"]
        assert set(error) == {"message", "type", "param", "code"}
        return answer.status_code, error["code"]
    return 200, ""


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """One service for all of this file: after whatever it is sent it has to go on."""
    catalog = fake_catalog()
    app = create_app(Settings(), load=lambda *_: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        yield client
    assert catalog.stop(30)


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


def test_a_lone_surrogate(client: TestClient, route: str) -> None:
    """Also in the middle of a text, and as half of a pair in the wrong order."""
    for text in ("\ud800", f"{CANARY} \udfff x", "\udc00\ud800"):
        status, code = send(client, route, json.dumps(body_of(route, text)))
        assert (status, code) in [(400, "invalid_prompt"), (400, "invalid_request")]


@pytest.mark.parametrize("path", V1)
def test_a_lone_surrogate_is_named_by_its_input(client: TestClient, path: str) -> None:
    content = json.dumps({"input": ["fine", "\ud800"]})
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "input[1]")
    assert "input[1]" in error["message"]


def test_a_lone_surrogate_anywhere_else(client: TestClient, route: str) -> None:
    """In a name or a key that an error might repeat."""
    for extra in ({"model": "\ud800"}, {"\ud800": 1}, {"clientToken": "\ud800"}):
        status, _ = send(client, route, json.dumps(body_of(route, "x") | extra))
        assert status in (200, 400, 404)


def test_a_name_that_is_no_text_is_called_so(client: TestClient) -> None:
    content = json.dumps({"input": "x", "\ud800": 1})
    headers = {"content-type": "application/json"}
    error = client.post("/v1/features", content=content, headers=headers).json()["error"]
    assert error["code"] == "invalid_request"
    assert error["message"] == "the name of a field is not valid Unicode"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_has_not(client: TestClient, route: str, number: str) -> None:
    content = json.dumps(body_of(route, "x"))[:-1] + f', "threshold": {number}}}'
    assert send(client, route, content) == (400, "invalid_json")
    if route != PERSPECTIVE:
        assert send(client, route, f'{{"input": [{number}]}}') == (400, "invalid_json")
        # With an escape a slower parser reads the body: it must not be more generous.
        escaped = f'{{"input": ["\\ud800", {number}]}}'
        assert send(client, route, escaped) == (400, "invalid_json")


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_a_hundred_thousand_brackets(client: TestClient, route: str, bracket: str) -> None:
    n = 100_000
    closing = {"[": "]", '{"a":': "}"}[bracket]
    for content in (bracket * n, f'{{"input": {bracket * n}1{closing * n}}}'):
        assert send(client, route, content) == (400, "invalid_json")


def test_a_byte_order_mark_is_ignored_once_at_the_beginning(client: TestClient, route: str) -> None:
    mark = b"\xef\xbb\xbf"
    for text in ("x", "x" * 70_000, "\ufeffx"):  # large bodies are read elsewhere
        content = json.dumps(body_of(route, text)).encode()
        assert send(client, route, mark + content) == send(client, route, content)
    assert send(client, route, mark + mark + content) == (400, "invalid_json")
    assert send(client, route, mark) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "the body is nested more than 64 deep"),
        (b'{"input": "\xc3\xa9\xff"}', "the body is not valid UTF-8: at byte 13"),
        ('{"input": "éé" x}'.encode(), "the body is not valid JSON: at byte 17"),
        ('\ufeff{"input": "éé" x}'.encode(), "the body is not valid JSON: at byte 20"),
    ],
    ids=["nested", "not UTF-8", "bytes, not characters", "behind a mark"],
)
def test_what_is_wrong_with_a_body_is_told(
    client: TestClient, content: bytes, message: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/classify", content=content, headers=headers)
    assert answer.json()["error"]["message"] == message


def test_a_hundred_megabytes(client: TestClient, route: str) -> None:
    """Announced: refused before a byte is read. In pieces without a length: after the limit."""
    headers = {"content-type": "application/json", "content-length": "100000000"}
    answer = client.post(route, content=b"{}", headers=headers)
    assert answer.status_code == 413
    n_sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal n_sent
        yield b'{"input": "'
        for _ in range(100):
            n_sent += 1
            yield CANARY.encode() * 58_000

    assert send(client, route, pieces()) == (413, "payload_too_large")  # type: ignore[arg-type]


def test_a_large_value_of_the_wrong_type(client: TestClient, route: str) -> None:
    large = [CANARY] * 60_000
    for field in ("input", "model", "layers", "comment", "languages", "requestedAttributes"):
        status, code = send(client, route, json.dumps({field: {"a": large}}))
        assert (status, code) == (400, "invalid_request")


def test_bytes_that_are_no_utf8(client: TestClient, route: str) -> None:
    for raw in (b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80"):
        content = json.dumps(body_of(route, "X")).encode().replace(b"X", raw)
        assert send(client, route, content) == (400, "invalid_json")
        assert send(client, route, raw) == (400, "invalid_json")


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b",
        "\u200b\u200d\ufeff",
        "😀👩‍👩‍👧‍👦",
        "\u202eright to left\u202c שלום",
        " ",
        "\n\n\t",
        "\x7f\x1b[31m",
    ],
    ids=["nul", "nul inside", "zero width", "emoji", "right to left", "space", "lines", "escape"],
)
def test_all_of_unicode_is_text(client: TestClient, route: str, text: str) -> None:
    for content in (
        json.dumps(body_of(route, text)),
        json.dumps(body_of(route, text), ensure_ascii=False).encode(),
    ):
        assert send(client, route, content) == (200, "")


@pytest.mark.parametrize("name", ["</s>", "<|im_end|>", "[INST]", "<s>"])
def test_names_of_special_tokens_stay_text(client: TestClient, name: str) -> None:
    text = f"x {name}"
    ids = client.post("/v1/tokenize", json={"input": text}).json()["data"][0]["ids"]
    assert ids == [token_of("x"), token_of(name)]
    for path in V1:
        assert send(client, path, json.dumps({"input": text})) == (200, "")


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"x"', b"1", b"{", b"\xef\xbb\xbf{}"])
def test_bodies_that_are_no_object(client: TestClient, route: str, content: bytes) -> None:
    status, code = send(client, route, content)
    assert (status, code) in [(400, "invalid_request"), (400, "invalid_json")]


def test_other_content_types(client: TestClient, route: str) -> None:
    content = json.dumps(body_of(route, CANARY))
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        answer = client.post(route, content=content, headers={"content-type": kind})
        assert answer.status_code == 400
        assert CANARY not in answer.text


def test_batch_mates_are_unharmed(client: TestClient) -> None:
    """Good and bad requests at the same time: the good get the numbers that they get alone."""
    texts = [f"text number {i}" for i in range(12)]
    alone = [client.post("/v1/features", json={"input": text}).json()["data"] for text in texts]
    bad = [
        json.dumps({"input": ["x", "\ud800"]}),
        json.dumps({"input": ["x", "POISON"]}),
        json.dumps({"input": "NAN"}),
        '{"input": [NaN]}',
        json.dumps({"input": [[10**9]]}),
        "[" * 10_000,
    ]

    def ask(position: int) -> Any:
        if position % 2:
            content = bad[position // 2 % len(bad)]
            status, _ = send(client, "/v1/features", content)
            assert status >= 400
            return None
        return client.post("/v1/features", json={"input": texts[position // 2]}).json()["data"]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, range(2 * len(texts))))
    assert together[::2] == alone
