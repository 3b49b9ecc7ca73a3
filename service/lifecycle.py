"""Where the service is between its start and its end."""

from __future__ import annotations

import threading
import time

from service.errors import NotReadyError, ShuttingDownError


class Lifecycle:
    """Loading, ready, draining; and how many requests are being answered.

    Its methods may be called from a signal handler or another thread.

    Parameters
    ----------
    drain_timeout_s : float
        How long accepted requests have once the end has begun.
    """

    def __init__(self, drain_timeout_s: float) -> None:
        self.drain_timeout_s = drain_timeout_s
        self.failure: BaseException | None = None
        self._loaded = threading.Event()
        self._drain_ends: float | None = None
        self._in_flight = 0

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._loaded.is_set() and not self.draining

    @property
    def draining(self) -> bool:
        """Whether the end has begun."""
        return self._drain_ends is not None

    @property
    def in_flight(self) -> int:
        """Requests that were accepted and are not answered."""
        return self._in_flight

    @property
    def time_left_s(self) -> float:
        """What remains of the drain limit."""
        if self._drain_ends is None:
            return self.drain_timeout_s
        return max(0.0, self._drain_ends - time.monotonic())

    @property
    def overdue(self) -> bool:
        """Whether the drain limit has passed."""
        return self.draining and self.time_left_s == 0

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.failure is not None or (self.draining and self._in_flight == 0)

    def loaded(self) -> None:
        """Note that the models answer."""
        self._loaded.set()

    def failed(self, error: BaseException) -> None:
        """Note that the models cannot be loaded."""
        self.failure = error

    def drain(self) -> None:
        """Take no new requests from now on."""
        if self._drain_ends is None:
            self._drain_ends = time.monotonic() + self.drain_timeout_s

    def accept(self) -> None:
        """Count a request in, or refuse it. On the event loop only.

        Raises
        ------
        NotReadyError, ShuttingDownError
            The service does not take requests yet, or no more.
        """
        if self.draining:
            raise ShuttingDownError("the service is shutting down", retry_after_s=5)
        if not self._loaded.is_set():
            raise NotReadyError("the model is still loading", retry_after_s=2)
        self._in_flight += 1

    def answered(self) -> None:
        """Count an accepted request out."""
        self._in_flight -= 1
