"""Reader of what ``splinellm extract`` wrote: rows that come with their features.

The provenance is in a Parquet file's metadata, and beside a CSV or JSONL file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from splinellm.errors import InputFileError, TableFormatError
from splinellm.io.byte_stream import reading
from splinellm.io.formats import STANDARD_STREAM, input_format
from splinellm.io.readers import open_source, parquet_files
from splinellm.io.rows import Chunk, Problem, Source
from splinellm.provenance import Provenance, read_sidecar, sidecar
from splinellm.table import (
    N_TOKENS,
    PROVENANCE_KEY,
    TRUNCATED,
    FeatureTable,
    is_own_column,
    schema_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa


class FeatureChunk:
    """Rows without their feature columns, and those as a table.

    Parameters
    ----------
    whole : Chunk
        All columns.
    positions : sequence of int
        Rows of the chunk that `features` has.
    features : FeatureTable
        Features, ``n_tokens`` and ``truncated`` of these rows.
    problems : mapping of int to Problem
        The other rows.
    """

    def __init__(
        self,
        whole: Chunk,
        positions: Sequence[int],
        features: FeatureTable,
        problems: Mapping[int, Problem],
    ) -> None:
        self.source = whole.source
        self.problems = problems
        self.features = features
        self._whole = whole
        self._positions = positions

    def __len__(self) -> int:
        return len(self._whole)

    def number(self, position: int) -> int:
        """Row number in the file."""
        return self._whole.number(position)

    def texts(self) -> list[str]:
        """Texts of all rows, if the source was opened with a text column."""
        return self._whole.texts()

    def take(self, positions: Sequence[int]) -> FeatureChunk:
        """Select good rows."""
        rows = np.searchsorted(self._positions, positions)
        whole = self._whole.take(positions)
        return FeatureChunk(whole, range(len(positions)), self.features[rows], {})

    def records(self) -> list[dict[str, Any]]:
        """Rows without their features."""
        return self.without(is_own_column).records()

    def to_arrow(self, schema: pa.Schema) -> pa.Table:
        """Rows without their features, with the source's schema."""
        return self.without(is_own_column).to_arrow(schema)

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns of numbers or flags."""
        return self._whole.numbers(names)

    def without(self, is_dropped: Callable[[str], bool]) -> Chunk:
        """Drop columns by their name."""
        return self._whole.without(is_dropped)

    def rejected(self, position: int) -> dict[str, Any]:
        """Return what the rejects file keeps of a row, features included."""
        return self._whole.rejected(position)


class FeatureSource:
    """Splits the rows of a source into features and other columns.

    Parameters
    ----------
    source : Source
        Rows with all their columns; closed with this.
    provenance : Provenance
        Of the features; tells the columns.
    """

    def __init__(self, source: Source[Chunk], provenance: Provenance) -> None:
        self.name = source.name
        self.provenance = provenance
        self._source = source
        self._columns = (N_TOKENS, TRUNCATED, *schema_of(provenance).names)

    @property
    def n_read(self) -> int:
        """Rows handed out in chunks so far."""
        return self._source.n_read

    @n_read.setter
    def n_read(self, value: int) -> None:
        self._source.n_read = value

    def schema(self) -> pa.Schema:
        """Input columns but for the features'."""
        schema = self._source.schema()
        for name in reversed([name for name in schema.names if is_own_column(name)]):
            schema = schema.remove(schema.get_field_index(name))
        return schema

    def chunks(self) -> Iterator[FeatureChunk]:
        """All rows in order; a row without all its features is bad."""
        for chunk in self._source.chunks():
            problems = dict(chunk.problems)
            good = [i for i in range(len(chunk)) if i not in problems]
            numbers = chunk.take(good).numbers(self._columns)
            is_number = np.isfinite(numbers)
            for row in np.flatnonzero(~is_number.all(axis=1)).tolist():
                name = self._columns[int(is_number[row].argmin())]
                problems[good[row]] = Problem("invalid_features", f"column '{name}' has no number")
            is_whole = is_number.all(axis=1)
            positions = [i for i, whole in zip(good, is_whole, strict=True) if whole]
            yield FeatureChunk(chunk, positions, self._table(numbers[is_whole]), problems)

    def _table(self, numbers: np.ndarray) -> FeatureTable:
        n_tokens, truncated = numbers[:, 0].astype(np.int64), numbers[:, 1].astype(np.bool_)
        return FeatureTable(numbers[:, 2:].astype(np.float32), n_tokens, truncated, self.provenance)

    def progress(self) -> float | None:
        """Share of the input that was read."""
        return self._source.progress()

    def close(self) -> None:
        """Release the file."""
        self._source.close()


def open_features(
    path: str,
    *,
    format: str | None = None,  # noqa: A002 (as open_source)
    is_reserved: Callable[[str], bool] = lambda _name: False,
) -> FeatureSource | None:
    """Open what ``splinellm extract`` wrote, or return None if `path` is something else.

    Parameters
    ----------
    path, format, is_reserved
        See :func:`splinellm.io.readers.open_source`. Feature columns are never in the way.

    Raises
    ------
    TableFormatError
        The file has a provenance, but not the columns that it tells of, or its rows do not stand
        for prompts.
    InputFileError
        The file is unreadable.
    """
    provenance = _provenance_of(path, format)
    if provenance is None:
        return None
    provenance.require_prompts(f"'{path}'")
    source = open_source(
        path,
        text_column=None,
        format=format,
        is_reserved=lambda name: is_reserved(name) and not is_own_column(name),
    )
    features = FeatureSource(source, provenance)
    if not path.lower().endswith((".jsonl", ".ndjson", ".gz")):
        try:
            _check_columns(path, source.schema().names, provenance)
        except BaseException:
            features.close()
            raise
    return features


def _provenance_of(path: str, given: str | None) -> Provenance | None:
    if path == STANDARD_STREAM or not Path(path).exists():
        return None
    if Path(path).is_dir():
        return _common(parquet_files(path))
    kind = input_format(path, given)
    if kind == "parquet":
        return _common([Path(path)])
    return read_sidecar(path) if kind != "txt" and sidecar(path).is_file() else None


def _common(files: Sequence[Path]) -> Provenance | None:
    """Provenance of Parquet files, which must agree."""
    first: Provenance | None = None
    for position, file in enumerate(files):
        try:
            with reading(str(file)):
                record = (pq.read_schema(file).metadata or {}).get(PROVENANCE_KEY)
        except (ValueError, NotImplementedError) as error:  # Arrow's are among these
            raise InputFileError(f"'{file}' is not a readable Parquet file: {error}") from error
        found = None if record is None else Provenance.from_json(record)
        if position == 0:
            first = found
        difference = "one has no features" if (first is None) != (found is None) else None
        if first is not None and found is not None:
            difference = first.first_difference(found)
        if difference:
            raise TableFormatError(f"'{file}' is not comparable with '{files[0]}': {difference}")
    return first


def _check_columns(path: str, names: Sequence[str], provenance: Provenance) -> None:
    for name in (N_TOKENS, TRUNCATED, *schema_of(provenance).names):
        if name not in names:
            raise TableFormatError(f"'{path}': column '{name}' is missing")
