"""A service on a loopback port, and sockets that say to it what no client library would."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from service.app import create_app
from service.models import ModelCatalog
from service.settings import load_settings
from tests.service.fakes import fake_catalog
from tests.service.live import serving

TIMEOUT_S = 30
JSON = b"host: x\r\ncontent-type: application/json\r\n"


@dataclass(frozen=True)
class Reply:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of the error that it is, in either shape."""
        error = json.loads(self.body)["error"]
        return str(error["details"][0]["reason"] if "details" in error else error["code"])


class Wire:
    """A service that can be reached by byte."""

    def __init__(self, url: str, catalog: ModelCatalog) -> None:
        self.url = url
        self.catalog = catalog

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """Open a connection."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        with socket.socket() as connection:
            connection.settimeout(TIMEOUT_S)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)  # no hidden room
            connection.connect((parts.hostname, parts.port))
            yield connection

    def say(self, *pieces: bytes) -> list[Reply]:
        """Send and read all answers until the service closes the connection."""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has heard enough
            return replies(read_all(connection))

    def metric(self, line: str) -> bool:
        """Whether the metrics have this line."""
        return f"splinellm_{line}\n" in httpx2.get(f"{self.url}/metrics").text


def read_all(connection: socket.socket) -> bytes:
    """Read until the service has closed."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def replies(received: bytes) -> list[Reply]:
    """Take answers apart."""
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        length = int(headers.get("content-length", 0))
        found.append(Reply(int(line.split(" ")[1]), headers, received[:length]))
        received = received[length:]
    return found


@contextmanager
def wired(**settings: Any) -> Iterator[Wire]:
    """Serve the fake model."""
    catalogs: list[ModelCatalog] = []

    def load(_: object, listener: Any) -> ModelCatalog:
        catalogs.append(fake_catalog(listener=listener))
        return catalogs[0]

    with serving(create_app(load_settings(**settings), load=load)) as url:
        yield Wire(url, catalogs[0])
    assert catalogs[0].stop(TIMEOUT_S)
