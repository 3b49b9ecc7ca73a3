"""Reader of Parquet, one file or a folder of them; Arrow types are kept exactly."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from splinellm.errors import InputFileError, TableFormatError
from splinellm.io.byte_stream import reading
from splinellm.io.checks import check_columns, check_text
from splinellm.io.rows import CHUNK_BYTES, Problem, ReadOptions
from splinellm.table import PROVENANCE_KEY, FeatureTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from splinellm.provenance import Provenance


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

    def texts(self) -> list[str]:
        """Texts of all rows."""
        assert self._text_column is not None  # noqa: S101 (whoever opened the source needs none)
        texts: list[str] = self._table[self._text_column].to_pylist()
        return texts

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
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

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


class ParquetSource:
    """One Parquet file after the other.

    Parameters
    ----------
    name : str
        File or folder, for messages.
    files : sequence of Path or file objects
        All with the same columns.
    options : ReadOptions
        How they are to be read.
    """

    def __init__(self, name: str, files: Sequence[Path | BinaryIO], options: ReadOptions) -> None:
        self.name = name
        self._files = files
        self._options = options
        self._text_column = options.text_column
        self.n_read = 0
        self._total = 0
        self._schema = self._check()

    def _check(self) -> pa.Schema:
        common: pa.Schema | None = None
        for file in self._files:
            with self._reading(file), self._open(file) as parquet:
                self._total += parquet.metadata.num_rows
                schema = parquet.schema_arrow.remove_metadata()
            if common is None:
                name = self._name_of(file)
                check_columns(name, schema.names, self._options)
                common = schema
            elif schema != common:
                raise InputFileError(
                    f"'{self._name_of(file)}' does not have the columns of "
                    f"'{self._name_of(self._files[0])}': {_difference(common, schema)}"
                )
        assert common is not None  # noqa: S101 (there is at least one file)
        if self._text_column is not None:
            _check_type(self.name, common.field(self._text_column))
        return common

    def schema(self) -> pa.Schema:
        """Columns of the first file, which are those of all."""
        return self._schema

    def chunks(self) -> Iterator[ArrowChunk]:
        """Batches of rows, file by file."""
        self.n_read = 0
        for file in self._files:
            name = self._name_of(file)
            first = 1
            with self._reading(file), self._open(file) as parquet:
                for batch in _batches(parquet, self._options.chunk_rows):
                    table = pa.Table.from_batches([batch]).replace_schema_metadata()
                    self.n_read += len(table)
                    problems = _problems(table, self._text_column)
                    yield ArrowChunk(name, table, self._text_column, first, problems)
                    first += len(table)

    def progress(self) -> float:
        """Share of the rows that were read."""
        return self.n_read / self._total if self._total else 1.0

    def close(self) -> None:
        """Close a file that was handed in open."""
        for file in self._files:
            if not isinstance(file, Path):
                file.close()

    def _open(self, file: Path | BinaryIO) -> pq.ParquetFile:
        if not isinstance(file, Path):
            file.seek(0)
        return pq.ParquetFile(file)

    def _name_of(self, file: Path | BinaryIO) -> str:
        return str(file) if isinstance(file, Path) else self.name

    def _reading(self, file: Path | BinaryIO) -> _ParquetErrors:
        return _ParquetErrors(self._name_of(file))


class _ParquetErrors:
    """What `reading` does, and Arrow's own errors about a file's content."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, pa.ArrowInvalid | pa.ArrowNotImplementedError | pa.ArrowTypeError):
            raise InputFileError(
                f"'{self._name}' is not a readable Parquet file: {error}"
            ) from error
        if isinstance(error, OSError):
            with reading(self._name):
                raise error


def read_provenance(path: Path) -> bytes | None:
    """Read the record of what a file's features come from, if it has features."""
    with _ParquetErrors(str(path)):
        record: bytes | None = (pq.read_schema(path).metadata or {}).get(PROVENANCE_KEY)
    return record


def read_features(path: Path, provenance: Provenance | None = None) -> FeatureTable:  # noqa: ARG001 (the record's)
    """Read the feature columns of a file."""
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise TableFormatError(f"'{path}' is not a Parquet file: {error}") from error
    return FeatureTable.from_arrow(table)


def _batches(parquet: pq.ParquetFile, chunk_rows: int) -> Iterator[pa.RecordBatch]:
    for group in range(parquet.metadata.num_row_groups):
        facts = parquet.metadata.row_group(group)
        # Batches are counted in rows; rows of long texts make smaller batches.
        row_bytes = facts.total_byte_size / max(1, facts.num_rows)
        n_rows = max(1, min(chunk_rows, int(CHUNK_BYTES / max(1.0, row_bytes))))
        yield from parquet.iter_batches(batch_size=n_rows, row_groups=[group])


def _problems(table: pa.Table, text_column: str | None) -> dict[int, Problem]:
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
            problem = check_text({text_column: texts[position].as_py()}, text_column)
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


def _check_type(source: str, field: pa.Field) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not pa.types.is_string_view(kind):
        raise InputFileError(f"'{source}': column '{field.name}' holds {field.type}, not text")


def _difference(expected: pa.Schema, found: pa.Schema) -> str:
    for field in expected:
        if field.name not in found.names:
            return f"column '{field.name}' is missing"
        if found.field(field.name).type != field.type:
            return f"column '{field.name}' is {found.field(field.name).type}, not {field.type}"
    extra = next((name for name in found.names if name not in expected.names), None)
    return "the order differs" if extra is None else f"column '{extra}' is not in the first"
