"""Rows of an input file, good and bad, and chunks of them.

Two kinds of chunk answer the same questions: :class:`RecordChunk` holds Python values (CSV, JSON
lines, text), :class:`~splinellm.io.parquet_reader.ArrowChunk` holds Arrow data, so that Parquet to
Parquet never passes through Python values and every type survives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa

from splinellm.errors import InputFileError
from splinellm.io.csv_types import converter
from splinellm.io.json_columns import as_column
from splinellm.table import is_own_column

_FLAGS = {"true": 1.0, "false": 0.0}
"""How text formats spell them; Python and pandas begin them with a capital."""

CHUNK_ROWS = 1024
CHUNK_BYTES = 4 << 20
"""A chunk ends at whichever comes first; together they bound memory, whatever the file's size."""


@dataclass(frozen=True)
class ReadOptions:
    """How an input is to be read.

    Parameters
    ----------
    text_column : str or None
        Column that holds the prompts; None if there need be none.
    is_reserved : callable
        Whether the output adds a column of this name, so that the input must not have it.
    chunk_rows : int
        Rows of a chunk, at most.
    columns : sequence of str, optional
        Columns to keep besides the prompts' own; the others are not even looked at. All by default.
    delimiter : str, optional
        Between values of CSV; told by the header by default.
    optional_column : str, optional
        Column to keep if it is there.
    holds_messages : bool
        Whether the prompts are conversations.
    is_typed : callable, optional
        Whether a column of CSV has the type that all its values have. By default all stay text.
    max_wait_s : float, optional
        How long a row of a pipe waits for others to be done with it. By default until a chunk is
        full.
    """

    text_column: str | None = "text"
    is_reserved: Callable[[str], bool] = is_own_column
    chunk_rows: int = CHUNK_ROWS
    columns: Sequence[str] | None = None
    delimiter: str | None = None
    optional_column: str | None = None
    holds_messages: bool = False
    is_typed: Callable[[str], bool] | None = None
    max_wait_s: float | None = None

    def keeps(self, name: str) -> bool:
        """Whether a column is one of those to be read."""
        always = (self.text_column, self.optional_column)
        return self.columns is None or name in self.columns or name in always


