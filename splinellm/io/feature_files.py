"""Feature tables alone, to and from a file of any format that holds them."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.csv

from splinellm.errors import OutputError, TableFormatError
from splinellm.io.byte_stream import reading
from splinellm.io.formats import (
    format_named,
    is_gzipped,
    load,
    names_folder,
    output_format,
    require_layout,
    require_precision,
)
from splinellm.io.inputs import Input, InputFile, find_input
from splinellm.io.remote import is_uri, location
from splinellm.io.rows import RecordChunk, Row
from splinellm.io.unfinished import replacing
from splinellm.io.writers import compressed, writer_of
from splinellm.layout import Layout, arrow_schema, own_columns, schema_of
from splinellm.precision import Precision, restored
from splinellm.provenance import Provenance, read_sidecar, sidecar
from splinellm.table import FeatureTable
from splinellm.token_index import TokenIndex

if TYPE_CHECKING:
    from splinellm.io.formats import Format

_CSV_BLOCK_BYTES = 16 << 20
"""No row of a CSV file may be longer."""
_NOT_AN_ARCHIVE = (KeyError, ValueError, TypeError, AttributeError, EOFError, BadZipFile)
"""What NumPy raises, by turns, on a file that is none of its archives."""


def write_features(
    table: FeatureTable,
    path: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 (as open_source)
    layout: Layout = "columns",
    precision: Precision | None = None,
) -> None:
    """Write a table as ``splinellm extract`` would, without input columns.

    Parameters
    ----------
    table : FeatureTable
        What to write.
    path : path
        A file; where the format has no room for the provenance, that lies beside it.
    format : str, optional
        Overrides the name's.
    layout : {"columns", "list", "tensor"}
        See :mod:`splinellm.layout`.
    precision : {"float32", "float16", "uint8"}, optional
        Round the numbers to this; see :mod:`splinellm.precision`. The table's own by default.

    Raises
    ------
    OutputError
        It is a folder.
    OSError
        It cannot be written; what was there is there still.
    ConfigurationError
        The format does not have the layout, or the precision.
    TableFormatError
        A number is too large for the precision.
    """
    if names_folder(fspath(path)):
        raise OutputError(f"cannot write {path}: it is a folder", hint="name a file in it")
    known = _known(path, format)
    require_layout(known, layout)
    if precision is not None:
        require_precision(known, precision)
        table = table.rounded(precision)
    named = location(fspath(path))
    beside = {}
    if known.needs_sidecar:
        record = table.provenance.to_json().encode()
        beside[named.with_name(sidecar(named.name).name)] = record
    with replacing(named, beside) as file:
        _write(table, file, known, layout, is_packed=is_gzipped(named.name))


def _write(
    table: FeatureTable, file: BinaryIO, known: Format, layout: Layout, *, is_packed: bool
) -> None:
    added = table.to_arrow(layout)
    stream = compressed(file) if is_packed else file
    writer = writer_of(known)(stream, pa.schema([]), added.schema)
    writer.write(RecordChunk("", [Row(i, {}) for i in range(len(table))], None), added)
    writer.close()
    if stream is not file:
        stream.close()


def read_features(
    path: str | PathLike[str],
    provenance: Provenance | None = None,
    *,
    format: str | None = None,  # noqa: A002 (as open_source)
) -> FeatureTable:
    """Read the features that :func:`write_features` or ``splinellm extract`` wrote.

    Parameters
    ----------
    path : path
        A file, or a folder of Parquet files.
    provenance : Provenance, optional
        In place of the record beside a file whose format has no room for it.
    format : str, optional
        Overrides the name's.

    Raises
    ------
    TableFormatError
        The file is none of a table.
    OSError
        It is not there, or cannot be read.
    """
    if is_uri(fspath(path)):
        with tempfile.TemporaryDirectory(prefix="splinellm-") as folder:
            return read_features(_fetched(fspath(path), Path(folder)), provenance, format=format)
    known = _known(path, format)
    if provenance is None and known.needs_sidecar:
        provenance = read_sidecar(path)
    table: FeatureTable = load(known.features)(Path(path), provenance)
    return table


def _fetched(uri: str, folder: Path) -> Path:
    """Copy a table, which is read whole in any case; returns a file, or a folder of such."""
    found = find_input(uri) if not uri.endswith(".npz") else Input(uri, (InputFile(location(uri)),))
    with reading(uri):
        for number, file in enumerate(found.files):
            # In their order, whatever folders they are from.
            begin = f"{number:08d}-" if found.folders else ""
            for path in (file.path, file.path.with_name(sidecar(file.path.name).name)):
                if path == file.path or (path.exists() and not found.folders):
                    target = folder / f"{begin}{path.name}"
                    with path.open("rb") as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
    return folder if found.folders else folder / found.files[0].path.name


def _known(path: str | PathLike[str], given: str | None) -> Format:
    return format_named(given) if given else output_format(fspath(path))


def read_csv(path: Path, provenance: Provenance) -> FeatureTable:
    """Read the feature columns of a CSV file."""
    schema = arrow_schema(provenance)
    try:
        table = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            # Guessed from the first block, a column that starts with zeros is one of integers.
            convert_options=pa.csv.ConvertOptions(
                column_types=dict(zip(schema.names, schema.types, strict=True))
            ),
        )
    except pa.ArrowInvalid as error:
        raise TableFormatError(f"'{path}' is not a feature table: {error}") from error
    return FeatureTable.from_columns(table, provenance)


def read_jsonl(path: Path, provenance: Provenance) -> FeatureTable:
    """Read the feature columns of JSON lines."""
    opener = gzip.open if is_gzipped(fspath(path)) else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            rows = [json.loads(line) for line in file]
        if not rows:
            return FeatureTable.from_columns(arrow_schema(provenance).empty_table(), provenance)
        # Other columns may hold what Arrow has no type for.
        names = own_columns(rows[0], provenance)
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
    except (ValueError, AttributeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TableFormatError(f"'{path}' is not a feature table: {error}") from error
    return FeatureTable.from_columns(table, provenance)


def read_npz(path: Path, provenance: Provenance | None) -> FeatureTable:
    """Read an archive of arrays; never unpickles."""
    try:
        # Opened here: NumPy leaves a file that is no archive open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            provenance = Provenance.from_json(str(archive["provenance"]))
            if tuple(archive["names"]) != schema_of(provenance).names:
                raise TableFormatError("the names are not those of the provenance record")
            tokens = None
            if provenance.granularity != "prompt":
                tokens = TokenIndex.from_arrays(archive)
            values, n_tokens, truncated = (
                archive[name] for name in ("values", "n_tokens", "truncated")
            )
            if values.ndim == 3 and values.shape[1:] == schema_of(provenance).shape:
                values = values.reshape(len(values), -1)
            if values.dtype == np.float16 or provenance.precision == "uint8":
                values = restored(values)
            return FeatureTable(values, n_tokens, truncated, provenance, tokens)
    except _NOT_AN_ARCHIVE as error:
        raise TableFormatError(f"'{path}' is not a feature archive: {error}") from error
