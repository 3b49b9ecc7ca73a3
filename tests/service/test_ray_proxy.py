"""What a client hears whose replica is gone. No Ray is needed: the proxy is any ASGI server."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from service.ray_proxy import CALLBACK, LostReplica, middlewares


def _client(app: ASGIApp) -> TestClient:
    ((made, arguments, options),) = middlewares()
    assert made is LostReplica
    return TestClient(LostReplica(app, *arguments, **options))


async def _silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """As Ray's proxy does when the actor has died."""


@pytest.mark.parametrize("path", ["/v1/features", "/v1/embeddings"])
def test_silence_is_a_503_that_asks_to_try_again(path: str) -> None:
    answer = _client(_silent).post(path, json={"input": "one"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == "not_ready"
    assert "replica" in error["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("status", [200, 429, 500])
def test_answers_pass(status: int) -> None:
    answer = _client(PlainTextResponse("said", status)).get("/v1/models")
    assert (answer.status_code, answer.text) == (status, "said")


def test_before_and_after_it_is_deployed_is_a_503_too() -> None:
    said = "Path '/v1/models' not found. Ping http://.../-/routes for available routes."
    answer = _client(PlainTextResponse(said, 404)).get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("said", ["", "nothing here", '{"error": "Path \'/x\' not found."}'])
def test_the_404_of_an_application_passes(said: str) -> None:
    answer = _client(PlainTextResponse(said, 404)).get("/v1/models")
    assert (answer.status_code, answer.text) == (404, said)


def test_an_answer_has_one_id() -> None:
    async def twice(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"x-request-id", b"ours"), (b"x-tokens", b"3"), (b"X-Request-Id", b"Ray's")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"said"})

    answer = _client(twice).get("/v1/models")
    assert answer.headers.get_list("x-request-id") == ["ours"]
    assert answer.headers["x-tokens"] == "3"


def test_what_was_cut_off_is_not_answered_twice() -> None:
    async def cut(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ConnectionError

    with pytest.raises(ConnectionError):
        _client(cut).get("/v1/models")


def test_the_callback_is_where_ray_will_look_for_it() -> None:
    module, _, name = CALLBACK.partition(":")
    assert (module, name) == (middlewares.__module__, middlewares.__name__)
