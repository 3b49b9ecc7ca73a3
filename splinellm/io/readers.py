"""Open an input: a file of any known format, a folder of Parquet files, or standard input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from splinellm.errors import InputFileError
from splinellm.io.byte_stream import ByteStream, reading
from splinellm.io.formats import STANDARD_STREAM, input_format, is_gzipped
from splinellm.io.jsonl_reader import JsonlSource
from splinellm.io.parquet_reader import ParquetSource
from splinellm.io.text_readers import CsvSource, TextSource
from splinellm.table import is_own_column

if TYPE_CHECKING:
    from splinellm.io.rows import Chunk, Source


def open_source(
    path: str,
    *,
    text_column: str | None = "text",
    format: str | None = None,  # noqa: A002 (the natural keyword)
    is_reserved: Callable[[str], bool] = is_own_column,
) -> Source[Chunk]:
    """Open an input and check what can be checked before any model is loaded.

    Parameters
    ----------
    path : str
        A file, a folder of Parquet files, or ``-`` for standard input.
    text_column : str or None
        Column that holds the prompts; what the only column of a text file is called. None if only
        the other columns are wanted.
    format : str, optional
        One of :data:`~splinellm.io.formats.INPUT_FORMATS`, overriding the file's name. Standard
        input that begins with ``{`` is read as JSON lines, anything else as a prompt a line.
    is_reserved : callable
        Whether the output adds a column of this name, so that the input must not have it.

    Returns
    -------
    Source
        To be closed by the caller.

    Raises
    ------
    InputFileError
        The file is missing or unreadable, of an unknown format, without the text column, or has
        a column that the output adds.
    """
    if path == STANDARD_STREAM:
        stream, found = ByteStream.open_stdin()
        kind = format or found
    elif Path(path).is_dir():
        if format not in (None, "parquet"):
            raise InputFileError(f"'{path}' is a folder: only Parquet is read from folders")
        return ParquetSource(path, parquet_files(path), text_column, is_reserved)
    else:
        kind = input_format(path, format)
        stream = ByteStream.open_file(path, gzipped=is_gzipped(path))
    try:
        return _source(kind, stream, path, text_column, is_reserved)
    except BaseException:
        stream.close()
        raise


def _source(
    kind: str,
    stream: ByteStream,
    path: str,
    text_column: str | None,
    is_reserved: Callable[[str], bool],
) -> Source[Chunk]:
    source: Source[Chunk]
    if kind == "jsonl":
        source = JsonlSource(stream, text_column, is_reserved)
    elif kind == "txt":
        source = TextSource(stream, text_column or "text", is_reserved)
    elif kind in ("csv", "tsv"):
        source = CsvSource(stream, text_column, is_reserved, "," if kind == "csv" else "\t")
    elif path == STANDARD_STREAM:
        stream.make_rereadable()  # Parquet is read from its end
        source = ParquetSource(stream.name, [stream.reader()], text_column, is_reserved)
    else:
        stream.close()
        source = ParquetSource(path, [Path(path)], text_column, is_reserved)
    return source


def parquet_files(folder: str) -> list[Path]:
    """Parquet files of a folder, by name."""
    with reading(folder):
        names = sorted(Path(folder).iterdir())
        # Spark and others leave _SUCCESS and .crc files beside the data.
        files = [p for p in names if p.suffix == ".parquet" and not p.name.startswith(("_", "."))]
        nested = next((p for p in names if p.is_dir() and next(p.rglob("*.parquet"), None)), None)
    if nested is not None:
        raise InputFileError(
            f"'{folder}' has Parquet files in sub-folder '{nested.name}', which are not read",
            hint="give one folder at a time",
        )
    if not files:
        raise InputFileError(f"folder '{folder}' has no Parquet files")
    return files
