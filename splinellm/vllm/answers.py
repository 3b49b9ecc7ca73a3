"""Write verdicts into the answers of vLLM's server, on their way out.

A whole answer gets a field in each of its choices and a header; one that is streamed has sent its
headers before anybody knows, and gets the field in the event that says why a choice has ended.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from splinellm.vllm.online import Noted, Online, noting
from splinellm.vllm.recorder import reason_of

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

FIELD = "splinellm"
"""Of a choice."""
HEADER = b"x-splinellm-verdict"
PATHS = ("/v1/completions", "/v1/chat/completions")
"""Whose answers carry verdicts."""


class Verdicts:
    """Middleware that writes the verdict of each choice into it.

    Parameters
    ----------
    app : ASGI application
        vLLM's; its ``state.splinellm`` is an :class:`~splinellm.vllm.online.Online`.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send
    ) -> None:
        """Answer a request."""
        online = _online_of(scope)
        if online is None or online.wanted.rule is None:
            await self._app(scope, receive, send)
            return
        with noting() as noted:
            await self._app(scope, receive, _Answer(online, noted, send))


def _online_of(scope: Message) -> Online | None:
    """Who judges the answer to this request, if anybody does."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    if scope["path"].removeprefix(scope.get("root_path", "")) not in PATHS:
        return None
    return getattr(scope["app"].state, "splinellm", None)


class _Answer:
    """One answer, which is sent through this."""

    def __init__(self, online: Online, noted: Noted, send: Send) -> None:
        self._online, self._noted, self._send = online, noted, send
        self._start: Message | None = None
        self._kind = b""
        self._held = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body" or not self._kind:
            await self._send(message)
        elif self._kind == b"text/event-stream":
            await self._stream(message)
        else:
            await self._whole(message)

    async def _begin(self, message: Message) -> None:
        kind = dict(message["headers"]).get(b"content-type", b"").partition(b";")[0]
        if message["status"] == 200 and kind in (b"application/json", b"text/event-stream"):
            self._kind = kind
        if self._kind == b"application/json":
            self._start = message  # its length and a header are known in the end
        else:
            await self._send(message)

    async def _whole(self, message: Message) -> None:
        self._held += message.get("body", b"")
        if message.get("more_body", False) or self._start is None:
            return
        answer = json.loads(self._held)
        verdicts = await self._judge(answer["id"], answer["choices"])
        body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
        headers = [it for it in self._start["headers"] if it[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        headers.append((HEADER, header_of(verdicts).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({**message, "body": body})

    async def _stream(self, message: Message) -> None:
        self._held += message.get("body", b"")
        *events, rest = bytes(self._held).split(b"\n\n")
        self._held = bytearray(rest)
        done = b"".join([await self._event(it) + b"\n\n" for it in events])
        if not message.get("more_body", False):
            done += rest
        elif not done:
            return
        await self._send({**message, "body": done})

    async def _event(self, event: bytes) -> bytes:
        if not event.startswith(b"data: {") or b'"finish_reason":"' not in event:
            return event
        chunk = json.loads(event.removeprefix(b"data: "))
        ended = [it for it in chunk.get("choices") or () if it.get("finish_reason")]
        if not ended:
            return event
        await self._judge(chunk["id"], ended)
        return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()

    async def _judge(
        self, answer_id: str, choices: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Write verdicts into choices."""
        names = self._noted.by_choice(answer_id)
        known = [it["index"] for it in choices if it["index"] in names]
        found = await self._online.verdicts([names[it] for it in known]) if known else []
        by_index = dict(zip(known, found, strict=True))
        for choice in choices:
            verdict = choice[FIELD] = by_index.get(choice["index"], _NOT_ONE)
            if stopped := verdict.get("stopped"):
                choice["stop_reason"] = reason_of(stopped["probability"])
        return [choice[FIELD] for choice in choices]


_NOT_ONE: dict[str, Any] = {
    "error": {
        "message": "this choice is not the answer to one request, as with beam search",
        "type": "not_found_error",
        "param": None,
        "code": "nothing_recorded",
    }
}


def header_of(verdicts: Sequence[dict[str, Any]]) -> str:
    """Labels and their probabilities, a list of HTTP's structured fields; ``?0`` is no verdict."""
    return ", ".join(map(_item_of, verdicts))


def _item_of(verdict: dict[str, Any]) -> str:
    if "error" in verdict:
        return f"?0;code={verdict['error']['code']}"
    label, probabilities = verdict["label"], verdict["probabilities"]
    # ASCII alone may stand in a header; percent signs name the rest.
    quoted = quote(label, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
    numbers = [f";p={probabilities[label]:.3f}"] if label in probabilities else []
    return f'"{quoted}"' + "".join(numbers)
