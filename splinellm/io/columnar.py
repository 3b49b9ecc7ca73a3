"""Files that hold columns with types: chunks of Arrow data, and a source of one file or several.

Arrow types are kept exactly. Where files of one folder have a column in different kinds of the same
thing, all become the one that holds every value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa

from splinellm.errors import InputFileError
from splinellm.io.arrow_types import common_type, is_list, is_text, with_exact_times
from splinellm.io.byte_stream import reading
from splinellm.io.checks import check_columns, check_text, require_same_columns
from splinellm.io.partitions import Partition, partition_types, typed
from splinellm.io.remote import Location, RemotePath
from splinellm.io.rows import Problem, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class ArrowChunk:
    """Rows as Arrow data.

    Parameters
    ----------
    source : str
        Name of the file.
    table : pa.Table
        The rows.
    text_column : str or None
        Column that holds the prompts; None if there need be none.
    first : int
        Row number of the first row in its file.
    problems : mapping of int to Problem
        Bad rows by position.
    """

    def __init__(
        self,
        source: str,
        table: pa.Table,
        text_column: str | None,
        first: int,
        problems: Mapping[int, Problem],
    ) -> None:
        self.source = source
        self.problems = problems
        self._table = table
        self._text_column = text_column
        self._first = first

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def number(self, position: int) -> int:
        """Row number in the file."""
        return self._first + position

    def texts(self) -> list[Any]:
        """Texts of all rows, or conversations."""
        assert self._text_column is not None  # noqa: S101 (whoever opened the source needs none)
        texts: list[Any] = self._table[self._text_column].to_pylist()
        return texts

    def basis(self) -> bytes:
        """Texts of all rows, one value."""
        return repr(self.texts()).encode("utf-8", "surrogatepass")

    def take(self, positions: Sequence[int]) -> ArrowChunk:
        """Select good rows; their numbers in the file are no longer known."""
        return ArrowChunk(self.source, self._taken(positions), self._text_column, 0, {})

    def _taken(self, positions: Sequence[int]) -> pa.Table:
        if len(set(positions)) < len(positions):  # a slice for each row would be many
            with suppress(pa.ArrowNotImplementedError):
                return self._table.take(pa.array(positions, pa.int64()))
        # Arrow's own take has no kernel for every type (none for string_view); slices always work.
        pieces = [self._table.slice(start, length) for start, length in _runs(positions)]
        return pa.concat_tables(pieces) if pieces else self._table.slice(0, 0)

    def records(self) -> list[dict[str, Any]]:
        """Rows as dictionaries of Python values."""
        try:
            exact = self._table  # which has rows even where it has no columns
            for place, name in enumerate(exact.column_names):
                column = exact[place]
                if (texts := with_exact_times(column)) is not column:
                    exact = exact.set_column(place, name, texts)
            rows: list[dict[str, Any]] = exact.to_pylist()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise self._unreadable() from error
        return rows

    def _unreadable(self) -> InputFileError:
        """Name the column that has no values in Python, such as a date in the year 300,000."""
        for field in self._table.schema:
            try:
                self._table[field.name].to_pylist()
            except (ValueError, OverflowError, pa.ArrowException):
                break
        return InputFileError(
            f"'{self.source}': column '{field.name[:80]}' of type {field.type} has a value that "
            "cannot be written as text",
            hint="write .parquet, or leave the column out with --columns",
        )

    def to_arrow(self, schema: pa.Schema) -> pa.Table:  # noqa: ARG002 (the protocol's)
        """Return the rows as they are."""
        return self._table

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns of numbers or flags."""
        values = np.full((len(self), len(names)), np.nan)
        for position, name in enumerate(names):
            with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
                values[:, position] = self._table[name].cast(pa.float64()).to_numpy()
        return values

    def without(self, is_dropped: Callable[[str], bool]) -> ArrowChunk:
        """Drop columns by their name."""
        kept = [name for name in self._table.column_names if not is_dropped(name)]
        table = self._table.select(kept)
        return ArrowChunk(self.source, table, self._text_column, self._first, self.problems)

    def rejected(self, position: int) -> dict[str, Any]:
        """Return the columns of a row, undecodable text as lone surrogates."""
        row = self._table.slice(position, 1)
        return {"columns": {name: _value(row[name][0]) for name in row.column_names}}


