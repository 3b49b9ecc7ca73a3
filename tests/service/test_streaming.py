"""/v1/classify with a body of lines: a verdict for every delta, while the text still grows."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from service.errors import ClientClosedError
from service.growing import Lines
from tests.service.fakes import backbone_of, token_of
from tests.service.test_gone import until
from tests.service.wire import TIMEOUT_S, Wire, wired

NDJSON = "application/x-ndjson"
Events = list[tuple[str, dict[str, Any]]]


def body_of(*lines: Any) -> str:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)


def events_of(text: str) -> Events:
    found = []
    for block in text.split("\n\n")[:-1]:
        kind, data = block.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def ask(client: TestClient, *lines: Any, **headers: str) -> Events:
    answer = client.post(
        "/v1/classify", content=body_of(*lines), headers={"content-type": NDJSON, **headers}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


def deltas(*texts: str) -> list[dict[str, str]]:
    return [{"delta": text} for text in texts]


class Duplex:
    """A client that reads the answer to one line before it sends the next."""

    def __init__(self, url: str, **headers: str) -> None:
        address = urlsplit(url)
        self.connection = http.client.HTTPConnection(
            str(address.hostname), address.port, timeout=30
        )
        self.connection.putrequest("POST", "/v1/classify")
        for name, value in {
            "content-type": NDJSON,
            "transfer-encoding": "chunked",
            **headers,
        }.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()
        self.answer: http.client.HTTPResponse | None = None

    def send(self, line: Any) -> None:
        data = json.dumps(line).encode() + b"\n"
        self.connection.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.connection.send(b"0\r\n\r\n")

    def event(self) -> tuple[str, dict[str, Any]]:
        self.answer = self.answer or self.connection.getresponse()
        assert self.answer.status == 200
        text = "".join(self.answer.readline().decode() for _ in range(3))
        (found,) = events_of(text)
        return found


@contextmanager
def duplex(url: str, **headers: str) -> Iterator[Duplex]:
    client = Duplex(url, **headers)
    try:
        yield client
    finally:
        client.connection.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with wired() as wire:
        yield wire


def test_each_delta_has_the_verdict_of_the_text_so_far(client: TestClient) -> None:
    parts = ["a calm", " text that", " turns toxic", " at its end"]
    *verdicts, (kind, done) = ask(client, {"classifier": "toxicity"}, *deltas(*parts))
    assert (kind, done["verdicts"]) == ("done", 4)
    assert done["usage"]["total_tokens"] == 2 + 4 + 6 + 9
    for i, (kind, event) in enumerate(verdicts):
        body = {"input": "".join(parts[: i + 1]), "stream": True}
        (alone,) = client.post("/v1/classify", json=body).json()["data"]
        assert (kind, event) == ("verdict", {**alone, "index": i})
    assert [event["label"] for _, event in verdicts] == ["clean", "clean", "toxic", "toxic"]


def test_the_answer_of_a_conversation_grows(client: TestClient) -> None:
    history = [{"role": "user", "content": "toxic?"}]
    first = {"input": {"messages": history}, "classifier": "toxicity-types"}
    *verdicts, _ = ask(client, first, *deltas("", "no", " insult"))
    nothing, *rest = [event for _, event in verdicts]
    assert (nothing["label"], nothing["probabilities"], nothing["n_tokens"]) == (None, {}, 0)
    for event, text in zip(rest, ["no", "no insult"], strict=True):
        messages = [*history, {"role": "assistant", "content": text}]
        body = {"input": {"messages": messages}, "classifier": "toxicity-types"}
        (alone,) = client.post("/v1/classify", json=body).json()["data"]
        assert {**alone, "index": event["index"]} == event
    begun = [*history, {"role": "assistant", "content": "no"}]
    events = ask(client, {**first, "input": {"messages": begun}}, *deltas(" insult"))
    assert events[0][1]["probabilities"] == rest[1]["probabilities"]


def test_an_empty_delta_costs_nothing(client: TestClient, catalog: Any) -> None:
    events = ask(client, {}, *deltas("some text", "", ""))
    assert [event["n_tokens"] for _, event in events[:-1]] == [2, 2, 2]
    assert events[-1][1]["usage"]["total_tokens"] == 2
    (model,) = (catalog.get(name) for name in catalog.names)
    assert len(backbone_of(model).seen) == 1


def test_blank_lines_and_a_missing_last_line_break_are_fine(client: TestClient) -> None:
    assert len(ask(client, {}, "", '{"delta": "a"}\r', "  ", {"delta": "b"})) == 3
    assert len(ask(client, "\ufeff{}", {"delta": "a"})) == 2


@pytest.mark.parametrize(
    ("lines", "code", "param"),
    [
        ([], "invalid_request", None),
        (["{"], "invalid_json", None),
        (["[]"], "invalid_request", None),
        ([{"classifier": "none"}], "classifier_not_found", None),
        ([{"stream": False}], "invalid_request", "stream"),
        ([{"input": ["a", "b"]}], "invalid_request", "input"),
        ([{"input": {"messages": []}}], "invalid_conversation", "input.messages"),
        (
            [{"input": {"messages": [{"role": "tool", "content": "x"}]}}],
            "invalid_conversation",
            "input.messages[0].role",
        ),
        ([{"count": "last"}], "invalid_request", "count"),
        ([{"spans": True}], "spans_unavailable", "spans"),
    ],
)
def test_a_wrong_first_line_is_an_ordinary_error(
    client: TestClient, lines: list[Any], code: str, param: str | None
) -> None:
    answer = client.post("/v1/classify", content=body_of(*lines), headers={"content-type": NDJSON})
    error = answer.json()["error"]
    assert answer.status_code in (400, 404)
    assert error["code"] == code
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("{", "invalid_json", "deltas[1]"),
        ("[1e999]", "invalid_json", "deltas[1]"),
        ('{"delta": 5}', "invalid_request", "deltas[1].delta"),
        ('{"delta": "a", "more": 1}', "invalid_request", "deltas[1]"),
        ('"secret words"', "invalid_request", "deltas[1]"),
        ('{"delta": "\\ud800"}', "invalid_prompt", "deltas[1].delta"),
        ('{"delta": "NAN"}', "non_finite_features", "input"),
        ('{"delta": "POISON"}', "inference_failed", "input"),
    ],
)
def test_a_wrong_line_ends_the_stream_with_one_event(
    client: TestClient, line: str, code: str, param: str | None
) -> None:
    events = ask(client, {}, {"delta": "fine "}, line, {"delta": "never read"})
    assert [kind for kind, _ in events] == ["verdict", "error"]
    error = events[1][1]["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert "secret" not in error["message"]


def test_a_text_beyond_the_limit_ends_the_stream(client: TestClient) -> None:
    parts = deltas(*["w " * 600] * 2)
    events = ask(client, {"overflow": "error"}, *parts)
    assert [kind for kind, _ in events] == ["verdict", "error"]
    assert events[1][1]["error"]["code"] == "input_too_long"
    events = ask(client, {"overflow": "window"}, *parts)
    assert [kind for kind, _ in events] == ["verdict", "verdict", "done"]


def test_a_client_hears_of_one_delta_before_it_sends_the_next(wire: Wire) -> None:
    """It stops another server's answer in the middle."""
    answer: Iterable[str] = iter(["so", " far", " so toxic", " that nobody", " wants it"])
    passed_on = []
    with duplex(wire.url) as client:
        client.send({"classifier": "toxicity"})
        for text in answer:
            client.send({"delta": text})
            kind, verdict = client.event()
            assert kind == "verdict"
            if verdict["label"] == "toxic":
                break
            passed_on.append(text)
    assert passed_on == ["so", " far"]
    assert next(iter(answer)) == " that nobody"
    route = 'requests_total{code="client_closed_request",route="/classify",status="200"}'
    until(lambda: wire.metric(f"{route} 1.0"))


