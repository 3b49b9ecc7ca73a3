"""Reader and writer of Arrow's own files (Feather, version 2); streams of it are read as well."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, TypeAlias

import pyarrow as pa
import pyarrow.dataset
import pyarrow.ipc

from splinellm.errors import TableFormatError
from splinellm.io.columnar import ColumnarSource, reading_columns
from splinellm.io.gathering import GatheringWriter
from splinellm.io.rows import CHUNK_BYTES
from splinellm.layout import stored_schema
from splinellm.table import PROVENANCE_KEY, FeatureTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from splinellm.io.remote import Location
    from splinellm.provenance import Provenance

_MAGIC = b"ARROW1"

_Reader: TypeAlias = pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader


class ArrowSource(ColumnarSource):
    """One Arrow file after the other, a batch at a time."""

    kind: ClassVar[str] = "Arrow"

    def read_schema(self, file: Path | BinaryIO) -> tuple[pa.Schema, int | None]:
        """Columns and number of rows of a file; those of a stream are not known before its end."""
        with _opened(file) as reader:
            schema = reader.schema.remove_metadata()
            if isinstance(reader, pa.ipc.RecordBatchStreamReader) or not isinstance(file, Path):
                return schema, None
        return schema, pa.dataset.dataset(file, format="ipc").count_rows()

    def read_batches(
        self, file: Path | BinaryIO, columns: Sequence[str], chunk_rows: int, skipped: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Columns of a file, in batches of bounded length and size, after the first few."""
        yield from islice(self._all_batches(file, columns, chunk_rows), skipped, None)

    def batch_lengths(self, file: Path | BinaryIO, chunk_rows: int) -> Iterator[int]:
        """Rows of the batches, which depend on their size, and so on all columns that are read."""
        for batch in self._all_batches(file, self.own_names(), chunk_rows):
            yield batch.num_rows

    def _all_batches(
        self, file: Path | BinaryIO, columns: Sequence[str], chunk_rows: int
    ) -> Iterator[pa.RecordBatch]:
        with _opened(file) as reader:
            places = [reader.schema.get_field_index(name) for name in columns]
        with _opened(file, places) as reader:
            for batch in _batches(reader):
                row_bytes = batch.nbytes / max(1, batch.num_rows)
                n_rows = max(1, min(chunk_rows, int(CHUNK_BYTES / max(1.0, row_bytes))))
                for start in range(0, batch.num_rows, n_rows):
                    yield batch.slice(start, n_rows)


class ArrowWriter(GatheringWriter):
    """Arrow file with zstd; what the added columns come from is in the schema's metadata.

    Columns of dictionaries become plain: a file has room for one dictionary a column, and the whole
    of it is known only at the end.

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
        added = stored_schema(added)
        schema = pa.schema([*map(_plain, columns), *added], metadata=added.metadata)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(file, schema, options=options)
        super().__init__(columns, schema)

    def arranged(self, columns: list[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
        """Columns without dictionaries."""
        return [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]

    def put(self, piece: pa.Table) -> None:
        """Write one batch: each has a record of every column."""
        self._writer.write_table(piece.combine_chunks())

    def complete(self) -> None:
        """Write the footer."""
        self._writer.close()


def read_provenance(path: Location) -> bytes | None:
    """Read the record of what a file's features come from, if it has features."""
    with (
        reading_columns(str(path), "Arrow"),
        path.open("rb") as file,
        _opened(file) as reader,
    ):
        record: bytes | None = (reader.schema.metadata or {}).get(PROVENANCE_KEY)
    return record


def read_features(path: Path, provenance: Provenance | None = None) -> FeatureTable:  # noqa: ARG001 (it has its own)
    """Read the feature columns of a file."""
    try:
        with _opened(path) as reader:
            table = reader.read_all()
    except pa.ArrowInvalid as error:
        raise TableFormatError(f"'{path}' is not an Arrow file: {error}") from error
    return FeatureTable.from_arrow(table)


@contextmanager
def _opened(file: Path | BinaryIO, columns: Sequence[int] | None = None) -> Iterator[_Reader]:
    options = pa.ipc.IpcReadOptions(included_fields=columns)
    if isinstance(file, Path):
        with pa.OSFile(str(file)) as opened:
            yield _reader(opened, options)
    else:
        file.seek(0)
        yield _reader(pa.PythonFile(file, mode="r"), options)


def _reader(opened: pa.NativeFile, options: pa.ipc.IpcReadOptions) -> _Reader:
    is_file = opened.read(len(_MAGIC)) == _MAGIC
    opened.seek(0)
    return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(opened, options=options)


def _batches(reader: _Reader) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchStreamReader):
        yield from reader
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _plain(field: pa.Field) -> pa.Field:
    if not pa.types.is_dictionary(field.type):
        return field
    return pa.field(field.name, field.type.value_type, field.nullable, field.metadata)