def _runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Consecutive positions as (start, length)."""
    start = previous = -2
    for position in positions:
        if position != previous + 1:
            if start >= 0:
                yield start, previous + 1 - start
            start = position
        previous = position
    if start >= 0:
        yield start, previous + 1 - start


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        as_buffer = getattr(scalar, "as_buffer", None)
        if as_buffer is None:  # a list or struct with a bad string somewhere inside
            return None
        return as_buffer().to_pybytes().decode("utf-8", "surrogateescape")


class ColumnarSource(ABC):
    """One file after the other.

    Parameters
    ----------
    name : str
        File or folder, for messages.
    files : sequence of Path, RemotePath or file objects
        All with the same columns, in any order.
    options : ReadOptions
        How they are to be read.
    partitions : sequence of Partition, optional
        Columns that the folders of each file tell.
    """

    kind: ClassVar[str]
    """What the files are, for messages."""

    def __init__(
        self,
        name: str,
        files: Sequence[Location | BinaryIO],
        options: ReadOptions,
        partitions: Sequence[Partition] | None = None,
    ) -> None:
        self.name = name
        self._files = files
        self._options = options
        partitions = [()] * len(files) if partitions is None else partitions
        types = partition_types(partitions)
        self._added = {name: kind for name, kind in types.items() if options.keeps(name)}
        self._constants = [typed(partition, self._added) for partition in partitions]
        self.n_read = 0
        self.n_before = 0
        self._n_skipped = 0
        self._total: int | None = 0
        self._schema = self._common_schema()

    @abstractmethod
    def read_schema(self, file: Path | BinaryIO) -> tuple[pa.Schema, int | None]:
        """Columns and number of rows of a file; None if only reading it would tell."""

    @abstractmethod
    def read_batches(
        self, file: Path | BinaryIO, columns: Sequence[str], chunk_rows: int, skipped: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Columns of a file, in batches of bounded length and size, after the first few."""

    @abstractmethod
    def batch_lengths(self, file: Path | BinaryIO, chunk_rows: int) -> Iterator[int]:
        """Rows of the batches, without reading them where the format allows."""

    def n_chunks(self) -> int:
        """Count the chunks of all files."""
        return sum(1 for _ in self._lengths())

    def skip(self, n_chunks: int) -> int:
        """Let :meth:`chunks` begin after some; returns how many rows they have."""
        self._n_skipped = n_chunks
        return sum(islice(self._lengths(), n_chunks))

    def _lengths(self) -> Iterator[int]:
        for file in self._files:
            with self._reading(file) as opened:
                yield from self.batch_lengths(opened, self._options.chunk_rows)

    def _common_schema(self) -> pa.Schema:
        common: pa.Schema | None = None
        for file, constants in zip(self._files, self._constants, strict=True):
            with self._reading(file) as opened:
                schema, n_rows = self.read_schema(opened)
            for added in constants:
                schema = schema.append(pa.field(added, self._added[added]))
            self._total = None if n_rows is None or self._total is None else self._total + n_rows
            name = self._name_of(file)
            if common is None or len(schema.names) > len(set(schema.names)):
                check_columns(name, schema.names, self._options)
            kept = [field for field in schema if self._options.keeps(field.name)]
            common = _merged(common, pa.schema(kept), name, self._name_of(self._files[0]))
        assert common is not None  # noqa: S101 (there is at least one file)
        text = self._options.text_column
        if text is None:
            return common
        place = common.get_field_index(text)
        if pa.types.is_null(common.field(place).type):  # pandas' of a column without any value
            common = common.set(place, pa.field(text, pa.string()))
        kind = common.field(place).type
        if not is_text(kind) and not (self._options.holds_messages and is_list(kind)):
            wanted = "messages" if self._options.holds_messages else "text"
            raise InputFileError(f"'{self.name}': column '{text}' holds {kind}, not {wanted}")
        return common

    def schema(self) -> pa.Schema:
        """Columns that hold those of all files."""
        return self._schema

    def own_names(self) -> list[str]:
        """Columns that the files have, rather than their folders."""
        return [name for name in self._schema.names if name not in self._added]

    def chunks(self) -> Iterator[ArrowChunk]:
        """Batches of rows, file by file."""
        self.n_read = 0
        text, chunk_rows = self._options.text_column, self._options.chunk_rows
        left = self._n_skipped
        own = self.own_names()
        for file, constants in zip(self._files, self._constants, strict=True):
            name = self._name_of(file)
            first = 1
            with self._reading(file) as opened:
                skipped = list(islice(self.batch_lengths(opened, chunk_rows), left)) if left else []
                left -= len(skipped)
                first += sum(skipped)
                for batch in self.read_batches(opened, own, chunk_rows, len(skipped)):
                    table = _as(self._schema, batch, constants)
                    self.n_read += len(table)
                    yield ArrowChunk(name, table, text, first, _problems(table, self._options))
                    first += len(table)

    def progress(self) -> float | None:
        """Share of the rows that were read."""
        if self._total is None:
            return None
        return self.n_read / self._total if self._total else 1.0

    def close(self) -> None:
        """Close a file that was handed in open."""
        for file in self._files:
            if not isinstance(file, Path | RemotePath):
                file.close()

    def _name_of(self, file: Location | BinaryIO) -> str:
        return str(file) if isinstance(file, Path | RemotePath) else self.name

    @contextmanager
    def _reading(self, file: Location | BinaryIO) -> Iterator[Path | BinaryIO]:
        with reading_columns(self._name_of(file), self.kind):
            if isinstance(file, RemotePath):
                with file.open("rb") as opened:
                    yield opened
                return
            if not isinstance(file, Path):
                file.seek(0)
            yield file


