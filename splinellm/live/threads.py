"""Whose forward pass it is: a model is watched in one thread at a time."""

from __future__ import annotations

from threading import Lock, Thread, current_thread
from typing import Literal

What = Literal["pass", "generate"]


class Turns:
    """Which threads run the model, and whether two of them do at the same time.

    Threads may take turns, such as one that generates while another one reads the table. If two
    run the model at once, neither is recorded until both are done.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running = set[tuple[Thread, What]]()
        self._readers = set[Thread]()  # that have run the model
        self._last: Thread | None = None
        self._are_crossed = False

    def begin(self, what: What) -> bool:
        """Begin a pass or a generation in this thread; says whether no other one is running."""
        me = current_thread()
        with self._lock:
            self._running = {run for run in self._running if run[0].is_alive()}
            self._running.add((me, what))
            self._readers.add(me)
            self._last = me
            self._are_crossed |= any(thread is not me for thread, _ in self._running)
            return not self._are_crossed

    def end(self, what: What) -> bool:
        """End it; says whether no other thread has run the model meanwhile."""
        me = current_thread()
        with self._lock:
            # An interrupt may have left a pass of a generation behind.
            ended = {(me, what), (me, "pass")}
            was_alone = not self._are_crossed
            self._running -= ended
            self._are_crossed &= bool(self._running)
            return was_alone

    @property
    def are_crossed(self) -> bool:
        """Whether two threads have run the model at once, and one of them still does."""
        return self._are_crossed

    @property
    def is_anothers(self) -> bool:
        """Whether what was read last is of another thread, though this one has read, too."""
        with self._lock:
            last, me = self._last, current_thread()
            return last is not None and last is not me and last.is_alive() and me in self._readers
