"""Reader of what ``splinellm extract`` wrote: rows that come with their features.

The provenance is in a Parquet file's metadata, and beside a CSV or JSONL file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from splinellm.errors import TableFormatError
from splinellm.io.formats import STANDARD_STREAM, Format, format_named, input_format, load
from splinellm.io.parquet_reader import parquet_files
from splinellm.io.readers import CsvTypes, open_source
from splinellm.io.rows import Chunk, Problem, Source
from splinellm.io.shares import Share
from splinellm.io.views import ChunkView, SourceView
from splinellm.provenance import Provenance, read_sidecar, sidecar
from splinellm.table import (
    N_TOKENS,
    TRUNCATED,
    FeatureTable,
    is_own_column,
    schema_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class FeatureChunk(ChunkView):
    """Rows written without their feature columns, and those as a table.

    Parameters
    ----------
    whole : Chunk
        All columns.
    good : sequence of int
        Rows of the chunk that `features` has.
    features : FeatureTable
        Features, ``n_tokens`` and ``truncated`` of these rows.
    problems : mapping of int to Problem
        The other rows.
    """

    def __init__(
        self,
        whole: Chunk,
        good: Sequence[int],
        features: FeatureTable,
        problems: Mapping[int, Problem],
    ) -> None:
        super().__init__(whole, range(len(whole)), problems, is_own_column)
        self.features = features
        self._good = good

    def basis(self) -> bytes:
        """Features of all rows."""
        table = self.features
        arrays = (table.values, table.n_tokens, table.truncated)
        return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)

    def take(self, positions: Sequence[int]) -> FeatureChunk:
        """Select good rows."""
        rows = np.searchsorted(self._good, positions)
        whole = self._whole.take(positions)
        return FeatureChunk(whole, range(len(positions)), self.features[rows], {})


class FeatureSource(SourceView[FeatureChunk]):
    """Splits the rows of a source into features and other columns.

    Parameters
    ----------
    source : Source
        Rows with all their columns; closed with this.
    provenance : Provenance
        Of the features; tells the columns.
    """

    def __init__(self, source: Source[Chunk], provenance: Provenance) -> None:
        super().__init__(source, is_own_column)
        self.provenance = provenance
        self._columns = _columns_of(provenance)

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


def open_features(
    path: str,
    *,
    format: str | None = None,  # noqa: A002 (as open_source)
    is_reserved: Callable[[str], bool] = lambda _name: False,
    text_column: str | None = None,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    share: Share | None = None,
    csv_types: CsvTypes = "infer",
) -> FeatureSource | None:
    """Open what ``splinellm extract`` wrote, or return None if `path` is something else.

    Parameters
    ----------
    text_column : str, optional
        Column to keep besides `columns`; a table may do without it.
    path, format, is_reserved, columns, delimiter, encoding, share, csv_types
        See :func:`splinellm.io.readers.open_source`. Feature columns are never in the way, and
        always read.

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
        columns=None if columns is None else [*columns, *_columns_of(provenance)],
        optional_column=text_column,
        delimiter=delimiter,
        encoding=encoding,
        share=share,
        csv_types=csv_types,
    )
    features = FeatureSource(source, provenance)
    if Path(path).is_dir() or input_format(path, format).has_header:
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
        return _common(parquet_files(path), format_named("parquet"))
    known = input_format(path, given)
    if known.provenance:
        return _common([Path(path)], known)
    return read_sidecar(path) if known.needs_sidecar and sidecar(path).is_file() else None


def _common(files: Sequence[Path], known: Format) -> Provenance | None:
    """Provenance of files that keep it inside, and must agree."""
    read = load(known.provenance)
    first: Provenance | None = None
    for position, file in enumerate(files):
        record = read(file)
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
    for name in _columns_of(provenance):
        if name not in names:
            raise TableFormatError(f"'{path}': column '{name}' is missing")


def _columns_of(provenance: Provenance) -> tuple[str, ...]:
    return (N_TOKENS, TRUNCATED, *schema_of(provenance).names)
