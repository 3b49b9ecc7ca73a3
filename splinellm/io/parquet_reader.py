"""Reader of Parquet."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from splinellm.errors import TableFormatError
from splinellm.io.columnar import ColumnarSource, reading_columns
from splinellm.io.inputs import find_input
from splinellm.io.rows import CHUNK_BYTES
from splinellm.table import PROVENANCE_KEY, FeatureTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from splinellm.io.remote import Location
    from splinellm.provenance import Provenance


class ParquetSource(ColumnarSource):
    """One Parquet file after the other, a row group at a time."""

    kind: ClassVar[str] = "Parquet"

    def read_schema(self, file: Path | BinaryIO) -> tuple[pa.Schema, int | None]:
        """Columns and number of rows of a file."""
        with pq.ParquetFile(file) as parquet:
            return parquet.schema_arrow.remove_metadata(), parquet.metadata.num_rows

    def read_batches(
        self, file: Path | BinaryIO, columns: Sequence[str], chunk_rows: int, skipped: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Columns of a file, in batches of bounded length and size, after the first few."""
        with pq.ParquetFile(file) as parquet:
            are_all = list(columns) == parquet.schema_arrow.names
            for group in range(parquet.metadata.num_row_groups):
                lengths = _lengths(parquet.metadata.row_group(group), chunk_rows)
                if skipped >= len(lengths):  # without reading any of it
                    skipped -= len(lengths)
                    continue
                batches = parquet.iter_batches(
                    lengths[0], row_groups=[group], columns=None if are_all else list(columns)
                )
                yield from islice(batches, skipped, None)
                skipped = 0

    def batch_lengths(self, file: Path | BinaryIO, chunk_rows: int) -> Iterator[int]:
        """Rows of the batches, as the footer tells them."""
        with pq.ParquetFile(file) as parquet:
            for group in range(parquet.metadata.num_row_groups):
                yield from _lengths(parquet.metadata.row_group(group), chunk_rows)


def _lengths(group: pq.RowGroupMetaData, chunk_rows: int) -> list[int]:
    """Cut a row group: batches are counted in rows; rows of long texts make smaller ones."""
    row_bytes = group.total_byte_size / max(1, group.num_rows)
    n_rows = max(1, min(chunk_rows, int(CHUNK_BYTES / max(1.0, row_bytes))))
    return [min(n_rows, group.num_rows - start) for start in range(0, group.num_rows, n_rows)]


def read_provenance(path: Location) -> bytes | None:
    """Read the record of what a file's features come from, if it has features."""
    with reading_columns(str(path), "Parquet"), path.open("rb") as file:
        record: bytes | None = (pq.read_schema(file).metadata or {}).get(PROVENANCE_KEY)
    return record


def read_features(path: Path, provenance: Provenance | None = None) -> FeatureTable:  # noqa: ARG001 (the record's)
    """Read the feature columns of a file, or of all files of a folder."""
    files = [file.path for file in find_input(str(path), "parquet").files]
    source: Provenance | None = None
    tables = []
    for file in files:
        try:
            with file.open("rb") as opened:
                table = pq.read_table(opened)
        except pa.ArrowInvalid as error:
            raise TableFormatError(f"'{file}' is not a Parquet file: {error}") from error
        features = FeatureTable.from_arrow(table)
        source = source or features.provenance
        if difference := source.first_difference(features.provenance, within=True):
            raise TableFormatError(f"'{file}' is not comparable with '{files[0]}': {difference}")
        source = source.joined(features.provenance)
        tables.append(features.to_arrow())
    whole = FeatureTable.from_arrow(pa.concat_tables(tables))
    return replace(whole, provenance=source or whole.provenance)
