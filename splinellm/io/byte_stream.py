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

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK = b" \t\r\n\xef\xbb\xbf"  # white space and the UTF-8 byte order mark
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


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
    """

    def __init__(self, name: str, raw: BinaryIO, *, gzipped: bool) -> None:
        self.name = name
        self._raw = raw
        self._gzipped = gzipped
        self._started = False
        self._size = os.fstat(raw.fileno()).st_size if _is_seekable_file(raw) else None

    @classmethod
    def open_file(cls, path: str, *, gzipped: bool) -> ByteStream:
        """Open a file by its path."""
        with reading(path):
            return cls(path, open(path, "rb"), gzipped=gzipped)

    @classmethod
    def open_stdin(cls) -> tuple[ByteStream, str]:
        """Open standard input and tell its format by how it begins.

        Returns
        -------
        ByteStream, str
            The stream, decompressed if it is gzip, and ``jsonl``, ``parquet`` or ``txt``.
        """
        with reading("stdin"):
            stream, begin = _look_ahead(sys.stdin.buffer)
            gzipped = begin.startswith(b"\x1f\x8b")
            if gzipped:
                stream, begin = _look_ahead(cast("BinaryIO", gzip.GzipFile(fileobj=stream)))
        kind = "jsonl" if begin.startswith(b"{") else "txt"
        kind = "parquet" if begin.startswith(b"PAR1") else kind
        return cls("stdin", stream, gzipped=False), kind

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

    def lines(self) -> Iterator[bytes]:
        r"""Lines without their end; only \n and \r\n end a line, as ``str.splitlines`` would not.

        A byte order mark at the start is dropped.
        """
        with reading(self.name):
            for number, line in enumerate(self.reader()):
                if number == 0:
                    line = self._check_encoding(line).removeprefix(b"\xef\xbb\xbf")
                yield line.removesuffix(b"\n").removesuffix(b"\r")

    def text(self) -> Iterator[str]:
        """Lines with their ends, undecodable bytes as lone surrogates; for the csv module."""
        with reading(self.name):
            text = io.TextIOWrapper(
                self.reader(), encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            try:
                for number, line in enumerate(text):
                    if number == 0:
                        self._check_encoding(line[:2].encode("utf-8", "surrogateescape"))
                    yield line
            finally:
                if not text.closed:  # the wrapper, when it goes, must not close the stream
                    text.detach()

    def progress(self) -> float | None:
        """Share of the bytes that were read."""
        if self._size is None:
            return None
        return min(1.0, self._raw.tell() / self._size) if self._size else 1.0

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _check_encoding(self, begin: bytes) -> bytes:
        if begin.startswith(_UTF16_MARKS):
            raise InputFileError(
                f"'{self.name}' is UTF-16, not UTF-8", hint="convert it: iconv -f UTF-16 -t UTF-8"
            )
        return begin


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
            # read1 returns what is there; read would wait for a slow pipe to fill the buffer.
            block = getattr(self._rest, "read1", self._rest.read)(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _look_ahead(stream: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Read past leading blanks, and return the whole stream with its first non-blank bytes."""
    blanks = bytearray()
    while (byte := stream.read(1)) and byte in _BLANK:
        blanks += byte
    begin = byte + stream.read(3) if byte else b""
    whole = io.BufferedReader(_Prefixed(bytes(blanks) + begin, stream), 1 << 16)
    return cast("BinaryIO", whole), begin


def _is_seekable_file(raw: BinaryIO) -> bool:
    # Pipes given by name, as in <(zcat x), are files that cannot be read twice.
    return raw.seekable()
