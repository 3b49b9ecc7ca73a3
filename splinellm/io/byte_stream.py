"""Bytes of a file or of standard input: decompressed, countable, and re-readable on request."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
import tempfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from splinellm.errors import InputFileError
from splinellm.io.encodings import (
    Utf8Stream,
    is_utf8,
    marked_encoding,
    needs_mark,
    read_some,
    unmarked_encoding,
)
from splinellm.io.formats import FORMATS
from splinellm.io.pipes import PipeBytes, is_live
from splinellm.io.remote import Location, RemotePath

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK = b" \t\r\n\xef\xbb\xbf"  # white space and the UTF-8 byte order mark
_HEAD_BYTES = 1 << 16
"""How much is looked at to tell format, encoding and line ends."""
_GZIP = b"\x1f\x8b"
_PACKED = {
    _GZIP: "gzip",
    b"PK\x03\x04": "zip, as .xlsx are",
    b"(\xb5/\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
}


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn failures to read into one clear error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputFileError(f"'{name}' does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputFileError(f"'{name}' is not a complete gzip file: {error}") from error
    except OSError as error:
        raise InputFileError(f"cannot read '{name}': {error.strerror or error}") from error


class ByteStream:
    """A stream of bytes that a reader can start on again after :meth:`make_rereadable`.

    Parameters
    ----------
    name : str
        What error messages call it.
    raw : BinaryIO
        The bytes as they are on disk or in the pipe.
    gzipped : bool
        Whether they are to be decompressed.
    encoding : str, optional
        Of text. UTF-8 by default, and what a byte order mark tells.
    pipe : PipeBytes, optional
        Where the bytes come from, if more may be to come.
    size : int, optional
        Bytes there are, if the file system does not tell.
    """

    def __init__(
        self,
        name: str,
        raw: BinaryIO,
        *,
        gzipped: bool,
        encoding: str | None = None,
        pipe: PipeBytes | None = None,
        size: int | None = None,
    ) -> None:
        self.name = name
        self.encoding = encoding
        self._raw = raw
        self._gzipped = gzipped
        self._pipe = pipe
        self._started = False
        self._size = size
        if size is None and _is_seekable_file(raw):
            self._size = os.fstat(raw.fileno()).st_size

    @classmethod
    def open_file(cls, path: Location, *, gzipped: bool, encoding: str | None = None) -> ByteStream:
        """Open a file by its path."""
        name = str(path)
        with reading(name):
            raw = path.open("rb")
            if isinstance(path, RemotePath):
                size = path.size() if raw.seekable() else None
                return cls(name, raw, gzipped=gzipped, encoding=encoding, size=size)
            if not is_live(raw):
                return cls(name, raw, gzipped=gzipped, encoding=encoding)
            pipe = PipeBytes(raw)
            return cls(name, cast("BinaryIO", pipe), gzipped=gzipped, encoding=encoding, pipe=pipe)

    @classmethod
    def open_stdin(cls, *, encoding: str | None = None) -> tuple[ByteStream, bytes]:
        """Open standard input and look at how it begins.

        Returns
        -------
        ByteStream, bytes
            The stream, decompressed if it is gzip, and what it begins with, up to the end of a
            line at least.
        """
        buffer = sys.stdin.buffer
        pipe = PipeBytes(buffer, is_owned=False) if is_live(buffer) else None
        with reading("stdin"):
            stream, head = _look_ahead(buffer if pipe is None else cast("BinaryIO", pipe))
            if head.startswith(_GZIP):
                # Unbuffered, to unpack what is there: a buffer would wait until it is full.
                packed = cast("BinaryIO", cast("io.BufferedReader", stream).raw)
                stream, head = _look_ahead(cast("BinaryIO", gzip.GzipFile(fileobj=packed)))
        return cls("stdin", stream, gzipped=False, encoding=encoding, pipe=pipe), head

    @property
    def is_pipe(self) -> bool:
        """Whether what is read may have to be waited for."""
        return self._pipe is not None

    def end(self) -> None:
        """Let a read that waits, in another thread, come to an end."""
        if self._pipe is not None:
            self._pipe.end()

    def reader(self) -> BinaryIO:
        """Start reading, from the beginning. Not to be closed by the caller."""
        if self._started:
            self._raw.seek(0)
        self._started = True
        if self._gzipped:
            return cast("BinaryIO", gzip.GzipFile(fileobj=self._raw))
        return self._raw

    def make_rereadable(self) -> None:
        """Copy a pipe to a temporary file, so that :meth:`reader` can be called twice."""
        if self._size is None and not self._started:
            spool = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
            with reading(self.name):
                shutil.copyfileobj(self._raw, spool, 1 << 20)
                spool.seek(0)
                self._size = os.fstat(spool.fileno()).st_size
            self._raw = cast("BinaryIO", spool)
            self._pipe = None

    def lines(self) -> Iterator[bytes]:
        r"""Lines in UTF-8 without their end.

        Only \n and \r\n end a line, as ``str.splitlines`` would not; or \r, where the file has
        lines that end so and no others. A byte order mark at the start is dropped.

        Raises
        ------
        InputFileError
            Lines of a pipe, which cannot be looked through before, end in \r, later ones in \n.
        """
        with reading(self.name):
            stream, head = self._decoded()
            is_old = b"\r" in head and b"\n" not in head
            if is_old and self._raw.seekable():  # or a long first line has a \r within
                is_old = not _has_newline(stream)
                stream, _ = self._decoded()
            lines = _lines_of_old_macs(stream, self.name) if is_old else _lines(stream)
            for number, line in enumerate(lines):
                yield line if number else line.removeprefix(b"\xef\xbb\xbf")

    def text(self) -> Iterator[str]:
        """Lines with their ends, undecodable bytes as lone surrogates; for the csv module."""
        with reading(self.name):
            text = io.TextIOWrapper(
                self._decoded()[0], encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            try:
                for line in text:  # noqa: UP028 (a `yield from` that is left closes the stream)
                    yield line
            finally:
                if not text.closed:  # the wrapper, when it goes, must not close the stream
                    text.detach()

    def _decoded(self) -> tuple[BinaryIO, bytes]:
        """Start reading text; returns it as UTF-8, and how it begins."""
        stream = self.reader()
        if self._raw.seekable():
            head = stream.read(_HEAD_BYTES)
            stream.seek(0)
        else:
            stream, head = _look_ahead(stream)
        self._check_is_text(head)
        encoding = self.encoding or marked_encoding(head)
        if encoding is None and (found := unmarked_encoding(head)):
            raise InputFileError(
                f"'{self.name}' is {found.upper()} without a byte order mark, not UTF-8",
                hint=f"--encoding {found} reads it",
            )
        if encoding is not None and needs_mark(encoding) and head and not marked_encoding(head):
            raise InputFileError(
                f"'{self.name}' has no byte order mark, which {encoding.upper()} begins with",
                hint=f"--encoding {unmarked_encoding(head) or encoding + '-le'} reads it without",
            )
        if encoding is None or is_utf8(encoding):
            return stream, head
        decoded = io.BufferedReader(Utf8Stream(self.name, stream, encoding), 1 << 16)
        return cast("BinaryIO", decoded), head.decode(encoding, "ignore").encode("utf-8", "ignore")

    def _check_is_text(self, head: bytes) -> None:
        """Refuse what is no text in any encoding, and might be read as some in part."""
        known = next((k for k in FORMATS if k.begins and head.startswith(k.begins)), None)
        if known is not None and b"\0" in head:
            raise InputFileError(
                f"'{self.name}' is {known.name}, not text",
                hint=f"--input-format {known.name} reads it",
            )
        packed = next((name for begin, name in _PACKED.items() if head.startswith(begin)), None)
        if packed is not None:
            hint = "name it .gz, and it is unpacked" if packed == "gzip" else "unpack it first"
            raise InputFileError(f"'{self.name}' is packed with {packed}, not text", hint=hint)

    def progress(self) -> float | None:
        """Share of the bytes that were read."""
        if self._size is None:
            return None
        return min(1.0, self._raw.tell() / self._size) if self._size else 1.0

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


class _Prefixed(io.RawIOBase):
    """A stream put back together after its beginning was read."""

    def __init__(self, begin: bytes, rest: BinaryIO) -> None:
        self._begin = begin
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._begin:
            block, self._begin = self._begin[: len(buffer)], self._begin[len(buffer) :]
        else:
            block = read_some(self._rest, len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _look_ahead(stream: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Read the first line that is not blank, and return the whole stream with what was read."""
    head = bytearray()
    while len(head) < _HEAD_BYTES and (block := read_some(stream, _HEAD_BYTES - len(head))):
        head += block
        if b"\n" in head.lstrip(_BLANK) or head.startswith(_GZIP):
            break
    whole = io.BufferedReader(_Prefixed(bytes(head), stream), 1 << 16)
    return cast("BinaryIO", whole), bytes(head)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    for line in stream:
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _has_newline(stream: BinaryIO) -> bool:
    return any(b"\n" in block for block in iter(lambda: read_some(stream, 1 << 20), b""))


def _lines_of_old_macs(stream: BinaryIO, name: str) -> Iterator[bytes]:
    rest = b""
    while block := read_some(stream, 1 << 16):
        if b"\n" in block:
            raise InputFileError(
                f"'{name}' has lines that end in a carriage return, and others that end in a line "
                "feed",
                hint="give it as a file, not as a pipe: then only line feeds end a line",
            )
        *lines, rest = (rest + block).split(b"\r")
        yield from lines
    if rest:
        yield rest


def _is_seekable_file(raw: BinaryIO) -> bool:
    # Pipes given by name, as in <(zcat x), are files that cannot be read twice.
    return raw.seekable()