@contextmanager
def reading_columns(name: str, kind: str) -> Iterator[None]:
    """Do what :func:`reading` does, also for Arrow's own errors about a file's content."""
    try:
        with reading(name):
            yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InputFileError(
            f"'{name}' is not a readable {kind} file: {error}",
            hint="if one column is to blame, name the others with --columns",
        ) from error


def _merged(common: pa.Schema | None, found: pa.Schema, name: str, first: str) -> pa.Schema:
    """Columns of all files so far and one more, in the order of the first."""
    if common is None:
        return found
    require_same_columns(name, found.names, first, common.names)
    fields = []
    for field in common:
        other = found.field(field.name)
        kind = common_type(field.type, other.type)
        if kind is None:
            raise InputFileError(
                f"'{name}' does not have the columns of '{first}': column '{field.name}' is "
                f"{other.type}, not {field.type}",
                hint="--columns reads some columns only",
            )
        is_nullable = field.nullable or other.nullable
        fields.append(pa.field(field.name, kind, is_nullable, field.metadata))
    return pa.schema(fields)


def _as(schema: pa.Schema, batch: pa.RecordBatch, constants: Mapping[str, Any]) -> pa.Table:
    """Columns of a batch in the types and in the order of all files."""
    columns = []
    for field in schema:
        if field.name in constants:
            value = pa.scalar(constants[field.name], field.type)
            columns.append(pa.repeat(value, batch.num_rows))
            continue
        column = batch.column(batch.schema.get_field_index(field.name))
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _problems(table: pa.Table, options: ReadOptions) -> dict[int, Problem]:
    text_column = options.text_column
    problems = {}
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:  # some string is not UTF-8; Parquet writers do not all check
        for position in range(len(table)):
            if column := _undecodable_column(table.slice(position, 1)):
                problems[position] = Problem(
                    "invalid_encoding", f"column '{column[:80]}' is not valid UTF-8"
                )
    if text_column is None:
        return problems
    texts = table[text_column]
    for position in range(len(table)):
        if position not in problems:
            problem = check_text({text_column: texts[position].as_py()}, options)
            if problem is not None:
                problems[position] = problem
    return dict(sorted(problems.items()))


def _undecodable_column(row: pa.Table) -> str | None:
    for name in row.column_names:
        try:
            row[name].to_pylist()
        except UnicodeDecodeError:
            return str(name)
    return None
