"""What Ray Serve's proxy says by itself, in this service's words.

A replica that is killed leaves requests without an answer. For these the proxy sends 500 and Ray's
report as plain text; the client may well try again, so it hears 503.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

IMPORT_PATH = "service.ray_proxy:middlewares"
VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Where Ray's proxies look for :func:`middlewares`."""
_BODY = orjson.dumps(
    {
        "error": {
            "message": "the replica that had the request is gone; try again",
            "type": "server_error",
            "param": None,
            "code": "not_ready",
        }
    }
)


class Retriable:
    """Turn failures of Ray into 503, and leave alone what the service says.

    Parameters
    ----------
    app : ASGI application
        Ray's proxy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and look at the head of its answer."""
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self.app(scope, receive, send)
            return
        replaced = False

        async def send_ours(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                replaced = message["status"] in (500, 503) and not _is_json(message)
                if replaced:
                    await send(_head())
                    await send({"type": "http.response.body", "body": _BODY})
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_ours)


def middlewares() -> list[Any]:
    """List what Ray's proxies are to wrap themselves in."""
    return [Middleware(Retriable)]


def _head() -> Message:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_BODY)).encode()),
        (b"retry-after", b"1"),
    ]
    return {"type": "http.response.start", "status": 503, "headers": headers}


def _is_json(message: Message) -> bool:
    headers = {name.lower(): value for name, value in message.get("headers", ())}
    return bytes(headers.get(b"content-type", b"")).startswith(b"application/json")