@dataclass(frozen=True)
class Problem:
    """Why a row cannot be used.

    Parameters
    ----------
    code : str
        Stable name of the kind of problem.
    reason : str
        One line; never the row's text.
    """

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a text-based file.

    Parameters
    ----------
    number : int
        From 1, the header not counted.
    values : dict or None
        Column values; None if the row could not be parsed.
    raw : str
        The row as it stands in the file, for rows without values.
    n_bytes : int
        Size, to bound the size of chunks.
    problem : Problem or None
        Set on bad rows.
    """

    number: int
    values: dict[str, Any] | None
    raw: str = ""
    n_bytes: int = 0
    problem: Problem | None = None


class Chunk(Protocol):
    """Some consecutive rows of a source."""

    source: str
    problems: Mapping[int, Problem]
    """Bad rows by their position in the chunk."""

    def __len__(self) -> int:
        """Count the rows, bad ones included."""
        ...

    def number(self, position: int) -> int:
        """Row number in the file of the row at `position` in the chunk."""
        ...

    def texts(self) -> list[Any]:
        """Texts of all rows, or conversations; only of a chunk without problems."""
        ...

    def basis(self) -> bytes:
        """All that the columns that a run adds are made of; only of a chunk without problems."""
        ...

    def take(self, positions: Sequence[int]) -> Self:
        """Select good rows, in ascending order, each as often as it is named."""
        ...

    def records(self) -> list[dict[str, Any]]:
        """Rows as dictionaries of plain values."""
        ...

    def to_arrow(self, schema: pa.Schema) -> pa.Table:
        """Rows as an Arrow table with the source's schema."""
        ...

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns of numbers or flags, shape (N, len(names)), float64; NaN for what is neither."""
        ...

    def without(self, is_dropped: Callable[[str], bool]) -> Chunk:
        """Drop columns by their name."""
        ...

    def rejected(self, position: int) -> dict[str, Any]:
        """Return what the rejects file keeps of a row: its ``columns``, or the ``raw`` line."""
        ...


ChunkT = TypeVar("ChunkT", bound=Chunk)
_ChunkT_co = TypeVar("_ChunkT_co", bound=Chunk, covariant=True)


class Source(Protocol[_ChunkT_co]):
    """Where rows come from. Opened by :func:`splinellm.io.readers.open_source`."""

    name: str

    @property
    def n_read(self) -> int:
        """Rows handed out in chunks so far."""
        ...

    @property
    def n_before(self) -> int:
        """Rows of the input before the first that is handed out; known once that is."""
        ...

    def schema(self) -> pa.Schema:
        """Input columns with their Arrow types; may read the whole file to find out."""
        ...

    def chunks(self) -> Iterator[_ChunkT_co]:
        """All rows in order."""
        ...

    def progress(self) -> float | None:
        """Share of the input that was read, from 0 to 1; None if its size is unknown."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class RecordChunk:
    """Rows as Python values.

    Parameters
    ----------
    source : str
        Name of the file.
    rows : sequence of Row
        Good and bad rows.
    text_column : str or None
        Column that holds the prompts; None if there need be none.
    types : mapping of str to pa.DataType, optional
        Columns whose values are text in the rows, and of these types where they are written.
    """

    def __init__(
        self,
        source: str,
        rows: Sequence[Row],
        text_column: str | None,
        types: Mapping[str, pa.DataType] | None = None,
    ) -> None:
        self.source = source
        self.problems: Mapping[int, Problem] = {
            i: row.problem for i, row in enumerate(rows) if row.problem is not None
        }
        self._rows = rows
        self._text_column = text_column
        self._types = types or {}

    def __len__(self) -> int:
        return len(self._rows)

    def number(self, position: int) -> int:
        """Row number in the file."""
        return self._rows[position].number

    def texts(self) -> list[Any]:
        """Texts of all rows, or conversations."""
        assert self._text_column is not None  # noqa: S101 (whoever opened the source needs none)
        return [values[self._text_column] for values in self._as_read()]

    def basis(self) -> bytes:
        """Texts of all rows, one value."""
        return repr(self.texts()).encode("utf-8", "surrogatepass")

    def take(self, positions: Sequence[int]) -> RecordChunk:
        """Select good rows."""
        return self._with([self._rows[i] for i in positions])

    def extended(self, constants: Mapping[str, Any]) -> RecordChunk:
        """Add columns that have one value in all rows."""
        if not constants:
            return self
        rows = []
        for row in self._rows:
            if row.values is not None:
                if twice := next((name for name in constants if name in row.values), None):
                    raise InputFileError(
                        f"'{self.source}': row {row.number} has a column '{twice[:80]}', and so "
                        "has its folder",
                        hint="rename one, or keep others with --columns",
                    )
                row = replace(row, values={**row.values, **constants})
            rows.append(row)
        return self._with(rows)

    def _with(self, rows: Sequence[Row]) -> RecordChunk:
        return RecordChunk(self.source, rows, self._text_column, self._types)

    def _as_read(self) -> list[dict[str, Any]]:
        return [row.values for row in self._rows if row.values is not None]

    def records(self) -> list[dict[str, Any]]:
        """Values as they were read, or of the types that their columns have."""
        records = self._as_read()
        if not self._types or not records:
            return records
        converters = {name: converter(kind) for name, kind in self._types.items()}
        converters = {n: convert for n, convert in converters.items() if n in records[0]}
        try:
            return [
                {**record, **{name: to(record[name]) for name, to in converters.items()}}
                for record in records
            ]
        except (ValueError, KeyError) as error:
            raise self._changed() from error

    def _changed(self) -> InputFileError:
        return InputFileError(f"'{self.source}' changed while it was being read")

    def to_arrow(self, schema: pa.Schema) -> pa.Table:
        """Convert column by column to the types of the scan."""
        records = self.records()
        known = set(schema.names)
        if any(record.keys() - known for record in records):
            raise self._changed()
        try:
            return pa.Table.from_arrays(
                [as_column([record.get(f.name) for record in records], f) for f in schema],
                schema=schema,
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise self._changed() from error

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Numbers as they are, or as text."""
        values = [[_number(record.get(name)) for name in names] for record in self._as_read()]
        return np.array(values, np.float64).reshape(-1, len(names))

    def without(self, is_dropped: Callable[[str], bool]) -> RecordChunk:
        """Drop columns by their name."""
        return self._with(
            [
                row
                if row.values is None
                else replace(row, values={k: v for k, v in row.values.items() if not is_dropped(k)})
                for row in self._rows
            ]
        )

    def rejected(self, position: int) -> dict[str, Any]:
        """Return the columns, or the raw line of a row that could not be parsed."""
        row = self._rows[position]
        return {"raw": row.raw} if row.values is None else {"columns": row.values}


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # what is no number ends below
    except (TypeError, ValueError, OverflowError):
        return _FLAGS.get(str(value).lower(), math.nan)
