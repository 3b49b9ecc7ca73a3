"""No body larger than the limit is read, whether its length is announced or not."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import PayloadTooLargeError


class BodyLimit:
    """Refuse large bodies before anything parses them.

    Parameters
    ----------
    app : ASGI application
        What answers.
    limit : int
        Bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or raise that it is too large."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self.limit:
            raise self._error()
        n_received = 0

        async def receive_within_limit() -> Message:
            nonlocal n_received
            message = await receive()
            n_received += len(message.get("body", b""))
            if n_received > self.limit:
                raise self._error()
            return message

        await self.app(scope, receive_within_limit, send)

    def _error(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(f"the body has more than {self.limit} bytes")
