"""Reader of CSV and TSV, as spreadsheets and people write them."""

from __future__ import annotations

import csv
import re
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from splinellm.errors import InputFileError
from splinellm.io.checks import check_columns, check_text
from splinellm.io.csv_types import CellScan
from splinellm.io.rows import Problem, ReadOptions, Row
from splinellm.io.text_readers import BLANK_LINE, RowSource, raw_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from splinellm.io.byte_stream import ByteStream

_LARGEST_FIELD = 128 << 20
_MOST_LINES = 10_000
_MOST_CHARACTERS = 16 << 20
"""A record of several lines ends here: an unclosed quote must not swallow the file."""
_MANY_LINES = 10
"""Lines in quotes, from which on it is enough that they have as many values as a row."""
_FEW = 0.01
"""Of the rows of a single column: so many may span lines, and be looked at for it."""
_NUMBER = re.compile(r"\s*[-+]?\d+(?:[.,]\d+)?\s*")

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_EXCEL_DELIMITER = re.compile(r"sep=(.)\s*")


class CsvSource(RowSource):
    """Comma-separated values with a header.

    Values are strings; where the options want types, the file is read once more before, and columns
    of numbers and booleans have theirs where they are written.

    Without ``delimiter`` in the options, the header tells: if only another delimiter makes the text
    column of it, that is the one. A row whose quote is never closed is bad, and no more than its
    first line: the lines after it are read again, as rows of their own.

    Parameters
    ----------
    stream : ByteStream
        Where the bytes come from.
    options : ReadOptions
        How they are to be read.
    """

    delimiter: ClassVar[str] = ","
    """Between two values, unless the file tells another."""

    def __init__(self, stream: ByteStream, options: ReadOptions) -> None:
        super().__init__(stream, options)
        # The module's limit is one for the whole process; it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_FIELD))
        if options.is_typed is not None:
            stream.make_rereadable()
        self._found_types: dict[str, pa.DataType] | None = None
        self._begin()

    def _begin(self) -> None:
        """Start at the beginning, and read the header."""
        self._lines = _LineTap(self.stream.text())
        delimiter = self.options.delimiter or self._told_delimiter()
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self._header = self._read_header(delimiter)
        keeps = self.options.keeps
        self._columns = [(i, name) for i, name in enumerate(self._header) if keeps(name)]
        self._swallowed: list[tuple[int, int]] = []
        self._n_spanning = 0
        self._is_at_first_row = True

    def _told_delimiter(self) -> str:
        """Delimiter that the header makes certain, or the format's own."""
        if sep := _EXCEL_DELIMITER.fullmatch(self._lines.peek()):
            self._lines.take()  # a line that Excel writes, and hides
            return sep[1]
        self._lines.give_back(0)
        headers = {mark: self._header_with(mark) for mark in (self.delimiter, *_DELIMITERS)}
        text = self.options.text_column
        found = [mark for mark, names in headers.items() if text in names]
        if text is None or self.delimiter in found:
            return self.delimiter
        if found:
            return found[0]
        # None is right; the one that finds most columns makes the best message.
        best = max(headers, key=lambda mark: len(headers[mark]))
        return best if len(headers[best]) > 1 else self.delimiter

    def _header_with(self, delimiter: str) -> list[str]:
        reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        try:
            return next((cells for cells in reader if cells), [])
        except csv.Error:
            return []
        finally:
            self._lines.give_back(0)

    def _read_header(self, delimiter: str) -> list[str]:
        try:
            header = next((cells for cells in self._reader if cells), [])
        except csv.Error as error:
            reason = _explain(error, self._lines.n_taken)
            raise InputFileError(f"the header of '{self.name}' cannot be read: {reason}") from error
        names = [raw_text(name.encode("utf-8", "surrogateescape")) for name in header]
        while names and not names[-1].strip():
            names.pop()
        self._n_unnamed = len(header) - len(names)
        self._check_decodable(names)
        hint = None
        if names and names[0].startswith("#"):
            hint = "the first line must be the header; remove comments before it"
        elif len(names) == 1 and delimiter == self.delimiter:
            marks = [
                f"{word} (--delimiter '{m}')" for m, word in _DELIMITERS.items() if m in names[0]
            ]
            hint = "is the delimiter another? --delimiter names it"
            if marks:
                hint = f"is the delimiter another, such as {' or '.join(marks)}?"
        elif delimiter != self.delimiter:
            word = _DELIMITERS.get(delimiter, delimiter)
            hint = f"read with delimiter {word}; --delimiter names another"
        check_columns(self.name, names, self.options, hint=hint)
        self._lines.take()
        return names

    def _check_decodable(self, names: list[str]) -> None:
        """Refuse names that could not be written again; columns that are not kept may have them."""
        for place, name in enumerate(names, 1):
            if self.options.keeps(name) and _undecodable_column({name: name}) is not None:
                raise InputFileError(
                    f"the header of '{self.name}' is not valid {self.encoding_name()} in column "
                    f"{place}",
                    hint=self.encoding_hint(),
                )

    def schema(self) -> pa.Schema:
        """Return the header's columns; of types, unless all are to stay text."""
        types = self.types()
        return pa.schema(
            [pa.field(name, types.get(name, pa.string())) for _, name in self._columns]
        )

    def types(self) -> dict[str, pa.DataType]:
        """Columns that are more than text; reads the whole file when it is first asked."""
        if self._found_types is None:
            self._found_types = self._scanned()
        return self._found_types

    def use_types(self, types: dict[str, pa.DataType]) -> None:
        """Take the types that the columns have in several files."""
        self._found_types = types

    def new_scan(self) -> CellScan | None:
        """What finds types, of the columns that are to have some."""
        is_typed = self.options.is_typed
        names = [name for _, name in self._columns if is_typed is not None and is_typed(name)]
        return CellScan(names) if names else None

    def scan_cells(self, scan: CellScan) -> bool:
        """Take all rows into account; tells whether no further one can change anything."""
        return any(
            row.problem is None and row.values is not None and scan.observe(row.values)
            for row in self.rows()
        )

    def column_names(self) -> list[str]:
        """Columns of the header that are kept."""
        return [name for _, name in self._columns]

    def _scanned(self) -> dict[str, pa.DataType]:
        scan = self.new_scan()
        if scan is None:
            return {}
        self.scan_cells(scan)
        return scan.types()

    def rows(self) -> Iterator[Row]:
        """One row per record; a value may span lines."""
        if not self._is_at_first_row:
            self._begin()
        self._is_at_first_row = False
        number = 0
        while True:
            number += 1
            try:
                cells = next(self._reader)
            except StopIteration:
                break
            except csv.Error as error:
                reason = _explain(error, self._lines.n_taken)
                self._lines.give_back(1)
                raw = self._lines.take()
                yield Row(number, None, raw, len(raw), Problem("invalid_csv", reason))
                continue
            if (n_lines := self._lines.n_taken) > 1:
                self._n_spanning += 1
                if self._are_rows(self._lines.taken):
                    self._swallowed.append((number, n_lines))
            yield self._row(number, cells, self._lines.take())

    def _row(self, number: int, cells: list[str], raw: str) -> Row:
        if not cells:
            return Row(number, None, raw, len(raw), BLANK_LINE)
        n_columns = len(self._header)
        if len(cells) != n_columns and (
            not n_columns < len(cells) <= n_columns + self._n_unnamed or any(cells[n_columns:])
        ):
            reason = f"{len(cells)} values for {n_columns} columns"
            if n_columns < len(cells) <= n_columns + self._n_unnamed:
                reason = "a value is in a column that has no name"
            return Row(number, None, raw, len(raw), Problem("ragged_row", reason))
        values = {name: cells[i] for i, name in self._columns}
        text = self.options.text_column
        problem = check_text(values, self.options)
        if not raw.isascii() and (name := _undecodable_column(values)) is not None:
            reason = f"column '{name[:80]}' is not valid {self.encoding_name()}"
            reason += f"; {self.encoding_hint()}"
            if problem is None:
                problem = Problem("invalid_encoding", reason)
            elif name == text:  # in Python's words it has a lone surrogate
                problem = Problem(problem.code, reason)
        return Row(number, values, n_bytes=len(raw), problem=problem)

    def _are_rows(self, lines: list[str]) -> bool:
        """Whether each line within a record would be a row: then a quote has swallowed them.

        Texts of a few lines may well have as many delimiters; of those it takes a number in the
        same place of every line, such as the rows' own.
        """
        delimiter = self._reader.dialect.delimiter
        if (n_columns := len(self._header)) == 1:
            return len(lines) > _MANY_LINES  # nothing else tells; see below
        if any(line.count(delimiter) != n_columns - 1 for line in lines[1:-1]):
            return False
        if len(lines) > _MANY_LINES:
            return True
        values = [line.rstrip("\r\n").split(delimiter) for line in lines]
        return all(len(of_line) == n_columns for of_line in values) and any(
            all(map(_NUMBER.fullmatch, in_place)) for in_place in zip(*values, strict=True)
        )

    def tell(self) -> None:
        """Warn of a row that may have swallowed others."""
        if not self._swallowed:
            return
        row, n_lines = max(self._swallowed, key=lambda found: found[1])
        are_what = "each of which would be a row"
        if len(self._header) == 1:
            if self._n_spanning > _FEW * self.n_read:
                return  # texts of many lines are usual here
            are_what = "while nearly all others have one"
        more = f" (so have {len(self._swallowed) - 1:,} more rows)" if self._swallowed[1:] else ""
        warnings.warn(
            f"'{self.name}': row {row} holds {n_lines:,} lines in quotes, {are_what}{more}; "
            "is there a quote too much?",
            stacklevel=2,
        )


