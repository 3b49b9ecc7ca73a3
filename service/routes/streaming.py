"""``POST /v1/classify`` with lines for a body: a verdict for every delta of a text that grows.

The first line has the fields of a request; each line after it has a delta. The answer is
server-sent events: ``verdict`` for each delta, then ``done``, or ``error``. Both go on at the same
time, so that a client hears of a delta before it sends the next one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.error_responses import error_response, service_error
from service.errors import (
    DeadlineError,
    InvalidRequestError,
    ShuttingDownError,
    public_code,
)
from service.growing import Growing, Lines, delta_of
from service.inputs import parse_input
from service.json import StrictRoute, dumps, loads
from service.logs import log_exception
from service.middleware.deltas import sends_deltas
from service.record import record_of
from service.routes.call import Call, open_call
from service.routes.judging import judge, tells_spans
from service.schemas.classify import StreamRequest

if TYPE_CHECKING:
    from service.verdicts import ServedClassifier

Chosen = Callable[[Call, StreamRequest], "ServedClassifier"]
RowOf = Callable[..., dict[str, Any]]
_NOTHING_YET: dict[str, Any] = {
    "label": None,
    "labels": [],
    "probabilities": {},
    "n_tokens": 0,
    "truncated": False,
    "windows": 0,
}


def streaming_route(chosen: Chosen, row_of: RowOf) -> type[StrictRoute]:
    """Make the class of a route that takes lines, too.

    Parameters
    ----------
    chosen : callable
        The classifier that a request wants, or why it cannot have it.
    row_of : callable
        Makes JSON of a verdict.
    """

    class StreamingRoute(StrictRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_either(request: Request) -> Response:
                if not sends_deltas(request.scope):
                    return await handle(request)
                return await _answer(request, chosen, row_of)

            return handle_either

    return StreamingRoute


async def _answer(request: Request, chosen: Chosen, row_of: RowOf) -> Response:
    """Read the first line; what is wrong with it is an ordinary error."""
    lines = Lines(request.receive)
    call = await open_call(request)
    call.heed(lines.gone)
    lines.open()
    try:
        first = await lines.next(lambda: call.settings.body_timeout_s - call.total_s)
        if first is None:
            raise InvalidRequestError("the body has no line", hint="the first has the fields")
        body = _parsed(first)
        classifier = chosen(call, body)
        growing = Growing(body.input)
    except BaseException:
        await lines.close()
        raise
    stream = _Stream(request, call, lines, body, classifier, growing, row_of)
    return _Events(stream.events())


def _parsed(line: bytes) -> StreamRequest:
    try:
        return StreamRequest.model_validate(loads(line))
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise service_error(RequestValidationError(found)) from None


class _Events(Response):
    """Events, sent as they come. Unlike Starlette's, it leaves the body to who reads it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        del scope, receive
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(self._events) as events:
            await send(start)
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class _Stream:
    """One text while it grows."""

    def __init__(
        self,
        request: Request,
        call: Call,
        lines: Lines,
        body: StreamRequest,
        classifier: ServedClassifier,
        growing: Growing,
        row_of: RowOf,
    ) -> None:
        self._request, self._call, self._lines = request, call, lines
        self._body, self._classifier, self._growing = body, classifier, growing
        self._row_of = row_of
        self._tells_spans = bool(body.spans) and tells_spans(call.catalog, classifier)
        self._n_deltas = self._n_tokens = 0
        self._last: dict[str, Any] | None = None

    async def events(self) -> AsyncGenerator[bytes]:
        """Answer delta after delta."""
        try:
            while (line := await self._next_line()) is not None:
                self._call.begin_anew()
                yield _event("verdict", {"index": self._n_deltas, **await self._judged(line)})
                self._n_deltas += 1
            yield _event("done", {"verdicts": self._n_deltas, "usage": self._usage()})
        except Exception as raised:  # noqa: BLE001 - the answer has begun: it ends with an event
            yield self._failed(raised)
        finally:
            await self._lines.close()

    async def _next_line(self) -> bytes | None:
        """Wait for the client, unless the service shuts down."""
        settings, lifecycle = self._call.settings, self._request.app.state.lifecycle
        began = time.monotonic()

        def time_left_s() -> float:
            if lifecycle.draining:
                raise ShuttingDownError("the service is shutting down", retry_after_s=5)
            if self._call.total_s > settings.stream_timeout_s:
                raise DeadlineError(
                    f"a stream may take {settings.stream_timeout_s:g} seconds in all"
                )
            return settings.body_timeout_s - (time.monotonic() - began)

        return await self._lines.next(time_left_s)

    async def _judged(self, line: bytes) -> dict[str, Any]:
        delta = delta_of(line, self._n_deltas)
        record = record_of(self._request)
        if self._n_deltas and record.take is not None:
            record.take()  # a key's rate is of verdicts
        self._growing.add(delta)
        if self._growing.is_empty:
            return _NOTHING_YET
        if delta or self._last is None:
            call, name = self._call, self._classifier.name
            inputs = await call.in_pool(parse_input, self._growing.value(), call.settings)
            found = await judge(
                call,
                [self._classifier],
                inputs,
                self._body.overflow,
                grows=True,
                count=self._body.count,
            )
            self._n_tokens += found.n_tokens
            self._last = self._row_of(found.verdicts[name][0], spans=self._tells_spans)
        return self._last

    def _usage(self) -> dict[str, int]:
        return {"prompt_tokens": self._n_tokens, "total_tokens": self._n_tokens}

    def _failed(self, raised: Exception) -> bytes:
        error, record = service_error(raised), record_of(self._request)
        record.code = public_code(error)
        if error is not raised and record.code == "internal_error":
            log_exception("unexpected_error", raised, request_id=record.request_id)
        path = self._request.scope["path"]
        answer = error_response(error, path=path, request_id=record.request_id)
        return _event("error", orjson.loads(answer.body))


def _event(kind: str, content: dict[str, Any]) -> bytes:
    # JSON has no line breaks of its own: what orjson writes is one line.
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), dumps(content))
