"""The file formats: one record each, which is all that anybody else knows of it.

Imports nothing heavy: a record names the code that reads and writes its format, and
:func:`load` imports it when it is needed. A new format is one module and one entry here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from splinellm.errors import ConfigurationError, InputFileError, OutputError
from splinellm.io.remote import location

STANDARD_STREAM = "-"
"""Stands for standard input or output in place of a path."""


@dataclass(frozen=True)
class Format:
    """What there is to know of a file format.

    Parameters
    ----------
    name : str
        As in ``--input-format``.
    suffixes : tuple of str
        File names end with one of them.
    input_suffixes : tuple of str
        Further ones, of files that are only read.
    reader : str
        ``module:class`` of its source: made of a :class:`~splinellm.io.byte_stream.ByteStream` if
        the format is text, else of a name and files; and of
        :class:`~splinellm.io.rows.ReadOptions`. Empty if the format is only written.
    writer : str
        ``module:class`` of its :class:`~splinellm.io.writers.Writer`; empty if it is only read.
    features : str
        ``module:function`` that reads a feature table of a path and, for formats without room for
        it, a provenance. Empty if no table is kept in this format.
    provenance : str
        ``module:function`` that reads the provenance record, in bytes, of a path, or None. Empty
        if the format has no room for it: then it lies in a file beside.
    is_text : bool
        Whether a file is lines of text; else it is read from its end, and never piecewise.
    may_be_gzipped : bool
        Whether it is read and written as ``.gz``, too.
    begins : tuple of bytes
        How files of the format begin, if that tells it from others.
    has_header : bool
        Whether the columns are known before the rows are read.
    has_delimiter : bool
        Whether values are separated by a character that may be another.
    needs_schema : bool
        Whether the input columns must be known before the first row is written.
    features_only : bool
        Whether nothing but features can be written.
    layouts : tuple of str
        How features can be laid out in it; see :mod:`splinellm.layout`.
    precisions : tuple of str
        What it can keep features as; see :mod:`splinellm.precision`.
    """

    name: str
    suffixes: tuple[str, ...]
    input_suffixes: tuple[str, ...] = ()
    reader: str = ""
    writer: str = ""
    features: str = ""
    provenance: str = ""
    is_text: bool = True
    may_be_gzipped: bool = True
    begins: tuple[bytes, ...] = ()
    has_header: bool = True
    has_delimiter: bool = False
    needs_schema: bool = True
    features_only: bool = False
    layouts: tuple[str, ...] = ("columns",)
    precisions: tuple[str, ...] = ("float32",)

    @property
    def needs_sidecar(self) -> bool:
        """Whether the provenance of features lies beside the file."""
        return bool(self.features) and not self.provenance and not self.features_only


FORMATS = (
    Format(
        "csv",
        (".csv",),
        reader="splinellm.io.csv_reader:CsvSource",
        writer="splinellm.io.text_writers:CsvWriter",
        features="splinellm.io.feature_files:read_csv",
        has_delimiter=True,
    ),
    Format("tsv", (".tsv",), reader="splinellm.io.csv_reader:TsvSource", has_delimiter=True),
    Format(
        "jsonl",
        (".jsonl", ".ndjson"),
        (".json",),
        reader="splinellm.io.jsonl_reader:JsonlSource",
        writer="splinellm.io.text_writers:JsonlWriter",
        features="splinellm.io.feature_files:read_jsonl",
        has_header=False,
        needs_schema=False,
        layouts=("columns", "list"),
    ),
    Format("txt", (".txt",), reader="splinellm.io.text_readers:TextSource"),
    Format(
        "parquet",
        (".parquet",),
        reader="splinellm.io.parquet_reader:ParquetSource",
        writer="splinellm.io.binary_writers:ParquetWriter",
        features="splinellm.io.parquet_reader:read_features",
        provenance="splinellm.io.parquet_reader:read_provenance",
        is_text=False,
        may_be_gzipped=False,
        begins=(b"PAR1",),
        layouts=("columns", "list"),
        precisions=("float32", "float16", "uint8"),
    ),
    Format(
        "arrow",
        (".arrow", ".feather"),
        reader="splinellm.io.arrow_files:ArrowSource",
        writer="splinellm.io.arrow_files:ArrowWriter",
        features="splinellm.io.arrow_files:read_features",
        provenance="splinellm.io.arrow_files:read_provenance",
        is_text=False,
        may_be_gzipped=False,
        begins=(b"ARROW1", b"\xff\xff\xff\xff"),  # a file, a stream
        layouts=("columns", "list"),
        precisions=("float32", "float16", "uint8"),
    ),
    Format(
        "npz",
        (".npz",),
        writer="splinellm.io.binary_writers:NpzWriter",
        features="splinellm.io.feature_files:read_npz",
        is_text=False,
        may_be_gzipped=False,
        needs_schema=False,
        features_only=True,
        layouts=("columns", "tensor"),
        precisions=("float32", "float16", "uint8"),
    ),
)

INPUT_FORMATS = tuple(known.name for known in FORMATS if known.reader)


def load(where: str) -> Any:
    """Import what a record names as ``module:name``."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def format_named(name: str) -> Format:
    """Look up a format.

    Raises
    ------
    ConfigurationError
        There is none of this name.
    """
    for known in FORMATS:
        if known.name == name:
            return known
    raise ConfigurationError(f"unknown format '{name}'; known: {', '.join(INPUT_FORMATS)}")


