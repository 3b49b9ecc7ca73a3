"""What Ray's HTTP proxy does for requests that a lost replica leaves without an answer.

Ray answers them with a bare 500. The variable :data:`VARIABLE` names :func:`middlewares`, which the
proxy calls when it starts, so it must be set where Ray is started.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from service.error_responses import error_response
from service.errors import NotReadyError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = "service.ray_proxy:middlewares"


class LostReplica:
    """Answer 503 with ``Retry-After`` where nothing was answered at all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer it if nobody did."""
        begun = False

        async def seen(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        await self._app(scope, receive, seen)
        if scope["type"] == "http" and not begun:
            error = NotReadyError("the replica that had the request is gone", retry_after_s=1)
            request_id = uuid.uuid4().hex
            answer = error_response(error, path=scope["path"], request_id=request_id)
            answer.headers["x-request-id"] = request_id
            await answer(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Give what Ray's proxy puts around its application."""
    return [Middleware(LostReplica)]
