"""What stands for a lock where there is none: an object that its holder confirms while it lives."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from typing import Any

from splinellm.errors import InUseError
from splinellm.io.remote import RemotePath

LEASE_S = 60.0
"""A holder that has not been heard of for so long is gone."""
_BEATS = 4
"""So often in that time it confirms the object."""


_OURS: set[str] = set()
"""Those of this process."""


class Lease:
    """Held from the start, and confirmed by a thread until it is released.

    A process that was killed on this machine is known to be gone at once; one on another machine
    after :data:`LEASE_S`. Between two that begin within the same instant nothing decides: they
    write the same parts, and the output of either is whole.

    Parameters
    ----------
    path : RemotePath
        Of the object.
    what : str
        What it stands for, in the message.

    Raises
    ------
    InUseError
        Another process holds it.
    """

    def __init__(self, path: RemotePath, what: str) -> None:
        self._path = path
        self._token = uuid.uuid4().hex
        self._ended = threading.Event()
        held = self._read()
        if held is not None and _is_alive(held):
            where = "" if held["host"] == socket.gethostname() else f" on {held['host']}"
            raise InUseError(
                f"another process{where} is writing '{what}'",
                hint="wait for it, or give another output"
                + (f"; it is known to be gone after {LEASE_S:.0f} s" if where else ""),
            )
        self._confirm()
        _OURS.add(self._token)
        self._thread = threading.Thread(target=self._go_on, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Remove the object, if it is still this one's."""
        self._ended.set()
        self._thread.join()
        _OURS.discard(self._token)
        with suppress(OSError):
            if (self._read() or {}).get("token") == self._token:
                self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any] | None:
        try:
            held: dict[str, Any] = json.loads(self._path.read_bytes())
            return held if {"host", "pid", "token", "at"} <= held.keys() else None
        except (FileNotFoundError, ValueError, AttributeError):  # none, or something else
            return None

    def _confirm(self) -> None:
        told = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "token": self._token,
            "at": time.time(),
        }
        self._path.write_bytes(json.dumps(told).encode())

    def _go_on(self) -> None:
        while not self._ended.wait(LEASE_S / _BEATS):
            with suppress(OSError):  # the run itself will tell of a store that is gone
                self._confirm()


def _is_alive(held: dict[str, Any]) -> bool:
    if held["token"] in _OURS:
        return True
    is_fresh = abs(time.time() - float(held["at"])) < LEASE_S
    if held["host"] != socket.gethostname() or sys.platform == "win32":
        return is_fresh
    # A container that is started again has the same name and the same process number.
    return is_fresh and held["pid"] != os.getpid() and _is_process(int(held["pid"]))


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
