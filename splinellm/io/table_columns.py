"""A feature table from a file, together with columns that stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa

from splinellm.errors import InputFileError, TableFormatError
from splinellm.io.byte_stream import reading
from splinellm.io.feature_files import read_features
from splinellm.io.readers import open_source
from splinellm.io.remote import location
from splinellm.table import FeatureTable


def read_table(path: str) -> FeatureTable:
    """Read what ``splinellm extract`` wrote, of any granularity; say so if it is not there.

    Raises
    ------
    InputFileError
        The file does not exist or cannot be read.
    TableFormatError
        It holds no features.
    """
    with reading(path):
        is_there = location(path).exists()
    if not is_there:
        raise InputFileError(f"'{path}' does not exist")
    try:
        return read_features(path)
    except pa.ArrowInvalid as error:
        raise TableFormatError(f"'{path}' is not a feature table: {error}") from error
    except OSError as error:
        raise InputFileError(f"cannot read '{path}': {error.strerror or error}") from error


def read_with_columns(
    path: str, wanted: Sequence[str], *, optional: Sequence[str] = ()
) -> tuple[FeatureTable, dict[str, list[Any]]]:
    """Read what ``splinellm extract`` wrote, of any granularity, and some of its other columns.

    Parameters
    ----------
    path : str
        A file.
    wanted : sequence of str
        Columns that must be there.
    optional : sequence of str
        Columns that may be.

    Returns
    -------
    table : FeatureTable
        The features.
    columns : dict of str to list
        A value for each of its rows.

    Raises
    ------
    TableFormatError, InputFileError
        The file holds no features, or not such a column.
    """
    table = read_table(path)
    if not (wanted or optional) or path.endswith(".npz"):
        if wanted:
            raise InputFileError(
                f"'{path}' has no column '{wanted[0][:80]}'", hint="an .npz has features alone"
            )
        return table, {}
    columns = read_columns(path, wanted, optional=optional)
    if any(len(column) != len(table) for column in columns.values()):
        raise InputFileError(f"'{path}' changed while it was being read")
    return table, columns


def read_columns(
    path: str, wanted: Sequence[str] = (), *, optional: Sequence[str] = ()
) -> dict[str, list[Any]]:
    """Read some columns of a file, whatever the others are.

    Parameters
    ----------
    path : str
        Anything that ``splinellm extract`` reads.
    wanted, optional : sequence of str
        Columns that must be there, and that may be.

    Raises
    ------
    InputFileError
        The file does not exist, or lacks a column.
    """
    columns: dict[str, list[Any]] = {}
    with closing(open_source(path, text_column=None, is_reserved=lambda _name: False)) as source:
        present = source.schema().names
        for name in wanted:
            if name not in present:
                raise InputFileError(f"'{path}' has no column '{name[:80]}'")
        kept = [name for name in (*wanted, *optional) if name in present]
        for chunk in source.chunks():
            for record in chunk.records():
                for name in kept:
                    columns.setdefault(name, []).append(record.get(name))
    return columns
