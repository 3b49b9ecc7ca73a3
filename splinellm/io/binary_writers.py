"""Writers of Parquet and NumPy archives."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy

from splinellm.errors import ConfigurationError
from splinellm.io.gathering import GatheringWriter
from splinellm.io.json_columns import to_json
from splinellm.io.parquet_encoding import COMPRESSION, encodings
from splinellm.io.writers import check_types
from splinellm.layout import LAYOUT_KEY, PROVENANCE_KEY, schema_of, stored_schema
from splinellm.precision import Precision, kind_of, stored
from splinellm.provenance import Provenance
from splinellm.table import FeatureTable
from splinellm.token_index import BEGIN, END, POSITION, ROW, TEXT_LINES

if TYPE_CHECKING:
    from splinellm.io.rows import Chunk

_DTYPES = {"values": "<f4", "n_tokens": "<i8", "truncated": "|b1", "input_jsonl": "|u1"}
_NUMBERS: dict[Precision, str] = {"float32": "<f4", "float16": "<f2", "uint8": "|u1"}
_TOKEN_DTYPES = {**dict.fromkeys((ROW, POSITION, BEGIN, END), "<i8"), TEXT_LINES: "|u1"}


def _kind_of_archive(provenance: Provenance) -> Precision:
    """Type of the one array that an archive has of all features."""
    kinds = {kind_of(feature, provenance.precision) for feature in provenance.features}
    if len(kinds) > 1:
        raise ConfigurationError(
            ".npz has one array, which cannot keep sign blocks as uint8 and the others as float16",
            hint="ask for blocks alone, for float16, or write .parquet",
        )
    return kinds.pop()


class ParquetWriter(GatheringWriter):
    """Parquet with zstd; what the added columns come from is in the schema's metadata.

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
        schema = pa.schema([*columns, *added], metadata=added.metadata)
        check_types(schema, _is_writable, ".parquet")
        super().__init__(columns, schema)
        self._file = file
        self._writer: pq.ParquetWriter | None = None

    def put(self, piece: pa.Table) -> None:
        """Write one row group: thousands of tiny ones would bloat the file's footer."""
        if self._writer is None:
            ways = encodings(piece, len(self._stored))
            self._writer = pq.ParquetWriter(
                self._file, self._schema, compression=COMPRESSION, **ways
            )
        self._writer.write_table(piece)

    def complete(self) -> None:
        """Write the footer, of a file without rows, too."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, self._schema, compression=COMPRESSION)
        self._writer.close()


def _is_writable(field: pa.Field) -> bool:
    try:
        with pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])):
            return True
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        return False


class NpzWriter:
    """NumPy archive as of :meth:`FeatureTable.to_npz`, plus the input columns.

    The member ``input_jsonl`` holds the input columns as JSON lines in UTF-8 bytes: NumPy keeps
    texts of different length only by pickling them, or padded to the longest. Arrays begin with
    their length, so that rows wait in temporary files until it is known.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema, optional
        Not needed.
    added : pa.Schema
        Of a feature table.
    """

    def __init__(self, file: BinaryIO, columns: pa.Schema | None, added: pa.Schema) -> None:  # noqa: ARG002 (the protocol's)
        self._file = file
        self._provenance = Provenance.from_json(added.metadata[PROVENANCE_KEY])
        self._is_tensor = LAYOUT_KEY in added.metadata
        self._kind = _kind_of_archive(self._provenance)
        self._n_rows = 0
        # Beside the output, where there must be room for it anyway; /tmp may be small.
        name = getattr(file, "name", None)  # none at a URI
        folder = Path(name).parent if isinstance(name, str) else None
        has_tokens = self._provenance.granularity != "prompt"
        self._dtypes = _DTYPES | {"values": _NUMBERS[self._kind]}
        if has_tokens:
            self._dtypes |= _TOKEN_DTYPES
        self._parts = {name: tempfile.TemporaryFile(dir=folder) for name in self._dtypes}  # noqa: SIM115 (close() closes it)

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows to the temporary files."""
        features = FeatureTable.from_arrow(added)
        arrays = {name: getattr(features, name) for name in ("n_tokens", "truncated")}
        arrays["values"] = stored(features.values, self._kind)
        if features.tokens is not None:
            arrays |= features.tokens.arrays()
        for name, array in arrays.items():
            kind = self._dtypes[name]
            self._parts[name].write(np.ascontiguousarray(array.astype(kind)).tobytes())
        lines = "".join(to_json(record) + "\n" for record in rows.records())
        self._parts["input_jsonl"].write(lines.encode("utf-8"))
        self._n_rows += len(features)

    def close(self) -> None:
        """Put the archive together."""
        schema = schema_of(self._provenance)
        names = schema.names
        others = {"names": np.array(names), "provenance": np.array(self._provenance.to_json())}
        if self._is_tensor:
            others |= {"layers": np.array(schema.layers), "features": np.array(schema.features)}
        width = schema.shape if self._is_tensor else (len(names),)
        try:
            with zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, dtype in self._dtypes.items():
                    shape = (self._n_rows, *(width if name == "values" else ()))
                    self._add(archive, name, dtype, shape)
                for name, array in others.items():
                    with archive.open(f"{name}.npy", "w") as member:
                        npy.write_array(member, array, allow_pickle=False)
        finally:
            for part in self._parts.values():
                part.close()

    def _add(self, archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        part = self._parts[name]
        if name in ("input_jsonl", TEXT_LINES):
            shape = (part.tell(),)
        part.seek(0)
        # zip64 from the start: the size is not known to the zip file before it is written.
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            header = {"descr": dtype, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(member, header)
            while block := part.read(1 << 20):
                member.write(block)
