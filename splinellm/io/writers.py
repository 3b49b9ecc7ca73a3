"""What every writer does, and which one writes which format.

A writer takes chunks of input rows with the columns that the run adds and streams them into one
open file. Column order is the same everywhere: the input's columns, then the added ones.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol, cast

from splinellm.io.binary_writers import NpzWriter, ParquetWriter
from splinellm.io.text_writers import CsvWriter, JsonlWriter

if TYPE_CHECKING:
    import pyarrow as pa

    from splinellm.io.rows import Chunk


class Writer(Protocol):
    """Writes rows into a file that is open. Closing completes the content, not the file."""

    needs_schema: ClassVar[bool]
    """Whether the input columns must be known before the first row."""
    needs_sidecar: ClassVar[bool]
    """Whether the format has no room for the provenance."""
    keeps_whole_rows: ClassVar[bool]
    """Whether a file that was cut off after any write is a complete, shorter file."""

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows; as many as `added` has."""
        ...

    def close(self) -> None:
        """Complete the content."""
        ...


WRITERS: dict[str, type[ParquetWriter | CsvWriter | JsonlWriter | NpzWriter]] = {
    "parquet": ParquetWriter,
    "csv": CsvWriter,
    "jsonl": JsonlWriter,
    "npz": NpzWriter,
}


def compressed(file: BinaryIO) -> BinaryIO:
    """Wrap a file in gzip; without a time stamp, so that equal runs make equal files."""
    return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0))
