"""A server on a loopback port, for clients that bring their own connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from service.server import DrainingServer


@contextmanager
def serving(app: FastAPI, *, is_awaited: bool = True) -> Iterator[str]:
    """Run `app` in a thread; gives its address once it is ready, or at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = DrainingServer(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while is_awaited and not app.state.lifecycle.ready:
            assert thread.is_alive()
            assert app.state.lifecycle.failure is None
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert not thread.is_alive()
