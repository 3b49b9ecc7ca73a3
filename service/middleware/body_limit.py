"""No body is read that is larger than the limit, announced or not, or that comes too slowly."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import PayloadTooLargeError, RequestTimeoutError
from service.middleware.deltas import sends_deltas


class BodyLimit:
    """Refuse large bodies before anything parses them, and stop waiting for slow ones.

    Parameters
    ----------
    app : ASGI application
        What answers.
    limit : int
        Bytes.
    timeout_s : float
        From the request's head to the last byte of its body.
    """

    def __init__(self, app: ASGIApp, limit: int, timeout_s: float) -> None:
        self.app = app
        self.limit = limit
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or raise that it is too large or too late."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self.limit:
            raise self._error()
        n_received, complete = 0, False
        ends = asyncio.get_running_loop().time() + self.timeout_s
        # Who sends deltas waits for the answer to one before the next: the route has the time.
        is_open = sends_deltas(scope)

        async def receive_within_limits() -> Message:
            nonlocal n_received, complete
            if complete:  # from here on a route waits for the client to go, however long
                return await receive()
            try:
                async with asyncio.timeout_at(None if is_open else ends):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeoutError(
                    f"the body did not arrive within {self.timeout_s:g} seconds"
                ) from None
            n_received += len(message.get("body", b""))
            if n_received > self.limit:
                raise self._error()
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, receive_within_limits, send)

    def _error(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(f"the body has more than {self.limit} bytes")
