"""What is written into answers, and what is known of requests by their names; without vLLM."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from splinellm.errors import ConfigurationError, NothingRecordedError
from splinellm.schema import FeatureSchema, FeatureSelection
from splinellm.vllm.answers import Verdicts, header_of
from splinellm.vllm.online import Noted, settings_of
from splinellm.vllm.requests import Requests
from splinellm.vllm.running import RunningStatistics

VERDICT = {"label": "bad", "probabilities": {"ok": 0.25, "bad": 0.75}, "stopped": None}


class FakeOnline:
    """Gives every request a verdict that names it."""

    wanted = SimpleNamespace(rule=object())

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def verdicts(self, request_ids: list[str]) -> list[dict[str, Any]]:
        self.asked.append(request_ids)
        return [VERDICT | {"of": it} for it in request_ids]


def sent(messages: list[dict[str, Any]], path: str = "/v1/completions") -> Any:
    """What the middleware makes of an application's messages."""
    online, found = FakeOnline(), []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        from splinellm.vllm.online import _noted

        if (noted := _noted.get()) is not None:
            noted.requests += [(f"inner-{it}", f"cmpl-x-{it}", 1, 0) for it in range(2)]
        for message in messages:
            await send(message)

    async def send(message: Any) -> None:
        found.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "app": SimpleNamespace(state=SimpleNamespace(splinellm=online)),
    }
    asyncio.run(Verdicts(app)(scope, None, send))  # type: ignore[arg-type]
    return found, online


def start(kind: str, status: int = 200) -> dict[str, Any]:
    headers = [(b"content-type", kind.encode()), (b"content-length", b"1")]
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_a_whole_answer() -> None:
    answer = {"id": "cmpl-x", "choices": [{"index": 1, "text": "ü"}, {"index": 0, "text": "b"}]}
    data = json.dumps(answer).encode()
    found, online = sent([start("application/json"), body(data[:9], more=True), body(data[9:])])
    headers = dict(found[0]["headers"])
    assert headers[b"content-length"] == str(len(found[1]["body"])).encode()
    assert headers[b"x-splinellm-verdict"] == b'"bad";p=0.750, "bad";p=0.750'
    choices = json.loads(found[1]["body"])["choices"]
    assert [it["splinellm"]["of"] for it in choices] == ["inner-1", "inner-0"]
    assert online.asked == [["inner-1", "inner-0"]]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_in_pieces_of_any_size(size: int) -> None:
    events = [
        b'data: {"id":"cmpl-x","choices":[{"index":0,"text":"\\"finish_reason\\":\\"stop\\""}]}',
        b": keep-alive",
        b'data: {"id":"cmpl-x","choices":[{"index":1,"text":"\xc3\xbc","finish_reason":"stop"}]}',
        b'data: {"id":"cmpl-x","choices":[],"usage":{"finish_reason":"x"}}',
        b"data: [DONE]",
    ]
    data = b"".join(it + b"\n\n" for it in events)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    found, _ = sent(
        [start("text/event-stream"), *[body(it, more=True) for it in pieces], body(b"")]
    )
    assert b"x-splinellm-verdict" not in dict(found[0]["headers"])
    told = b"".join(it["body"] for it in found[1:]).removesuffix(b"\n\n").split(b"\n\n")
    assert [told[it] for it in (0, 1, 3, 4)] == [events[it] for it in (0, 1, 3, 4)]
    (choice,) = json.loads(told[2].removeprefix(b"data: "))["choices"]
    assert choice["splinellm"]["of"] == "inner-1"
    assert choice["text"] == "ü"


@pytest.mark.parametrize(
    ("first", "path"),
    [
        (start("application/json", 400), "/v1/completions"),
        (start("text/plain"), "/v1/completions"),
        (start("application/json"), "/v1/embeddings"),
    ],
)
def test_other_answers_pass(first: dict[str, Any], path: str) -> None:
    messages = [first, body(b'{"error": 1}')]
    assert sent(messages, path)[0] == messages


def test_choices_are_found_by_their_own_names() -> None:
    noted = Noted(
        [
            ("1_a", "cmpl-x-0", 2, 1),
            ("0_b", "cmpl-x-1", 2, 0),
            ("beam", "cmpl-x-beam-3", 1, 0),
            ("other", "cmpl-y-0", 1, 0),
        ]
    )
    assert noted.by_choice("cmpl-x") == {1: "1_a", 2: "0_b"}
    chat = Noted([("0_c", "chatcmpl-z", 2, 0), ("1_c", "chatcmpl-z", 2, 1)])
    assert chat.by_choice("chatcmpl-z") == {0: "0_c", 1: "1_c"}


def test_the_header_is_ascii() -> None:
    odd = {"label": 'sch"lecht, übel', "probabilities": {}, "stopped": None}
    none = {"error": {"code": "nothing_recorded"}}
    assert header_of([odd, none]) == ('"sch%22lecht, %C3%BCbel", ?0;code=nothing_recorded')


def test_settings() -> None:
    assert settings_of({"splinellm": {"keep": 5}}) == {"keep": 5, "keep_s": 300.0}
    assert settings_of({}) == {"keep": 10_000, "keep_s": 300.0}
    with pytest.raises(ConfigurationError, match=r"unknown setting 'clasifier'.*classifier"):
        settings_of({"splinellm": {"clasifier": "x"}})
    with pytest.raises(ConfigurationError, match="not an object"):
        settings_of({"splinellm": "x"})


def requests(**settings: Any) -> Requests:
    schema = FeatureSchema((0,), FeatureSelection.parse("spline"), 1)
    return Requests(RunningStatistics(schema, [8]), **settings)


def test_requests_are_forgotten_in_time() -> None:
    known = requests(keep_s=0.05)
    known.begin("cmpl-a-0-0123abcd", 3, 0)
    known.end(["cmpl-a-0-0123abcd"])
    assert known.packed("cmpl-a-0") is not None
    assert known.named("cmpl-a") == [(0, 0, "cmpl-a-0")]
    time.sleep(0.06)
    assert known.packed("cmpl-a-0") is None
    assert known.named("cmpl-a") == []
    assert known.n_ended == 0


def test_names_that_look_alike() -> None:
    known = requests()
    for name in (
        "cmpl-a-0",
        "cmpl-a-0-0",
        "1_cmpl-a-1",
        "0_cmpl-a-1",
        "chatcmpl-a",
        "chatcmpl-a-1",
    ):
        known.begin(f"{name}-0123abcd", 3, 0)
    assert [it[2] for it in known.named("cmpl-a")] == ["cmpl-a-0", "0_cmpl-a-1", "1_cmpl-a-1"]
    assert [it[2] for it in known.named("cmpl-a-0")] == ["cmpl-a-0-0"]
    assert [it[2] for it in known.named("chatcmpl-a")] == ["chatcmpl-a"]
    assert known.named("cmpl-a.*") == []


def test_two_of_one_name_are_refused_until_one_is_forgotten() -> None:
    known = requests()
    known.begin("cmpl-a-0-0123abcd", 3, 0)
    known.begin("cmpl-a-0-4567abcd", 3, 0)
    with pytest.raises(NothingRecordedError, match="2 requests have the id"):
        known.packed("cmpl-a-0")
    assert known.packed("cmpl-a-0-4567abcd") is not None
    known.end(["cmpl-a-0-0123abcd"])
    known.forget(["cmpl-a-0-0123abcd"])
    assert known.packed("cmpl-a-0") is not None
