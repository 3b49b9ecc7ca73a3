"""Below which path the service is, as its clients see it."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}")
"""What a prefix may be; written into a page it is what it was, and names no other host."""
_KEY = "prefix"


class Prefix:
    """Take the prefix off the path of every request, and remember it for links.

    Whether a proxy has taken it off already does not matter. It is the server's own
    (``root_path`` of ASGI: a mounted app, ``uvicorn --root-path``), else the setting, else what the
    header ``X-Forwarded-Prefix`` says: it changes nothing but links in the answer to who sends it.

    Parameters
    ----------
    app : ASGI application
        What answers.
    prefix : str
        Of the settings; empty for none.
    """

    def __init__(self, app: ASGIApp, prefix: str = "") -> None:
        self.app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            prefix = scope.get("root_path", "").rstrip("/") or self._prefix or _forwarded(scope)
            path: str = scope["path"]
            if prefix and f"{path}/".startswith(f"{prefix}/"):
                path = path[len(prefix) :] or "/"
            state = {**scope.get("state", {}), _KEY: prefix}
            # Without root_path: the path is whole, and nobody need take anything off again.
            scope = {**scope, "path": path, "root_path": "", "state": state}
        await self.app(scope, receive, send)


def prefix_of(connection: HTTPConnection) -> str:
    """Prefix of the service's paths for who sent this request; empty for none."""
    prefix: str = connection.scope["state"].get(_KEY, "")
    return prefix


def _forwarded(scope: Scope) -> str:
    """What proxies have taken off, the outermost first."""
    given = Headers(scope=scope).get("x-forwarded-prefix", "")
    prefix = "".join(part.strip().rstrip("/") for part in given.split(","))
    return prefix if PREFIX.fullmatch(prefix) else ""
