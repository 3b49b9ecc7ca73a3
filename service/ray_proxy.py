"""What Ray's HTTP proxy does where Ray would answer in its own words.

A request that a lost replica leaves without an answer is a bare 500 of Ray's, and one that comes
before the service is deployed, or while it ends, a 404. The variable :data:`VARIABLE` names
:func:`middlewares`, which the proxy calls when it starts, so it must be set where Ray is started.
"""

from __future__ import annotations

import re
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from service.error_responses import error_response
from service.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = "service.ray_proxy:middlewares"


_GONE = "the replica that had the request is gone"
_REQUEST_ID = b"x-request-id"
_NOT_DEPLOYED = re.compile(rb"Path '.*' not found\. Ping \S+ for available routes\.", re.DOTALL)


class LostReplica:
    """Answer 503 with ``Retry-After`` where nothing was answered, or where nothing is deployed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer it if nobody did."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # of a 404, until it is known whose it is
        begun = absent = False

        async def seen(message: Message) -> None:
            nonlocal start, begun, absent
            if message["type"] == "http.response.start":
                message = {**message, "headers": _named_once(message.get("headers", []))}
                if message["status"] == HTTPStatus.NOT_FOUND:
                    start = message
                    return
            elif start is not None:
                if absent or _NOT_DEPLOYED.fullmatch(message.get("body", b"")):
                    absent = True
                    return
                await send(start)
                start = None
            begun = True
            await send(message)

        await self._app(scope, receive, seen)
        if not begun:
            reason = "the service is not deployed now" if absent else _GONE
            error = NotReadyError(reason, retry_after_s=1)
            request_id = uuid.uuid4().hex
            answer = error_response(error, path=scope["path"], request_id=request_id)
            answer.headers["x-request-id"] = request_id
            await answer(scope, receive, send)


def _named_once(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leave out the id that Ray adds to one that the service has given."""
    kept: list[tuple[bytes, bytes]] = []
    is_there = False
    for name, value in headers:
        if name.lower() == _REQUEST_ID:
            if is_there:
                continue
            is_there = True
        kept.append((name, value))
    return kept


def middlewares() -> list[Middleware]:
    """Give what Ray's proxy puts around its application."""
    return [Middleware(LostReplica)]
