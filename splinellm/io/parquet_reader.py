"""Reader of Parquet, one file or a folder of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from splinellm.errors import TableFormatError
from splinellm.io.columnar import ColumnarSource, reading_columns
from splinellm.io.rows import CHUNK_BYTES
from splinellm.table import PROVENANCE_KEY, FeatureTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from splinellm.provenance import Provenance


class ParquetSource(ColumnarSource):
    """One Parquet file after the other, a row group at a time."""

    kind: ClassVar[str] = "Parquet"

    def read_schema(self, file: Path | BinaryIO) -> tuple[pa.Schema, int | None]:
        """Columns and number of rows of a file."""
        with pq.ParquetFile(file) as parquet:
            return parquet.schema_arrow.remove_metadata(), parquet.metadata.num_rows

    def read_batches(
        self, file: Path | BinaryIO, columns: Sequence[str], chunk_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Columns of a file, in batches of bounded length and size."""
        with pq.ParquetFile(file) as parquet:
            are_all = list(columns) == parquet.schema_arrow.names
            for group in range(parquet.metadata.num_row_groups):
                facts = parquet.metadata.row_group(group)
                # Batches are counted in rows; rows of long texts make smaller batches.
                row_bytes = facts.total_byte_size / max(1, facts.num_rows)
                n_rows = max(1, min(chunk_rows, int(CHUNK_BYTES / max(1.0, row_bytes))))
                yield from parquet.iter_batches(
                    n_rows, row_groups=[group], columns=None if are_all else list(columns)
                )


def read_provenance(path: Path) -> bytes | None:
    """Read the record of what a file's features come from, if it has features."""
    with reading_columns(str(path), "Parquet"):
        record: bytes | None = (pq.read_schema(path).metadata or {}).get(PROVENANCE_KEY)
    return record


def read_features(path: Path, provenance: Provenance | None = None) -> FeatureTable:  # noqa: ARG001 (the record's)
    """Read the feature columns of a file."""
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise TableFormatError(f"'{path}' is not a Parquet file: {error}") from error
    return FeatureTable.from_arrow(table)
