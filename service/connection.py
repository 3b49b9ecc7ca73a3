"""One connection: uvicorn's, with an end to whatever a client may send.

uvicorn reads the head of a request however long it is and however slowly it comes, and holds all of
it. Here line and headers have a size and a deadline, a body has a deadline whether anybody reads it
or not, and connections have a number. What is refused here has not become a request yet, so that
no middleware sees it; it is answered, counted and logged as those do it.

Used of uvicorn are the callbacks that asyncio and httptools make, ``send_400_response``,
``shutdown``, and what is public of the request that is being answered.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.error_responses import error_response
from service.errors import (
    HeadTooLargeError,
    InvalidRequestError,
    RequestTimeoutError,
    ServiceError,
    TooManyConnectionsError,
    public_code,
    status_of,
)
from service.logs import log_event
from service.metrics import Metrics
from service.middleware.observe import UNMATCHED
from service.middleware.security_headers import HEADERS
from service.record import RequestRecord
from service.settings import Settings

MAX_HEADERS = 100
LINGER_S = 2.0
"""How long a refused client has to read why, before the connection is gone."""
STALLED_S = 60.0
"""How long a client may read not a byte of an answer that waits for it."""
MAX_UNREAD_BYTES = 1 << 28
"""Of a body whose request has its answer: an honest client sends it first, and reads then."""
_MAX_REFUSED = 64
"""Connections beyond the limit that are told so; those after them are closed without a word."""
_RETRY_AFTER_S = 5


class BoundedConnection(HttpToolsProtocol):
    """A connection that holds a bounded number of bytes for a bounded time.

    Parameters
    ----------
    config : Config
        Its app is the service's.
    server_state : ServerState
        Knows all connections.
    app_state : dict
        Of the lifespan.
    _loop : asyncio.AbstractEventLoop, optional
        The running one by default.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        app = config.app
        if not isinstance(app, FastAPI):
            raise TypeError("the app must be the service's, not its name")
        self._settings: Settings = app.state.settings
        self._metrics: Metrics = app.state.metrics
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._reason: ServiceError | None = None
        self._path = b""
        self._in_head = True
        self._has_begun = False
        self._n_pending = 0  # bytes since something was complete
        self._n_head = 0
        self._n_headers = 0
        self._n_unread = 0
        self._n_unsent = 0
        self._reader_timer: asyncio.TimerHandle | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, if there is room for one more."""
        super().connection_made(transport)
        beyond = len(self.connections) - self._settings.max_connections
        if beyond > _MAX_REFUSED:
            transport.abort()
        elif beyond > 0:
            self._refuse(
                TooManyConnectionsError(
                    "too many connections are open", retry_after_s=_RETRY_AFTER_S
                )
            )
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read on, but not for ever at the same thing."""
        if self._refused:
            return
        if self._in_head and self._timer is None:
            self._expect_head()
        self._n_pending += len(data)
        super().data_received(data)
        # A header, a chunk's extension or a trailer without end is not told of before it is over.
        if self._n_pending > self._settings.max_header_bytes:
            self._refuse(self._too_large())

    def pause_writing(self) -> None:
        """Watch a client that is slower to read than the service to write."""
        super().pause_writing()
        self._n_unsent = 0
        self._watch_reader()

    def resume_writing(self) -> None:
        """Trust it again."""
        self._stop_watching()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._set_timer(None)
        self._stop_watching()
        super().connection_lost(exc)

    # httptools' side

    def on_message_begin(self) -> None:
        """Count from here."""
        self._has_begun = True
        self._path = b""
        self._n_head = self._n_headers = self._n_unread = 0
        if self._timer is None:  # it came with the end of the one before
            self._expect_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request's target."""
        self._count(len(url))
        self._path += url
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; after a body, it is a trailer, which nobody reads."""
        self._n_headers += 1
        self._count(len(name) + len(value) + len(": \r\n"))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        super().on_headers_complete()
        self._in_head = False
        self._n_pending = 0
        # The app stops waiting first and says so; this is for a body that it does not read.
        self._set_timer(self._settings.body_timeout_s + LINGER_S, self.shutdown)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._n_pending = 0
        super().on_body(body)
        if self.cycle.response_complete:
            self._n_unread += len(body)
            if self._n_unread > MAX_UNREAD_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        super().on_message_complete()
        self._in_head, self._has_begun = True, False
        self._n_pending = 0
        self._set_timer(None)

    # What there is too much of

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or what a callback above has stopped."""
        del msg
        self._refuse(self._reason or InvalidRequestError("this is not valid HTTP/1.1"))

    def _count(self, n_bytes: int) -> None:
        self._n_head += n_bytes
        if self._n_head > self._settings.max_header_bytes:
            self._reason = self._too_large()
        elif self._n_headers > MAX_HEADERS:
            self._reason = HeadTooLargeError(f"the request has more than {MAX_HEADERS} headers")
        if self._reason is not None:
            raise self._reason  # the parser stops

    def _too_large(self) -> ServiceError:
        limit = self._settings.max_header_bytes
        return HeadTooLargeError(f"the request line and headers have more than {limit} bytes")

    def _expect_head(self) -> None:
        self._set_timer(self._settings.header_timeout_s, self._on_late_head)

    def _on_late_head(self) -> None:
        if not self.transport.is_reading():  # it is not the client who is slow
            self._expect_head()
        elif self._has_begun:
            limit_s = self._settings.header_timeout_s
            self._refuse(
                RequestTimeoutError(f"the headers did not arrive within {limit_s:g} seconds")
            )
        else:
            self.shutdown()

    def _set_timer(self, delay_s: float | None, then: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if delay_s is not None and then is not None:
            self._timer = self.loop.call_later(delay_s, then)

    def _watch_reader(self) -> None:
        n_unsent = self.transport.get_write_buffer_size()
        if n_unsent == self._n_unsent:
            self.transport.abort()
            return
        self._n_unsent = n_unsent
        self._reader_timer = self.loop.call_later(STALLED_S, self._watch_reader)

    def _stop_watching(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        self._reader_timer = None

    # What the client hears

    def _refuse(self, error: ServiceError) -> None:
        """Read nothing more, answer if it is this request's turn, and close."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._set_timer(None)
        status = status_of(public_code(error))
        record = RequestRecord(uuid.uuid4().hex, code=public_code(error))
        self._metrics.request_done(UNMATCHED, status, record)
        log_event(
            "request",
            request_id=record.request_id,
            route=UNMATCHED,
            status=status,
            code=record.code,
        )
        is_answered = self.cycle is None or self.cycle.response_complete
        if self._in_head and is_answered:
            self._send(error, record)
            self._linger()
        elif self._in_head or self.pipeline:
            self.shutdown()  # once those before have their answers
        else:
            if not self.cycle.response_started:
                self._send(error, record)
            self.transport.close()

    def _send(self, error: ServiceError, record: RequestRecord) -> None:
        path = self._path.decode("latin-1")
        response = error_response(error, path=path, request_id=record.request_id)
        headers = {
            **{name.decode(): value.decode() for name, value in self.server_state.default_headers},
            **HEADERS,
            **response.headers,
            "x-request-id": record.request_id,
            "connection": "close",
        }
        phrase = HTTPStatus(response.status_code).phrase
        lines = [f"HTTP/1.1 {response.status_code} {phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + response.body)

    def _linger(self) -> None:
        """Close, but not at once: the answer would be lost to a client that is still sending."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
