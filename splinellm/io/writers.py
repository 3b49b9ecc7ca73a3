"""Writers of Parquet, CSV, JSON lines and NumPy archives.

Every writer takes chunks of input rows with their features and streams them into one open file.
Column order is the same everywhere: the input's columns, ``n_tokens``, ``truncated``, features.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy

from splinellm.io.json_columns import to_cell, to_json
from splinellm.io.rows import Chunk
from splinellm.provenance import Provenance
from splinellm.table import N_TOKENS, TRUNCATED, FeatureTable, arrow_schema, schema_of

_ROW_GROUP_ROWS = 32_768
_ROW_GROUP_BYTES = 64 << 20
"""Chunks are gathered into row groups: thousands of tiny ones would bloat the file's footer."""


class Writer(Protocol):
    """Writes rows into a file that is open. Closing completes the content, not the file."""

    needs_schema: ClassVar[bool]
    """Whether the input columns must be known before the first row."""
    needs_sidecar: ClassVar[bool]
    """Whether the format has no room for the provenance."""
    keeps_whole_rows: ClassVar[bool]
    """Whether a file that was cut off after any write is a complete, shorter file."""

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows; as many as `features` has."""
        ...

    def close(self) -> None:
        """Complete the content."""
        ...


class ParquetWriter:
    """Parquet with zstd; the provenance is in the schema's metadata.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema
        Input columns.
    provenance : Provenance
        Of the features.
    """

    needs_schema = True
    needs_sidecar = False
    keeps_whole_rows = False

    def __init__(self, file: BinaryIO, columns: pa.Schema, provenance: Provenance) -> None:
        features = arrow_schema(provenance)
        self._columns = columns
        self._schema = pa.schema([*columns, *features], metadata=features.metadata)
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._pending: list[pa.Table] = []

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows to the row group in memory, and write it when it is large."""
        table = rows.to_arrow(self._columns)
        columns = [*table.columns, *features.to_arrow().columns]
        self._pending.append(pa.Table.from_arrays(columns, schema=self._schema))
        n_rows = sum(len(table) for table in self._pending)
        n_bytes = sum(table.nbytes for table in self._pending)
        if n_rows >= _ROW_GROUP_ROWS or n_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the last row group and the footer."""
        try:
            self._flush()
        finally:
            self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            # Emptied first: rows that could not be written must not be tried again on closing.
            tables, self._pending = self._pending, []
            self._writer.write_table(pa.concat_tables(tables))


class CsvWriter:
    """CSV with a header; null is an empty value.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema
        Input columns.
    provenance : Provenance
        Of the features.
    """

    needs_schema = True
    needs_sidecar = True
    keeps_whole_rows = True

    def __init__(self, file: BinaryIO, columns: pa.Schema, provenance: Provenance) -> None:
        self._columns = columns
        self._file = file
        names = schema_of(provenance).names
        self._write_rows([[*columns.names, N_TOKENS, TRUNCATED, *names]])

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows."""
        table = rows.to_arrow(self._columns)
        inputs = [map(to_cell, column.to_pylist()) for column in table.columns]
        numbers = float_texts(features.values)
        added = zip(features.n_tokens.tolist(), features.truncated.tolist(), strict=True)
        self._write_rows(
            [*cells, n_tokens, to_cell(truncated), *values]
            for *cells, (n_tokens, truncated), values in zip(*inputs, added, numbers, strict=True)
        )

    def close(self) -> None:
        """Nothing is left to do."""

    def _write_rows(self, rows: object) -> None:
        text = _UnixLines(newline="")
        csv.writer(text).writerows(rows)  # type: ignore[arg-type]
        self._file.write(text.getvalue().encode("utf-8"))


class _UnixLines(io.StringIO):
    r"""Ends rows with \n.

    The csv module would do that itself, but then leaves values with a bare \r unquoted, which no
    reader puts together again.
    """

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


