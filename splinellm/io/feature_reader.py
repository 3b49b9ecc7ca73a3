"""Reader of what ``splinellm extract`` wrote: rows that come with their features.

The provenance is in a Parquet file's metadata, and beside a CSV or JSONL file.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from splinellm.errors import TableFormatError
from splinellm.io.byte_stream import reading
from splinellm.io.formats import load
from splinellm.io.inputs import Given, Input, find_input
from splinellm.io.readers import CsvTypes, open_source
from splinellm.io.rows import Chunk, Problem, Source
from splinellm.io.shares import Share
from splinellm.io.views import ChunkView, SourceView
from splinellm.layout import (
    N_TOKENS,
    TRUNCATED,
    Layout,
    belongs,
    is_own_column,
    layout_of,
    schema_of,
    value_names,
)
from splinellm.precision import SCALE
from splinellm.provenance import Provenance, sidecar
from splinellm.table import FeatureTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from splinellm.io.formats import Format
    from splinellm.io.remote import Location


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
    is_hidden : callable
        Whether a column is one of the features'.
    """

    def __init__(
        self,
        whole: Chunk,
        good: Sequence[int],
        features: FeatureTable,
        problems: Mapping[int, Problem],
        is_hidden: Callable[[str], bool] = is_own_column,
    ) -> None:
        super().__init__(whole, range(len(whole)), problems, is_hidden)
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
        return FeatureChunk(whole, range(len(positions)), self.features[rows], {}, self._is_hidden)


class FeatureSource(SourceView[FeatureChunk]):
    """Splits the rows of a source into features and other columns.

    Parameters
    ----------
    source : Source
        Rows with all their columns; closed with this.
    provenance : Provenance
        Of the features; tells the columns.
    layout : {"columns", "list"}
        Of the features.
    scale : ndarray, shape (L * F,), optional
        What features that are kept as whole numbers are multiples of; 1 for the others.
    """

    def __init__(
        self,
        source: Source[Chunk],
        provenance: Provenance,
        layout: Layout = "columns",
        scale: np.ndarray | None = None,
    ) -> None:
        super().__init__(source, lambda name: belongs(name, provenance, layout))
        self.provenance = provenance
        self._layout = layout
        self._columns = _columns_of(provenance, layout)
        self._scale = scale

    def chunks(self) -> Iterator[FeatureChunk]:
        """All rows in order; a row without all its features is bad."""
        for chunk in self._source.chunks():
            problems = dict(chunk.problems)
            good = [i for i in range(len(chunk)) if i not in problems]
            numbers = self._numbers(chunk.take(good))
            is_number = np.isfinite(numbers)
            for row in np.flatnonzero(~is_number.all(axis=1)).tolist():
                place = int(is_number[row].argmin())
                n_columns = len(self._columns) - 2
                name = self._columns[place if place < 2 else 2 + (place - 2) % n_columns]
                problems[good[row]] = Problem("invalid_features", f"column '{name}' has no number")
            is_whole = is_number.all(axis=1)
            positions = [i for i, whole in zip(good, is_whole, strict=True) if whole]
            table = self._table(numbers[is_whole])
            yield FeatureChunk(chunk, positions, table, problems, self._is_hidden)

    def _numbers(self, chunk: Chunk) -> np.ndarray:
        """Numbers of the rows' own columns, and of features by layer; NaN for what is none."""
        if self._layout == "columns":
            return chunk.numbers(self._columns)
        own = chunk.numbers(self._columns[:2])
        lists = chunk.without(lambda name: name not in self.provenance.features).records()
        shape = len(self.provenance.features), len(self.provenance.layers)
        found = np.full((len(chunk), shape[0] * shape[1]), np.nan)
        for row, record in enumerate(lists):
            with suppress(TypeError, ValueError):  # lists of other lengths, or of no numbers
                values = [record.get(name) for name in self.provenance.features]
                found[row] = np.array(values, np.float64).reshape(shape).T.ravel()
        return np.hstack([own, found])

    def _table(self, numbers: np.ndarray) -> FeatureTable:
        n_tokens, truncated = numbers[:, 0].astype(np.int64), numbers[:, 1].astype(np.bool_)
        values = numbers[:, 2:] if self._scale is None else numbers[:, 2:] * self._scale
        return FeatureTable(values.astype(np.float32), n_tokens, truncated, self.provenance)