def test_nobody_computes_for_a_client_that_has_gone(wire: Wire) -> None:
    (model,) = (wire.catalog.get(name) for name in wire.catalog.names)
    backbone = backbone_of(model)
    with duplex(wire.url) as client:
        client.send({})
        client.send({"delta": "BLOCK"})
        backbone.gate.wait_until_entered()
        client.send({"delta": " unread"})
    # Only now has the service heard of it: the engine is still in the batch.
    route = 'requests_total{code="client_closed_request",route="/classify",status="200"}'
    until(lambda: wire.metric(f"{route} 1.0"))
    backbone.gate.open()
    answer = httpx2.post(f"{wire.url}/v1/classify", json={"input": "fine"}, timeout=TIMEOUT_S)
    assert answer.status_code == 200
    assert any(token_of("fine") in ids for batch in backbone.seen for ids in batch)
    assert not any(token_of("unread") in ids for batch in backbone.seen for ids in batch)


def test_lines_of_a_client_that_has_gone_are_left() -> None:
    messages = [
        {"type": "http.request", "body": b"one\ntwo\n", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def listen() -> None:
        lines = Lines(receive)
        lines.open()
        await lines.gone()
        with pytest.raises(ClientClosedError):
            await lines.next(lambda: 1.0)
        await lines.close()

    asyncio.run(listen())


def test_a_key_is_asked_for_and_its_rate_is_of_verdicts() -> None:
    with wired(api_keys={"me": "k"}, rate_limit_per_minute=3) as wire:
        with duplex(wire.url) as client:
            client.send({})
            assert client.connection.getresponse().status == 401
        with duplex(wire.url, authorization="Bearer k") as client:
            client.send({})
            for text in "abcde":
                client.send({"delta": text})
            kinds = [client.event() for _ in range(4)]
        assert [kind for kind, _ in kinds] == ["verdict"] * 3 + ["error"]
        assert kinds[-1][1]["error"]["code"] == "rate_limit_exceeded"


def test_a_silent_client_is_not_waited_for() -> None:
    with wired(body_timeout_s=0.2) as wire, duplex(wire.url) as client:
        client.send({})
        client.send({"delta": "a"})
        assert client.event()[0] == "verdict"
        kind, event = client.event()
        assert (kind, event["error"]["code"]) == ("error", "deadline_exceeded")


def test_a_stream_has_an_end() -> None:
    with wired(stream_timeout_s=0.1) as wire, duplex(wire.url) as client:
        client.send({})
        client.send({"delta": "a"})
        assert client.event()[0] == "verdict"
        kind, event = client.event()
        assert (kind, event["error"]["code"]) == ("error", "deadline_exceeded")


def test_the_body_is_bounded(wire: Wire) -> None:
    with wired(payload_limit=70_000) as wire, duplex(wire.url) as client:
        client.send({"overflow": "window"})
        kinds = []
        for _ in range(3):
            client.send({"delta": "w" * 30_000})
            kinds.append(client.event())
        assert [kind for kind, _ in kinds] == ["verdict", "verdict", "error"]
        assert kinds[-1][1]["error"]["code"] in ("payload_too_large", "input_too_long")


def test_no_text_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(client, {"input": "hush"}, *deltas(" secretword", " POISON secretword"))
    assert "secretword" not in caplog.text
    assert "hush" not in caplog.text


def test_the_document_tells_of_it(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/classify"]["post"]
    assert NDJSON in operation["requestBody"]["content"]
    assert "application/json" in operation["requestBody"]["content"]
    assert "text/event-stream" in operation["responses"]["200"]["content"]
