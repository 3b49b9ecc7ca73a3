"""Requests are taken while the service is ready: not before, and not once it shuts down."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.lifecycle import Lifecycle
from service.middleware.paths import OBSERVATION, is_document


class Gate:
    """Refuse requests that cannot be answered now, and count those that are being answered.

    Parameters
    ----------
    app : ASGI application
        What answers.
    lifecycle : Lifecycle
        Knows whether the service is ready.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self.app = app
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or raise why not."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path in OBSERVATION or is_document(path):
            await self.app(scope, receive, send)
            return

        async def send_and_close(message: Message) -> None:
            # The listener closes soon: the client should not send its next request to it.
            if message["type"] == "http.response.start" and self.lifecycle.draining:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        self.lifecycle.accept()
        try:
            await self.app(scope, receive, send_and_close)
        finally:
            self.lifecycle.answered()
