"""JSON, strict on the way in and fast on the way out; large bodies off the event loop."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidJSONError
from splinellm import strict_json

MAX_DEPTH = 64
LARGE_BODY_BYTES = 65_536
"""Larger bodies are parsed in the pool."""


def loads(body: bytes) -> Any:
    """Parse JSON as RFC 8259 has it: no NaN, no infinities, nesting bounded.

    A byte order mark at the beginning is ignored, as the RFC allows: some tools of Windows write
    one. Lone surrogates in strings pass, so that a route can say which input has one.

    Raises
    ------
    InvalidJSONError
        Says nothing of the body but the position.
    """
    begin = len(BOM_UTF8) if body.startswith(BOM_UTF8) else 0
    body = body[begin:] if begin else body
    try:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            if "depth limit" in error.msg:
                raise RecursionError from None
            if b"\\u" not in body:
                wrong, position = _what_is_wrong(body, error)
                message = f"the body is not {wrong}: at byte {begin + position}"
                raise InvalidJSONError(message) from None
            # orjson takes no lone surrogates.
            return strict_json.loads(body.decode("utf-8"), max_depth=MAX_DEPTH)
        strict_json.check_depth(value, body.count(b"[") + body.count(b"{"), MAX_DEPTH)
    except ValueError:
        raise InvalidJSONError("the body is not valid JSON") from None
    except RecursionError:
        raise InvalidJSONError(f"the body is nested more than {MAX_DEPTH} deep") from None
    return value


def _what_is_wrong(body: bytes, error: orjson.JSONDecodeError) -> tuple[str, int]:
    """Say what a body is not, and from which byte on."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as wrong:  # orjson does not tell where
        return "valid UTF-8", wrong.start
    return "valid JSON", len(text[: error.pos].encode())  # orjson counts characters


def dumps(content: Any) -> bytes:
    """Write JSON; NumPy arrays as lists, float32 in their shortest form."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


class JSONResponse(Response):
    """An answer that :func:`dumps` writes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write `content`."""
        return dumps(content)


class StrictRequest(Request):
    """A request whose JSON is read by :func:`loads`."""

    async def json(self) -> Any:
        """Parse the body, once."""
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) > LARGE_BODY_BYTES:
                loop = asyncio.get_running_loop()
                self._json = await loop.run_in_executor(self.app.state.pool, loads, body)
            else:
                self._json = loads(body)
        return self._json


class StrictRoute(APIRoute):
    """A route that reads JSON strictly: ``APIRouter(route_class=StrictRoute)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand a :class:`StrictRequest` to FastAPI's own handler."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly
