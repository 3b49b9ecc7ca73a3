"""Reader of CSV and TSV."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from splinellm.io.checks import check_columns, check_text
from splinellm.io.rows import Problem, ReadOptions, Row
from splinellm.io.text_readers import BLANK_LINE, RowSource, raw_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from splinellm.io.byte_stream import ByteStream

_LARGEST_FIELD = 128 << 20  # an unclosed quote ends here instead of eating all memory


class CsvSource(RowSource):
    """Comma-separated values with a header; every value stays a string.

    Parameters
    ----------
    stream : ByteStream
        Where the bytes come from.
    options : ReadOptions
        How they are to be read.
    """

    delimiter: ClassVar[str] = ","
    """Between two values."""

    def __init__(self, stream: ByteStream, options: ReadOptions) -> None:
        super().__init__(stream, options)
        # The module's limit is one for the whole process; it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_FIELD))
        self._lines = _LineTap(stream.text())
        self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        self._header = self._read_header()

    def _read_header(self) -> list[str]:
        try:
            header = next(self._reader, [])
        except csv.Error:
            header = []
        header = [raw_text(name.encode("utf-8", "surrogateescape")) for name in header]
        check_columns(self.name, header, self.options)
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
        problem = check_text(values, self.options.text_column) or _undecodable_column(values)
        return Row(number, values, n_bytes=len(raw), problem=problem)


class TsvSource(CsvSource):
    """The same, separated by tabs."""

    delimiter: ClassVar[str] = "\t"


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