def open_features(
    path: Given,
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
    given = find_input(path, format)
    provenance = _provenance_of(given)
    if provenance is None:
        return None
    provenance.require_prompts(f"'{given.shown}'")
    layout = _layout(given, format, provenance, encoding)
    source = open_source(
        given,
        text_column=None,
        format=format,
        is_reserved=lambda name: is_reserved(name) and not belongs(name, provenance, layout),
        columns=None if columns is None else [*columns, *_columns_of(provenance, layout)],
        optional_column=text_column,
        delimiter=delimiter,
        encoding=encoding,
        share=share,
        csv_types=csv_types,
    )
    known = given.kind
    has_codes = provenance.precision == "uint8" and known is not None and not known.is_text
    scale = _scale_of(source.schema(), provenance, layout) if has_codes else None
    features = FeatureSource(source, provenance, layout, scale)
    if known is not None and known.has_header:
        try:
            _check_columns(given.shown, source.schema().names, _columns_of(provenance, layout))
        except BaseException:
            features.close()
            raise
    return features


def _provenance_of(given: Input) -> Provenance | None:
    """Provenance of files, which must agree: inside them, or beside."""
    if given.kind is None or given.is_pipe or not given.kind.features:
        return None
    first: Provenance | None = None
    for position, file in enumerate(given.files):
        found = _provenance_at(file.path, given.kind)
        if position == 0:
            first = found
        difference = "one has no features" if (first is None) != (found is None) else None
        if first is not None and found is not None:
            difference = first.first_difference(found, within=True)
            first = first.joined(found)
        if difference:
            raise TableFormatError(
                f"'{file}' is not comparable with '{given.files[0]}': {difference}"
            )
    return first


def _provenance_at(path: Location, known: Format) -> Provenance | None:
    if known.provenance:
        record = load(known.provenance)(path)
    else:
        beside = path.with_name(sidecar(path.name).name)
        with reading(str(beside)):
            record = beside.read_bytes() if known.needs_sidecar and beside.is_file() else None
    return None if record is None else Provenance.from_json(record)


def _layout(
    given: Input,
    format: str | None,  # noqa: A002 (as open_source)
    provenance: Provenance,
    encoding: str | None,
) -> Layout:
    """Look at the columns that are there; in JSON, at the first row's."""
    if given.kind is None or "list" not in given.kind.layouts:
        return "columns"
    with closing(
        open_source(
            given,
            text_column=None,
            format=format,
            is_reserved=lambda _name: False,
            chunk_rows=1,
            encoding=encoding,
        )
    ) as source:
        if given.kind.has_header:
            return layout_of(source.schema().names, provenance)
        for chunk in source.chunks():
            if not chunk.problems:
                return layout_of(list(chunk.records()[0]), provenance)
    return "columns"


def _scale_of(schema: pa.Schema, provenance: Provenance, layout: Layout) -> np.ndarray:
    """What numbers are multiples of, by column; another program may have made floats of them."""
    code = pa.uint8()
    scale = np.ones(len(schema_of(provenance).names))
    wanted = value_names(provenance, layout)
    for position, name in enumerate(wanted):
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and code in (kind, getattr(kind, "value_type", None)):
            scale[position :: len(wanted)] = SCALE
    return scale


def _check_columns(path: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise TableFormatError(f"'{path}': column '{name}' is missing")


def _columns_of(provenance: Provenance, layout: Layout) -> tuple[str, ...]:
    return (N_TOKENS, TRUNCATED, *value_names(provenance, layout))