def input_format(path: str, given: str | None = None) -> Format:
    """Format of an input file.

    Parameters
    ----------
    path : str
        A file's path; standard input and folders are not for this function.
    given : str, optional
        Format that overrides the name's.

    Raises
    ------
    InputFileError
        The name does not tell.
    """
    found = format_named(given) if given else format_of_name(path, is_input=True)
    if found is None or not found.reader or (is_gzipped(path) and not found.may_be_gzipped):
        raise InputFileError(
            f"cannot tell the format of '{path}' from its name",
            hint=f"known: {input_suffixes()}, a folder of Parquet files, or -; "
            "--input-format overrides",
        )
    return found


def output_format(path: str, *, features: bool = True) -> Format:
    """Format of an output file; standard output gets JSON lines, a folder Parquet.

    Parameters
    ----------
    path : str
        A file's path, a folder's, or ``-``.
    features : bool
        Whether features are to be written; an archive of arrays has no place for anything else.

    Raises
    ------
    ConfigurationError
        The name does not tell.
    """
    if path == STANDARD_STREAM:
        return format_named("jsonl")
    if names_folder(path):
        return format_named("parquet")
    found = format_of_name(path, is_input=False)
    if found is None or not found.writer or (is_gzipped(path) and not found.may_be_gzipped):
        raise ConfigurationError(
            f"cannot write '{path}': unknown suffix",
            hint=f"known: {output_suffixes()}, FOLDER/ for Parquet, or - for JSON lines",
        )
    if found.features_only and not features:
        raise ConfigurationError(
            f"cannot write '{path}': {found.suffixes[0]} is for features only",
            hint=f"use {output_suffixes(features=False)}, FOLDER/, or - for JSON lines",
        )
    return found


def require_layout(known: Format, layout: str) -> None:
    """Refuse a layout that a format does not have.

    Raises
    ------
    ConfigurationError
        Says which formats have it.
    """
    _require(known, "layout", layout, lambda one: one.layouts)


def require_precision(known: Format, precision: str) -> None:
    """Refuse a precision that a format cannot keep.

    Raises
    ------
    ConfigurationError
        Says which formats can.
    """
    _require(known, "precision", precision, lambda one: one.precisions)


def _require(
    known: Format, what: str, value: str, having: Callable[[Format], tuple[str, ...]]
) -> None:
    if value not in having(known):
        others = [f".{one.name}" for one in FORMATS if value in having(one) and one.writer]
        raise ConfigurationError(
            f"{what} '{value}' is for {', '.join(others) or 'nothing'}, not for .{known.name}",
            hint=f"known there: {', '.join(having(known))}",
        )


def names_folder(path: str) -> bool:
    """Whether an output is a folder: one that is there, or a name that ends like one's."""
    if path.endswith(("/", os.sep)) or path == "":
        return path != ""
    try:
        return location(path).is_dir()
    except OSError as error:  # a store that cannot be reached
        raise OutputError(f"cannot write '{path}': {error}") from error


def is_gzipped(path: str) -> bool:
    """Whether the name ends with .gz."""
    return path.lower().endswith(".gz")


def format_of_name(path: str, *, is_input: bool = True) -> Format | None:
    """Format that a file's name tells; None if it tells none."""
    suffix = Path(path[:-3] if is_gzipped(path) else path).suffix.lower()
    for known in FORMATS:
        if suffix in known.suffixes or (is_input and suffix in known.input_suffixes):
            return known
    return None


def input_suffixes() -> str:
    """Say which files are read."""
    return _suffixes(
        [(s, known) for known in FORMATS if known.reader for s in _readable_suffixes(known)]
    )


def output_suffixes(*, features: bool = True) -> str:
    """Say which files are written."""
    return _suffixes(
        [
            (known.suffixes[0], known)
            for known in FORMATS
            if known.writer and (features or not known.features_only)
        ]
    )


def _readable_suffixes(known: Format) -> tuple[str, ...]:
    return (known.suffixes[0], *known.input_suffixes)


def _suffixes(pairs: list[tuple[str, Format]]) -> str:
    others = [suffix for suffix, known in pairs if not known.may_be_gzipped]
    gzipped = [suffix for suffix, known in pairs if known.may_be_gzipped]
    return f"{' '.join([*others, *gzipped])} (the last {len(gzipped)} also .gz)"
