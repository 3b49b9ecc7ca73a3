"""A file of an output that nobody sees before it is whole."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast
from uuid import uuid4

from splinellm.io.remote import Location, RemotePath, told

_STREAMED = ("s3", "s3a", "gs", "gcs")
"""Their objects are sent in parts, and are there once the last is confirmed."""


class Unfinished(Protocol):
    """A file that is written, and then put in its place or thrown away."""

    file: BinaryIO

    def settle(self) -> None:
        """Close the file, and wait until its content is safe."""
        ...

    def put_in_place(self) -> None:
        """Give it its name; what had it is replaced."""
        ...

    def discard(self) -> None:
        """Close and remove it; never raises."""
        ...


def unfinished(partial: Location, final: Location) -> Unfinished:
    """Begin a file.

    Parameters
    ----------
    partial : Path or RemotePath
        Where it is until then, on a disk that can rename it.
    final : Path or RemotePath
        Its place.
    """
    if isinstance(final, Path):
        assert isinstance(partial, Path)  # noqa: S101 (it lies beside)
        return _OnDisk(partial, final)
    return _Streamed(final) if final.scheme in _STREAMED else _Sent(final)


class _OnDisk:
    """Beside its place, and renamed."""

    def __init__(self, partial: Path, final: Path) -> None:
        self._partial = partial
        self._final = final
        self.file: BinaryIO = partial.open("wb")

    def settle(self) -> None:
        if not self.file.closed:
            try:
                self.file.flush()
                os.fsync(self.file.fileno())
            finally:
                self.file.close()

    def put_in_place(self) -> None:
        self._final.parent.mkdir(exist_ok=True)
        self._partial.replace(self._final)

    def discard(self) -> None:
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)


class _Streamed:
    """Sent in parts while it is written, and confirmed at the end."""

    def __init__(self, final: RemotePath) -> None:
        self._object = final.create()
        self.file = cast("BinaryIO", _Stream(self._object))
        self._is_settled = False

    def settle(self) -> None:
        if not self._is_settled:
            self._is_settled = True
            with told():
                self._object.close()

    def put_in_place(self) -> None:
        with told():
            self._object.commit()

    def discard(self) -> None:
        self._is_settled = True
        with suppress(Exception):
            self._object.discard()
        self._object.closed = True  # else it would be sent when it is collected


class _Sent:
    """Written here, and sent when it is whole: for stores that know no parts."""

    def __init__(self, final: RemotePath) -> None:
        self._final = final
        descriptor, name = tempfile.mkstemp(prefix="splinellm-")
        self._here = Path(name)
        self.file: BinaryIO = os.fdopen(descriptor, "wb")

    def settle(self) -> None:
        self.file.close()

    def put_in_place(self) -> None:
        self._final.upload(self._here)
        self._here.unlink()

    def discard(self) -> None:
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self._here.unlink(missing_ok=True)


class _Stream(io.RawIOBase):
    """What writers see of an object that is sent: it only grows, and its failures are OSErrors."""

    def __init__(self, target: object) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, block: bytes) -> int:  # type: ignore[override]
        content = bytes(block)
        with told():
            self._target.write(content)  # type: ignore[attr-defined]
        return len(content)


def write_whole(path: Location, content: bytes) -> None:
    """Put a small file in place; it is there whole, or not at all."""
    if isinstance(path, RemotePath):
        path.write_bytes(content)
        return
    partial = path.with_name(path.name + ".tmp")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        settle(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: Location, beside: Mapping[Location, bytes] | None = None) -> Iterator[BinaryIO]:
    """Write a file that a user names; whatever fails, what was there is there still, and whole.

    Parameters
    ----------
    path : Path or RemotePath
        Of a link, the file that it leads to is replaced; a device is written to.
    beside : mapping of Path or RemotePath to bytes, optional
        Small files that belong to it, put in place once its content is safe; none of a device.
    """
    final = Path(os.path.realpath(path)) if isinstance(path, Path) else path
    if isinstance(final, Path) and final.exists() and not final.is_file():  # such as /dev/stdout
        with final.open("wb") as file:
            yield file
        return
    target = unfinished(final.with_name(f"{final.name}.{uuid4().hex[:8]}.tmp"), final)
    try:
        yield target.file
        target.settle()
        for place, content in (beside or {}).items():
            write_whole(place, content)
        target.put_in_place()
    except BaseException:
        target.discard()
        raise


def replace_whole(path: str | Path, content: bytes) -> None:
    """Write a small file that a user names; see :func:`replacing`."""
    with replacing(Path(path)) as file:
        file.write(content)


def settle(path: Location) -> None:
    """Wait until the names in a folder are on the disk."""
    if isinstance(path, RemotePath) or os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
