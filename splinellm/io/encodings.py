"""Which characters a file's bytes stand for: byte order marks, and UTF-16 that has none."""

from __future__ import annotations

import codecs
import io
import unicodedata
from typing import BinaryIO

from splinellm.errors import ConfigurationError, InputFileError

_MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WITHOUT_MARK = (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2))
_SAMPLE_BYTES = 8192


def check_encoding(name: str) -> None:
    """Refuse what is not the name of a text encoding.

    Raises
    ------
    ConfigurationError
        Python knows none of this name.
    """
    try:
        "".encode(name)
        b"a".decode(name, "ignore")  # that of domain names reads nothing else, and ignores nothing
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError) as error:
        raise ConfigurationError(
            f"there is no text encoding '{name[:40]}'",
            hint="known are utf-8, utf-16, cp1252, latin-1, shift_jis, gb18030, koi8-r and others",
        ) from error


def is_utf8(encoding: str | None) -> bool:
    """Whether bytes can be read as they are."""
    return encoding is None or codecs.lookup(encoding).name == "utf-8"


def needs_mark(encoding: str) -> bool:
    """Whether a byte order mark is to tell the order, so that without one nothing can be read."""
    return codecs.lookup(encoding).name in ("utf-16", "utf-32")


def marked_encoding(head: bytes) -> str | None:
    """Encoding that a byte order mark tells; None without one, or with that of UTF-8."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def unmarked_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 that the first bytes of a file must be, though they have no mark.

    Such bytes can be valid UTF-8, and would be read as text full of NULs.
    """
    sample = head[:_SAMPLE_BYTES]
    if b"\0" not in sample:
        return None
    return next((name for name, width in _WITHOUT_MARK if _is_plausible(sample, name, width)), None)


def _is_plausible(sample: bytes, encoding: str, width: int) -> bool:
    whole = sample[: len(sample) // width * width]
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(whole)
    except UnicodeDecodeError:
        return False
    if len(text) < 2 or not all(c in "\t\r\n" or unicodedata.category(c)[0] != "C" for c in text):
        return False
    # A line end of UTF-8 that happens to lie in the middle of a character speaks against it.
    newlines = text.count("\n")
    return 2 * (whole.count(b"\n") - newlines) <= newlines


class Utf8Stream(io.RawIOBase):
    """Bytes in another encoding, as UTF-8; what cannot be decoded stays as it is.

    Parameters
    ----------
    name : str
        What error messages call the file.
    raw : BinaryIO
        The bytes.
    encoding : str
        Of the bytes.
    """

    def __init__(self, name: str, raw: BinaryIO, encoding: str) -> None:
        self._name = name
        self._raw = raw
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._ready = b""
        self._is_at_end = False

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer with UTF-8."""
        while not self._ready and not self._is_at_end:
            block = read_some(self._raw, 1 << 16)
            self._is_at_end = not block
            try:
                text = self._decoder.decode(block, final=not block)
                self._ready = text.encode("utf-8", "surrogateescape")
            except UnicodeError:
                raise InputFileError(  # the cause quotes the text
                    f"'{self._name}' is not valid {self._encoding.upper()}",
                    hint="--encoding names another",
                ) from None
        given, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def read_some(stream: BinaryIO, n_bytes: int) -> bytes:
    """Return what is there; a plain read would wait for a slow pipe to fill the buffer."""
    block: bytes = getattr(stream, "read1", stream.read)(n_bytes)
    return block
