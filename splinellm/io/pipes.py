"""Pipes: what arrives slowly is read in a thread, so that no row waits for others to come."""

from __future__ import annotations

import io
import os
import selectors
import stat
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

from splinellm.io.rows import CHUNK_BYTES, CHUNK_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from splinellm.io.rows import Row

IDLE_S = 0.1
"""After this long without a further row, those that came are computed."""
_POLL_S = 0.1


class PipeBytes(io.RawIOBase):
    """Bytes of a pipe or a terminal; waiting for more of them can be ended from another thread.

    Parameters
    ----------
    raw : BinaryIO
        Of which nothing was read yet.
    is_owned : bool
        Whether it is closed with this.
    """

    def __init__(self, raw: BinaryIO, *, is_owned: bool = True) -> None:
        self._file = raw
        self._is_owned = is_owned
        self._descriptor = raw.fileno()
        self._is_ended = False

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Wait for bytes, and take what is there."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            while not selector.select(_POLL_S):
                if self._is_ended:
                    return 0
        block = os.read(self._descriptor, len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def end(self) -> None:
        """Let whoever waits find the end of the stream."""
        self._is_ended = True

    def close(self) -> None:
        """Close the file, if it is this one's."""
        if self._is_owned and not self.closed:
            self._file.close()
        super().close()


def is_live(raw: BinaryIO) -> bool:
    """Whether a file is a pipe or the like, of which more may be to come."""
    if sys.platform == "win32":  # where nothing tells whether there is something to read
        return False
    try:
        mode = os.fstat(raw.fileno()).st_mode
        # Of devices, terminals alone: /dev/null answers at once, and cannot be waited for.
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(raw.fileno())
    except (OSError, AttributeError):  # as io.UnsupportedOperation is: bytes in memory
        return False


class RowFeed:
    """Rows that a thread reads ahead, and pauses between them.

    Parameters
    ----------
    rows : iterator of Row
        Where they come from; used in the thread alone.
    max_wait_s : float
        How long the first row after a pause waits for others.
    end : callable
        Lets a read that waits in the thread come to an end.
    """

    def __init__(self, rows: Iterator[Row], max_wait_s: float, end: Callable[[], None]) -> None:
        self._rows = rows
        self._max_wait_s = max_wait_s
        self._end = end
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, Row]] = deque()
        self._n_bytes = 0
        self._is_done = self._is_stopped = False
        self._error: BaseException | None = None
        self._first_s: float | None = None
        self._thread = threading.Thread(target=self._read, name="rows of a pipe", daemon=True)

    def __iter__(self) -> Iterator[Row | None]:
        """Rows as they come; None where those since the last pause must not wait any longer."""
        self._thread.start()
        last_s = 0.0
        while True:
            with self._changed:
                while not self._waiting and not self._is_done:
                    left_s = None
                    if self._first_s is not None:
                        until_s = min(last_s + IDLE_S, self._first_s + self._max_wait_s)
                        left_s = max(0.0, until_s - time.monotonic())
                    if not self._changed.wait(left_s):
                        break
                taken = self._waiting.popleft() if self._waiting else None
                if taken is not None:
                    self._n_bytes -= taken[1].n_bytes
                    self._changed.notify_all()
                elif self._is_done:
                    break
            if taken is None:
                self.restart()
                yield None
                continue
            last_s, row = taken
            self._first_s = last_s if self._first_s is None else self._first_s
            yield row
        if self._error is not None:
            raise self._error

    def restart(self) -> None:
        """Note that no row waits any more."""
        self._first_s = None

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._end()
        if self._thread.is_alive():
            self._thread.join(10 * _POLL_S)

    def _read(self) -> None:
        try:
            for row in self._rows:
                with self._changed:
                    while not self._is_stopped and (
                        len(self._waiting) >= CHUNK_ROWS or self._n_bytes >= CHUNK_BYTES
                    ):
                        self._changed.wait()
                    if self._is_stopped:
                        return
                    self._waiting.append((time.monotonic(), row))
                    self._n_bytes += row.n_bytes
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 (raised where the rows are taken)
            self._error = error
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()
