"""A file that one process at a time holds; the system lets it go when that process ends."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from splinellm.errors import InUseError

if TYPE_CHECKING:
    from pathlib import Path

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What some network file systems answer."""


class Lock:
    """Held from the start.

    Parameters
    ----------
    path : Path
        Of the file; made if need be.
    what : str
        What it stands for, in the message.

    Raises
    ------
    InUseError
        Another process holds it.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _hold(self._descriptor)
            # Whoever held it until now may have removed it, and then it keeps nobody away.
            if not path.exists() or not os.path.samestat(os.fstat(self._descriptor), path.stat()):
                raise BlockingIOError
        except OSError as error:
            os.close(self._descriptor)
            if not isinstance(error, BlockingIOError | PermissionError):
                raise
            raise InUseError(
                f"another process is writing '{what}'",
                hint="wait for it, or give another output",
            ) from error

    def release(self) -> None:
        """Remove the file and let it go."""
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            os.close(self._descriptor)


def _hold(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                "the output's disk has no locks: see to it that no two runs write one output",
                stacklevel=3,
            )
