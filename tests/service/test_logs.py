"""The event log says what happened and never what anybody wrote."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.logs import configure_logging, log_exception
from service.settings import load_settings
from tests.service.fakes import fake_catalog

CANARY = "canary-in-the-text"


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def every_text_route(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Requests of all kinds; some routes read a text in more than one way."""
    comment = {"comment": {"text": f"Well. {text}"}, "requestedAttributes": {"TOXICITY": {}}}
    perspective = f"/v1alpha1/comments:analyze?key={CANARY}-key"
    paths = ("features", "classify", "embeddings", "moderations", "tokenize")
    return [
        *((f"/v1/{path}", {"input": ["fine", text]}) for path in paths),
        *(("/v1/features", {"input": text, "granularity": kind}) for kind in ("prefix", "token")),
        ("/v1/classify", {"input": f"{text} " * 300, "overflow": "window"}),
        ("/v1/inspect", {"input": text}),
        ("/v1/inspect", {"input": ["fine", text]}),
        ("/v1/moderations", {"input": [{"type": "text", "text": text}]}),
        (perspective, comment),
        (perspective, comment | {"spanAnnotations": True}),
    ]


def test_no_text_of_any_request_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(api_keys=f"alice:{CANARY}-key", log_level="debug")
    app = create_app(settings, load=lambda _, listener: fake_catalog(listener=listener))
    headers = {"x-api-key": f"{CANARY}-key"}
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        for text in (
            CANARY,
            f"{CANARY} POISON",
            f"{CANARY} NAN",
            f"{CANARY} HUGE",
            "\ud800" + CANARY,
        ):
            for path, body in every_text_route(text):
                client.post(
                    path,
                    content=json.dumps(body),
                    headers=headers | {"content-type": "application/json"},
                )
        client.post("/v1/features", content=CANARY, headers=headers)
        many = {"input": [f"{CANARY} " * 1024] * 5, "granularity": "token"}
        assert client.post("/v1/features", json=many, headers=headers).status_code == 413
        client.post("/v1/features", json={CANARY: 1, "model": CANARY}, headers=headers)
        client.get(f"/{CANARY}?{CANARY}={CANARY}", headers=headers | {"user-agent": CANARY})
        client.get("/v1/models", headers={"x-api-key": f"{CANARY}-other"})
        client.request(CANARY.upper(), "/v1/models", headers=headers)
        client.post("/v1/classify", json={"input": f"{CANARY} DIE"}, headers=headers)
    captured = capsys.readouterr()
    assert CANARY not in (captured.out + captured.err).lower()
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert {line["event"] for line in lines} >= {"ready", "request", "batch_retried"}
    requests = [line for line in lines if line["event"] == "request"]
    documented = app.openapi()["paths"].items()
    texts = {re.sub("^/v1/", "/", path) for path, methods in documented if "post" in methods}
    for route in texts:
        statuses = {line["status"] for line in requests if line["route"] == route}
        assert statuses >= ({200, 400} if route == "/tokenize" else {200, 400, 413, 422, 500})


def test_a_request_is_one_line(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    client.post("/v1/classify", json={"input": ["a b", "c"]}, headers={"x-request-id": "mine"})
    (line,) = events(capsys)
    assert (
        line.items()
        >= {
            "event": "request",
            "level": "info",
            "request_id": "mine",
            "method": "POST",
            "route": "/classify",
            "status": 200,
            "inputs": 2,
            "tokens": 3,
        }.items()
    )
    assert {"time", "queue_ms", "inference_ms", "total_ms"} <= line.keys()
    assert "code" not in line


def test_probes_are_quiet(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    capsys.readouterr()
    for path in ("/healthz", "/readyz", "/metrics"):
        client.get(path)
    assert events(capsys) == []
    client.app.state.lifecycle.failed(RuntimeError())  # type: ignore[attr-defined]
    client.get("/healthz")
    assert [line["status"] for line in events(capsys)] == [503]


def test_an_unexpected_error_is_found_by_its_request_id(
    client: TestClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise RuntimeError(CANARY) from error

    monkeypatch.setattr("service.routes.models.describe_model", fail)
    configure_logging("info")
    answer = client.get("/v1/models", headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "mine" in answer.json()["error"]["message"]
    text = capsys.readouterr().err
    assert CANARY not in text
    assert CANARY not in answer.text
    error, request = map(json.loads, text.splitlines())
    assert (error["request_id"], error["exception"]) == ("mine", "RuntimeError")
    assert error["frames"][-1].endswith(" fail")
    assert error["cause"]["exception"] == "KeyError"
    assert (request["status"], request["code"]) == (500, "internal_error")


def test_records_of_other_libraries_only_say_where_they_come_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info")
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        logging.getLogger("transformers").exception(CANARY)
        log_exception("event", error)
    foreign, own = events(capsys)
    assert (foreign["event"], foreign["logger"]) == ("foreign", "transformers")
    assert "test_logs.py" in foreign["where"]
    assert foreign["exception"] == own["exception"] == "ValueError"
    assert CANARY not in json.dumps([foreign, own])


def test_the_access_log_of_uvicorn_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    """As uvicorn configures it when it starts the app itself."""
    from uvicorn.config import Config

    Config("service.app:create_app", factory=True)
    configure_logging("info")
    access = logging.getLogger("uvicorn.access")
    assert not access.hasHandlers()  # what uvicorn asks
    logging.getLogger("uvicorn.error").warning("fine")
    assert [line["event"] for line in events(capsys)] == ["fine"]


def test_a_closed_standard_error_fails_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    configure_logging("info")
    monkeypatch.setattr(sys, "stderr", Broken())
    assert client.get("/v1/models").status_code == 200
