"""``splinellm serve``: uvicorn, with bounds on connections and an end that answers everybody.

On SIGTERM uvicorn alone closes its listener first, so that clients see refused connections. Here
the listener lives while accepted requests are being answered, and new ones hear 503.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.connection import BoundedConnection
from service.lifespan import stop_engines
from service.logs import configure_logging, log_event
from service.models import load_models
from service.settings import Settings
from splinellm.errors import ConfigurationError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as of the other commands."""
_LAST_WORDS_S = 2
"""How long uvicorn waits for connections once all answers are made."""
KEEP_ALIVE_S = 75
"""Longer than proxies keep an idle connection: who closes it last never loses a request."""

_BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """A server that drains before it stops listening.

    Parameters
    ----------
    app : FastAPI
        The service.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                lifespan="on",
                ws="none",
                log_config=None,  # ours stays
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_LAST_WORDS_S,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self.app = app
        self.lifecycle = app.state.lifecycle
        self.signal: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at the second signal end at once."""
        del frame
        if self.signal is not None:
            self.should_exit = self.force_exit = True
        self.signal = sig
        self.lifecycle.drain()

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether there is still something to wait for."""
        if self.lifecycle.overdue and not self.lifecycle.finished:
            log_event("drain_limit", requests=self.lifecycle.in_flight)
            # Whoever still waits for the model hears why it will not answer.
            await asyncio.to_thread(stop_engines, self.app, 0)
            self.should_exit = True
        if self.lifecycle.finished:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(settings: Settings) -> int:
    """Serve until a signal comes.

    Parameters
    ----------
    settings : Settings
        Of the service.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    SplineLLMError
        The address cannot be listened on, or a model cannot be loaded.
    """
    configure_logging(settings.log_level)
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    log_event("listening", host=host, port=port)
    server = DrainingServer(create_app(settings, load=load_models))
    server.run(sockets=[listener])
    if server.lifecycle.failure is not None:
        raise server.lifecycle.failure
    log_event("stopped", unanswered=server.lifecycle.in_flight)
    return INTERRUPTED if server.signal == signal.SIGINT else 0


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything is loaded, so that a port in use is noticed at once.

    Raises
    ------
    ConfigurationError
        It cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {_reason(error)}",
            hint="another one with --port N; 0 takes any that is free"
            if error.errno in (errno.EADDRINUSE, errno.EACCES)
            else "the address is --host",
        ) from None


def _reason(error: OSError) -> str:
    """Why, without the address that Python repeats."""
    return str(error.strerror or error).partition(" (while")[0]