class JsonlWriter:
    """One JSON object a line, input values as they were read.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema, optional
        Not needed.
    provenance : Provenance
        Of the features.
    """

    needs_schema = False
    needs_sidecar = True
    keeps_whole_rows = True

    def __init__(self, file: BinaryIO, columns: pa.Schema | None, provenance: Provenance) -> None:  # noqa: ARG002 (the protocol's)
        self._file = file
        names = schema_of(provenance).names
        self._keys = [json.dumps(name) + ": " for name in (N_TOKENS, TRUNCATED, *names)]

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows."""
        added = zip(
            rows.records(),
            features.n_tokens.tolist(),
            features.truncated.tolist(),
            float_texts(features.values),
            strict=True,
        )
        lines = []
        for record, n_tokens, truncated, values in added:
            texts = (str(n_tokens), to_cell(truncated), *values)
            pairs = ", ".join(key + text for key, text in zip(self._keys, texts, strict=True))
            lines.append(f"{to_json(record)[:-1]}, {pairs}}}\n")
        self._file.write("".join(lines).encode("utf-8"))

    def close(self) -> None:
        """Nothing is left to do."""


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
    provenance : Provenance
        Of the features.
    """

    needs_schema = False
    needs_sidecar = False
    keeps_whole_rows = False

    def __init__(self, file: BinaryIO, columns: pa.Schema | None, provenance: Provenance) -> None:  # noqa: ARG002 (the protocol's)
        self._file = file
        self._provenance = provenance
        self._n_rows = 0
        # Beside the output, where there must be room for it anyway; /tmp may be small.
        folder = Path(file.name).parent
        self._dtypes = {"values": "<f4", "n_tokens": "<i8", "truncated": "|b1", "input_jsonl": "|u1"}
        self._parts = {name: tempfile.TemporaryFile(dir=folder) for name in self._dtypes}

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows to the temporary files."""
        for name in ("values", "n_tokens", "truncated"):
            array = getattr(features, name).astype(self._dtypes[name])
            self._parts[name].write(np.ascontiguousarray(array).tobytes())
        lines = "".join(to_json(record) + "\n" for record in rows.records())
        self._parts["input_jsonl"].write(lines.encode("utf-8"))
        self._n_rows += len(features)

    def close(self) -> None:
        """Put the archive together."""
        names = schema_of(self._provenance).names
        try:
            with zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, dtype in self._dtypes.items():
                    shape = (self._n_rows, len(names)) if name == "values" else (self._n_rows,)
                    self._add(archive, name, dtype, shape)
                for name, array in (
                    ("names", np.array(names)),
                    ("provenance", np.array(self._provenance.to_json())),
                ):
                    with archive.open(f"{name}.npy", "w") as member:
                        npy.write_array(member, array, allow_pickle=False)
        finally:
            for part in self._parts.values():
                part.close()

    def _add(
        self, archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...]
    ) -> None:
        part = self._parts[name]
        if name == "input_jsonl":
            shape = (part.tell(),)
        part.seek(0)
        # zip64 from the start: the size is not known to the zip file before it is written.
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            header = {"descr": dtype, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(member, header)
            while block := part.read(1 << 20):
                member.write(block)


WRITERS: dict[str, type[ParquetWriter | CsvWriter | JsonlWriter | NpzWriter]] = {
    "parquet": ParquetWriter,
    "csv": CsvWriter,
    "jsonl": JsonlWriter,
    "npz": NpzWriter,
}


def compressed(file: BinaryIO) -> BinaryIO:
    """Wrap a file in gzip; without a time stamp, so that equal runs make equal files."""
    return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0))


def float_texts(values: np.ndarray) -> list[list[str]]:
    """Shortest decimal numbers that read back as the same float32.

    Parameters
    ----------
    values : ndarray, shape (N, M), float32
        All finite.

    Returns
    -------
    list of list of str
        Whole numbers keep a ``.0``: readers that guess a column's type from its first values
        would otherwise take it for integers.
    """
    texts = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(pa.string()).to_pylist()
    width = values.shape[1]
    texts = [text if "." in text or "e" in text else text + ".0" for text in texts]
    return [texts[i * width : (i + 1) * width] for i in range(len(values))]
