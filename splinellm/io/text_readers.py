"""Readers of plain text, and of CSV and TSV; what they share with the JSON lines reader."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from splinellm.io.rows import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Problem,
    RecordChunk,
    Row,
    check_columns,
    check_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from splinellm.io.byte_stream import ByteStream

BLANK_LINE = Problem("blank_line", "the line is blank")

_LARGEST_FIELD = 128 << 20  # an unclosed quote ends here instead of eating all memory


class RowSource:
    """Base of the readers that make one row at a time.

    Parameters
    ----------
    stream : ByteStream
        Where the bytes come from.
    text_column : str or None
        Column that holds the prompts; None if there need be none.
    is_reserved : callable
        Whether the output adds a column of this name.
    """

    def __init__(
        self, stream: ByteStream, text_column: str | None, is_reserved: Callable[[str], bool]
    ) -> None:
        self.name = stream.name
        self.n_read = 0
        self.stream = stream
        self.text_column = text_column
        self.is_reserved = is_reserved

    def rows(self) -> Iterator[Row]:
        """All rows, numbered from 1."""
        raise NotImplementedError

    def schema(self) -> pa.Schema:
        """Input columns."""
        raise NotImplementedError

    def chunks(self) -> Iterator[RecordChunk]:
        """Rows in chunks of bounded length and size."""
        chunk: list[Row] = []
        n_bytes = 0
        for row in _without_blank_end(self.rows()):
            chunk.append(row)
            n_bytes += row.n_bytes
            self.n_read += 1
            if len(chunk) == CHUNK_ROWS or n_bytes >= CHUNK_BYTES:
                yield RecordChunk(self.name, chunk, self.text_column)
                chunk, n_bytes = [], 0
        if chunk:
            yield RecordChunk(self.name, chunk, self.text_column)

    def progress(self) -> float | None:
        """Share of the bytes that were read."""
        return self.stream.progress()

    def close(self) -> None:
        """Close the file."""
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
    text_column : str
        What the one column is called.
    is_reserved : callable
        Whether the output adds a column of this name.
    """

    def __init__(
        self, stream: ByteStream, text_column: str, is_reserved: Callable[[str], bool]
    ) -> None:
        super().__init__(stream, text_column, is_reserved)
        self._column = text_column
        check_columns(self.name, [text_column], text_column, is_reserved)

    def rows(self) -> Iterator[Row]:
        """One row per line."""
        for number, line in enumerate(self.stream.lines(), 1):
            if not line:
                yield Row(number, None, problem=BLANK_LINE)
                continue
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                yield Row(number, None, raw_text(line), len(line), bad_encoding(error))
                continue
            yield Row(number, {self._column: text}, n_bytes=len(line))

    def schema(self) -> pa.Schema:
        """Return the one column."""
        return pa.schema([pa.field(self._column, pa.string())])


class CsvSource(RowSource):
    """Comma- or tab-separated values with a header; every value stays a string.

    Parameters
    ----------
    stream : ByteStream
        Where the bytes come from.
    text_column : str or None
        Column that holds the prompts; None if there need be none.
    is_reserved : callable
        Whether the output adds a column of this name.
    delimiter : str
        Between two values.
    """

    def __init__(
        self,
        stream: ByteStream,
        text_column: str | None,
        is_reserved: Callable[[str], bool],
        delimiter: str = ",",
    ) -> None:
        super().__init__(stream, text_column, is_reserved)
        # The module's limit is one for the whole process; it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_FIELD))
        self._lines = _LineTap(stream.text())
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self._header = self._read_header()

    def _read_header(self) -> list[str]:
        try:
            header = next(self._reader, [])
        except csv.Error:
            header = []
        header = [raw_text(name.encode("utf-8", "surrogateescape")) for name in header]
        check_columns(self.name, header, self.text_column, self.is_reserved)
        self._lines.take()
        return header

    def schema(self) -> pa.Schema:
        """Return the header's columns, all strings."""
        return pa.schema([pa.field(name, pa.string()) for name in self._header])

    def rows(self) -> Iterator[Row]:
        """One row per record; a value may span lines."""
        number = 0
        while True:
            number += 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                raw = self._lines.take()
                yield Row(number, None, raw, len(raw), Problem("invalid_csv", _explain(error)))
                continue
            raw = self._lines.take()
            yield self._row(number, cells, raw)

    def _row(self, number: int, cells: list[str], raw: str) -> Row:
        if not cells:
            return Row(number, None, raw, len(raw), BLANK_LINE)
        if len(cells) != len(self._header):
            reason = f"{len(cells)} values for {len(self._header)} columns"
            return Row(number, None, raw, len(raw), Problem("ragged_row", reason))
        values = dict(zip(self._header, cells, strict=True))
        problem = check_text(values, self.text_column) or _undecodable_column(values)
        return Row(number, values, n_bytes=len(raw), problem=problem)


class _LineTap:
    """Lines on their way into the csv reader, kept until the row that they make is done."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def take(self) -> str:
        taken = "".join(self._taken)
        self._taken.clear()
        return taken.removesuffix("\n").removesuffix("\r")


def _explain(error: csv.Error) -> str:
    message = str(error)
    if message == "unexpected end of data":
        return "a quote is opened and never closed"
    return f"invalid CSV: {message}"


def _undecodable_column(values: dict[str, Any]) -> Problem | None:
    for name, value in values.items():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return Problem("invalid_encoding", f"column '{name[:80]}' is not valid UTF-8")
    return None


def raw_text(line: bytes) -> str:
    """Decode without loss: what is not UTF-8 becomes lone surrogates, which JSON can escape."""
    return line.decode("utf-8", "surrogateescape")


def bad_encoding(error: UnicodeDecodeError) -> Problem:
    """Describe a line that is not UTF-8."""
    return Problem("invalid_encoding", f"not valid UTF-8 at byte {error.start} of the line")
