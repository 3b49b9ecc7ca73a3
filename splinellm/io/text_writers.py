"""Writers of CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from splinellm.errors import OutputError
from splinellm.io.arrow_types import with_exact_times
from splinellm.io.json_columns import to_cell, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from splinellm.io.rows import Chunk


class CsvWriter:
    """CSV with a header; null is an empty value.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema
        Input columns.
    added : pa.Schema
        Columns that the run adds.
    """

    def __init__(self, file: BinaryIO, columns: pa.Schema, added: pa.Schema) -> None:
        self._columns = columns
        self._file = file
        self._write_rows([[*columns.names, *added.names]])

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows."""
        table = rows.to_arrow(self._columns)
        inputs = (_input_cells(table, name) for name in table.column_names)
        self._write_rows(zip(*inputs, *map(cell_texts, added.columns), strict=True))

    def close(self) -> None:
        """Nothing is left to do."""

    def _write_rows(self, rows: Iterable[Iterable[object]]) -> None:
        text = _UnixLines(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode("utf-8"))


def _input_cells(table: pa.Table, name: str) -> Iterator[str]:
    try:
        return map(to_cell, with_exact_times(table[name]).to_pylist())
    except (ValueError, OverflowError, pa.ArrowException) as error:  # a date in the year 300,000
        raise OutputError(
            f"column '{name[:80]}' of type {table[name].type} has a value that cannot be written "
            "as text",
            hint="leave it out with --columns, or write .parquet",
        ) from error


class _UnixLines(io.StringIO):
    r"""Ends rows with \n.

    The csv module would do that itself, but then leaves values with a bare \r unquoted, which no
    reader puts together again.
    """

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


class JsonlWriter:
    """One JSON object a line, input values as they were read.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema, optional
        Not needed.
    added : pa.Schema
        Columns that the run adds.
    """

    def __init__(self, file: BinaryIO, columns: pa.Schema | None, added: pa.Schema) -> None:  # noqa: ARG002 (the protocol's)
        self._file = file
        self._keys = [json.dumps(name) + ": " for name in added.names]

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows."""
        lines = []
        columns = map(json_texts, added.columns)
        for record, *texts in zip(rows.records(), *columns, strict=True):
            pairs = ", ".join(key + text for key, text in zip(self._keys, texts, strict=True))
            separator = ", " if record else ""
            lines.append(f"{to_json(record)[:-1]}{separator}{pairs}}}\n")
        self._file.write("".join(lines).encode("utf-8"))

    def close(self) -> None:
        """Nothing is left to do."""


def cell_texts(column: pa.ChunkedArray) -> list[str]:
    """Values of an added column as the text of CSV cells.

    Parameters
    ----------
    column : pa.ChunkedArray, length N
        Numbers, booleans or strings; no NaN, and null only where a number is whole. Or lists and
        structures of these, which become JSON.

    Returns
    -------
    list of str
        A null is empty. Of floats the shortest decimal numbers that read back as the same. Whole
        ones keep a ``.0``: readers that guess a column's type from its first values would
        otherwise take it for integers.
    """
    # Arrow's cast: a table has a thousand columns of floats, and Python's repr is ten times slower.
    if pa.types.is_fixed_size_list(column.type):  # of floats: a feature, by layer
        flat = [chunk.flatten() for chunk in column.chunks]
        numbers = cell_texts(pa.chunked_array(flat, column.type.value_type))
        size = column.type.list_size
        starts = range(0, len(numbers), size)
        return [f"[{', '.join(numbers[start : start + size])}]" for start in starts]
    if pa.types.is_nested(column.type):
        return [to_json(value) for value in column.to_pylist()]
    texts = column.cast(pa.string())
    if column.null_count:
        texts = texts.fill_null("")
    cells: list[str] = texts.to_pylist()
    if pa.types.is_floating(column.type):
        return [text if "." in text or "e" in text else text + ".0" for text in cells]
    return cells


def json_texts(column: pa.ChunkedArray) -> list[str]:
    """Values of an added column as JSON; see :func:`cell_texts`."""
    texts = cell_texts(column)
    if pa.types.is_string(column.type):  # what is nested is JSON already
        return [to_json(text) for text in texts]
    return [text or "null" for text in texts] if column.null_count else texts
