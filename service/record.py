"""What is known about one request while it is answered: for its log line, headers and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from service.engine.contracts import Timing

_KEY = "record"


@dataclass
class RequestRecord:
    """Facts about a request; never its text.

    Parameters
    ----------
    request_id : str
        The client's, if it is harmless, else a new one.
    started : float
        ``time.perf_counter()`` at the first byte.
    key_name : str, optional
        Name of the API key.
    n_inputs, n_tokens : int
        What the route read.
    queue_s, inference_s : float
        Where the time went; of several submissions the sum.
    code : str, optional
        Of the error that was the answer.
    take : callable, optional
        Takes one more request out of what the key has this minute, or refuses.
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    key_name: str | None = None
    n_inputs: int = 0
    n_tokens: int = 0
    queue_s: float = 0.0
    inference_s: float = 0.0
    code: str | None = None
    take: Callable[[], None] | None = None

    def add(self, timing: Timing) -> None:
        """Add the time of one submission to the engine."""
        self.queue_s += timing.queue_s
        self.inference_s += timing.inference_s

    @property
    def total_s(self) -> float:
        """Time since the first byte."""
        return time.perf_counter() - self.started

    def headers(self) -> dict[str, str]:
        """Headers that tell the client."""
        return {
            "x-request-id": self.request_id,
            "x-tokens": str(self.n_tokens),
            "x-queue-ms": f"{1000 * self.queue_s:.1f}",
            "x-inference-ms": f"{1000 * self.inference_s:.1f}",
            "x-total-ms": f"{1000 * self.total_s:.1f}",
        }


def start_record(scope: Scope, request_id: str) -> RequestRecord:
    """Open the record of the request that `scope` describes."""
    record = RequestRecord(request_id)
    scope.setdefault("state", {})[_KEY] = record
    return record


def record_of(connection: HTTPConnection | Scope) -> RequestRecord:
    """Get the record of a request, or of its scope."""
    scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    record: RequestRecord = scope["state"][_KEY]
    return record
