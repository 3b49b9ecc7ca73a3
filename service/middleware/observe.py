"""The outermost concern: every request gets an id, an answer, timing headers, one log line.

All errors end here, whoever raised them, so that there is one place that answers, logs and counts
them.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.error_responses import error_response, service_error
from service.errors import public_code, status_of
from service.logs import log_event, log_exception
from service.metrics import Metrics
from service.middleware.paths import OBSERVATION
from service.record import RequestRecord, start_record

_HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
"""Route of requests for which there is none; a path is text of the client and never a label."""


class Observe:
    """Watch over every HTTP request.

    Parameters
    ----------
    app : ASGI application
        What answers.
    metrics : Metrics
        What counts.
    routes : sequence of BaseRoute
        All there are, without the version before their paths.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Sequence[BaseRoute] = ()) -> None:
        self.app = app
        self._routes = [route for route in routes if isinstance(route, Route)]
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = start_record(scope, _request_id(scope))
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(record.headers())
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as raised:  # noqa: BLE001 - every request is answered, whatever happened
            error = service_error(raised)
            if error is not raised and public_code(error) == "internal_error":
                log_exception("unexpected_error", raised, request_id=record.request_id)
            record.code = public_code(error)
            if not status:
                answer = error_response(error, path=scope["path"], request_id=record.request_id)
                await answer(scope, receive, send_with_headers)
            status = status_of(record.code)
        finally:
            self._report(scope, record, status)

    def _report(self, scope: Scope, record: RequestRecord, status: int) -> None:
        route = self._template(scope)
        self.metrics.request_done(route, status, record)
        log_event(
            "request",
            logging.DEBUG if _is_routine(route, status) else logging.INFO,
            request_id=record.request_id,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            route=route,
            status=status,
            code=record.code,
            client=_client(scope),
            key=record.key_name,
            inputs=record.n_inputs,
            tokens=record.n_tokens,
            queue_ms=round(1000 * record.queue_s, 1),
            inference_ms=round(1000 * record.inference_s, 1),
            total_ms=round(1000 * record.total_s, 1),
        )

    def _template(self, scope: Scope) -> str:
        """Path of the route, also of what was answered before the router saw it: 401, 413, 503."""
        if (route := scope.get("route")) is not None:
            return str(getattr(route, "path", UNMATCHED))
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        path = path.removeprefix("/v1") if path.startswith("/v1/") else path
        return next((it.path for it in self._routes if it.path_regex.match(path)), UNMATCHED)


def _is_routine(route: str, status: int) -> bool:
    """Probes and scrapes come every few seconds; that a model loads or drains is an event, too."""
    return route == "/readyz" or (route in OBSERVATION and status < 500)


def _client(scope: Scope) -> str | None:
    """Address of the client; what a proxy says it is may be anything, and only one is logged."""
    try:
        return str(ip_address((scope.get("client") or ("",))[0]))
    except ValueError:
        return None


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _HARMLESS_ID.fullmatch(given) else uuid.uuid4().hex