class TsvSource(CsvSource):
    """The same, separated by tabs."""

    delimiter: ClassVar[str] = "\t"


class _EndlessRecordError(csv.Error):
    """A record has more lines than any that was meant."""


class _LineTap:
    """Lines on their way into the csv reader, kept until the row that they make is done."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._given_back: deque[str] = deque()
        self._n_characters = 0
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        taken = self.taken
        if taken:
            self._n_characters += len(taken[-1])
            if len(taken) >= _MOST_LINES or self._n_characters > _MOST_CHARACTERS:
                raise _EndlessRecordError
        line = self._given_back.popleft() if self._given_back else next(self._lines)
        taken.append(line)
        return line

    @property
    def n_taken(self) -> int:
        return len(self.taken)

    def peek(self) -> str:
        """Take the next line, if there is one."""
        return next(self, "")

    def give_back(self, n_kept: int) -> None:
        """Let lines that were taken come again, but for the first few."""
        self._given_back.extendleft(reversed(self.taken[n_kept:]))
        del self.taken[n_kept:]
        self._n_characters = 0

    def take(self) -> str:
        taken = self.taken[0] if len(self.taken) == 1 else "".join(self.taken)
        self.taken.clear()
        self._n_characters = 0
        return taken.removesuffix("\n").removesuffix("\r")


def _explain(error: csv.Error, n_lines: int) -> str:
    message = str(error)
    if isinstance(error, _EndlessRecordError):
        reason = f"a quote is opened and not closed within {n_lines:,} lines"
    elif message == "unexpected end of data":
        reason = "a quote is opened and never closed"
        reason += f", up to the end of the file {n_lines:,} lines on" if n_lines > 1 else ""
    else:
        reason = f"invalid CSV: {message}"
        reason += f" in a row of {n_lines:,} lines" if n_lines > 1 else ""
    return reason + ("; the lines after its first are read on their own" if n_lines > 1 else "")


def _undecodable_column(values: dict[str, Any]) -> str | None:
    for name, value in values.items():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return name
    return None
