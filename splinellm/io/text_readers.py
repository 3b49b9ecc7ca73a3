"""Reader of plain text, and what it shares with the readers of CSV and JSON lines."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import pyarrow as pa

from splinellm.io.checks import check_columns
from splinellm.io.csv_types import CellScan
from splinellm.io.pipes import RowFeed
from splinellm.io.rows import CHUNK_BYTES, Problem, ReadOptions, RecordChunk, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from splinellm.io.byte_stream import ByteStream

BLANK_LINE = Problem("blank_line", "the line is blank")
_AS_IF_UTF16 = re.compile(r"\0?(?:[^\0]\0){3,}[^\0]?")
_BETWEEN_CELLS = re.compile(r'"?[,;\t|]"?')


class RowSource:
    """Base of the readers that make one row at a time.

    Parameters
    ----------
    stream : ByteStream
        Where the bytes come from.
    options : ReadOptions
        How they are to be read.
    """

    def __init__(self, stream: ByteStream, options: ReadOptions) -> None:
        self.name = stream.name
        self.n_read = 0
        self.n_before = 0
        self.stream = stream
        self.options = options
        self._n_nul = 0
        self._feed: RowFeed | None = None

    def rows(self) -> Iterator[Row]:
        """All rows, numbered from 1."""
        raise NotImplementedError

    def schema(self) -> pa.Schema:
        """Input columns."""
        raise NotImplementedError

    def types(self) -> dict[str, pa.DataType]:
        """Columns whose values are text here, and something else where they are written."""
        return {}

    def use_types(self, types: dict[str, pa.DataType]) -> None:
        """Take the types that the columns have in several files, this one among them."""

    def new_scan(self) -> CellScan | None:
        """What finds these types; None if none are wanted, or the format has its own."""
        return None

    def scan_cells(self, scan: CellScan) -> bool:  # noqa: ARG002 (CSV's)
        """Take all rows into account; tells whether no further one can change anything."""
        return True

    def column_names(self) -> list[str] | None:
        """Columns that are kept, if they are known before the rows are read."""
        return None

    def missing_columns(self) -> set[str] | None:
        """Columns that are wanted, and that no row had; None if no row tells."""
        return None

    def chunks(self) -> Iterator[RecordChunk]:
        """Rows in chunks of bounded length and size."""
        types = self.types()
        chunk: list[Row] = []
        self._n_nul = n_bytes = 0
        for row in self._arriving():
            if row is not None:
                chunk.append(row)
                self._note_nul(row)
                n_bytes += row.n_bytes
                self.n_read += 1
            if row is None or len(chunk) == self.options.chunk_rows or n_bytes >= CHUNK_BYTES:
                yield RecordChunk(self.name, chunk, self.options.text_column, types)
                chunk, n_bytes = [], 0
                if self._feed is not None:
                    self._feed.restart()
        if chunk:
            yield RecordChunk(self.name, chunk, self.options.text_column, types)
        if self._n_nul:
            warnings.warn(
                f"'{self.name}': {self._n_nul:,} texts have a NUL after each character; is a part "
                "of it UTF-16?",
                stacklevel=2,
            )
        self.tell()

    def _arriving(self) -> Iterator[Row | None]:
        """Rows; None where those of a pipe that were read must not wait for others."""
        rows, max_wait_s = _without_blank_end(self.rows()), self.options.max_wait_s
        if max_wait_s is None or not self.stream.is_pipe:
            return rows
        self._feed = RowFeed(rows, max_wait_s, self.stream.end)
        return iter(self._feed)

    def _note_nul(self, row: Row) -> None:
        """Count texts that look like UTF-16 among UTF-8: every second character is NUL."""
        text = row.values.get(self.options.text_column or "") if row.values else None
        if not isinstance(text, str) or "\0" not in text or row.problem is not None:
            return
        if _AS_IF_UTF16.fullmatch(text):
            self._n_nul += 1

    def tell(self) -> None:
        """Warn of what was noticed while the rows were read."""

    def encoding_name(self) -> str:
        """What the file's bytes should be, for messages."""
        return (self.stream.encoding or "UTF-8").upper()

    def encoding_hint(self) -> str:
        """Say what may be done about bytes that are not."""
        if self.stream.encoding is None:
            return "is the file Windows-1252? then --encoding cp1252 reads it"
        return "--encoding names another"

    def bad_encoding(self, error: UnicodeDecodeError) -> Problem:
        """Describe a line that cannot be decoded."""
        where = f"not valid {self.encoding_name()} at byte {error.start} of the line"
        return Problem("invalid_encoding", f"{where}; {self.encoding_hint()}")

    def progress(self) -> float | None:
        """Share of the bytes that were read."""
        return self.stream.progress()

    def close(self) -> None:
        """Close the file."""
        if self._feed is not None:
            self._feed.stop()
        self.stream.close()


def _without_blank_end(rows: Iterator[Row]) -> Iterator[Row]:
    # A blank line between rows is a bad row: it may have been a prompt. Blank lines after the
    # last row are how many editors and tools end a file.
    held: list[Row] = []
    for row in rows:
        if row.problem is BLANK_LINE:
            held.append(row)
        else:
            yield from held
            held.clear()
            yield row


class TextSource(RowSource):
    """A prompt a line.

    Parameters
    ----------
    stream : ByteStream
        Where the bytes come from.
    options : ReadOptions
        What the one column is called, ``text`` if it need not be there.
    """

    def __init__(self, stream: ByteStream, options: ReadOptions) -> None:
        super().__init__(stream, options)
        self._column = options.text_column or "text"
        check_columns(self.name, [self._column], options)
        self._is_header = False

    def rows(self) -> Iterator[Row]:
        """One row per line."""
        for number, line in enumerate(self.stream.lines(), 1):
            if not line:
                yield Row(number, None, problem=BLANK_LINE)
                continue
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                yield Row(number, None, raw_text(line), len(line), self.bad_encoding(error))
                continue
            if number == 1:
                self._is_header = self._column in _BETWEEN_CELLS.split(f",{text},")[1:-1]
            yield Row(number, {self._column: text}, n_bytes=len(line))

    def tell(self) -> None:
        """Warn of a table that was read as a prompt a line, header and all."""
        if self._is_header and self.n_read > 1:
            warnings.warn(
                f"'{self.name}' was read as a prompt a line, but its first line is the header of "
                f"a table with a column '{self._column}'; --input-format csv reads it as one",
                stacklevel=2,
            )

    def column_names(self) -> list[str]:
        """Return the one column."""
        return [self._column]

    def schema(self) -> pa.Schema:
        """Return the one column."""
        return pa.schema([pa.field(self._column, pa.string())])


def raw_text(line: bytes) -> str:
    """Decode without loss: what is not UTF-8 becomes lone surrogates, which JSON can escape."""
    return line.decode("utf-8", "surrogateescape")
