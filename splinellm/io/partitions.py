"""Columns that the names of folders tell, as Hive, Spark and pyarrow lay them out.

Below ``data/lang=en/year=2024/`` every row has ``lang`` and ``year``. As everywhere, no value
changes: a column is of integers if all of its values are written as such, else it is text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote

import pyarrow as pa

from splinellm.errors import InputFileError
from splinellm.io.csv_types import CellScan

Partition: TypeAlias = tuple[tuple[str, str | None], ...]
"""Names and values, from the outermost folder."""

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_of(folders: Sequence[str]) -> Partition:
    """Names and values that the names of folders tell.

    Raises
    ------
    InputFileError
        Two of them tell the same name: one value would be lost.
    """
    pairs = (part.partition("=") for part in folders)
    found = tuple(
        (unquote(name), None if value == _NULL else unquote(value))
        for name, equals, value in pairs
        if equals and name
    )
    if len(dict(found)) < len(found):
        raise InputFileError(f"'{'/'.join(folders)}' names a column twice", hint="rename a folder")
    return found


def partition_types(partitions: Sequence[Partition]) -> dict[str, pa.DataType]:
    """Types of the columns, told by all of their values."""
    names = dict.fromkeys(name for partition in partitions for name, _ in partition)
    found: dict[str, pa.DataType] = {}
    for name in names:
        scan = CellScan([name])
        for partition in partitions:
            scan.observe({name: dict(partition).get(name) or ""})
        kind = scan.types().get(name)
        if any(dict(partition).get(name) == "" for partition in partitions):
            kind = None  # no number, and no null either, which has a word of its own
        found[name] = kind if kind is not None and pa.types.is_integer(kind) else pa.string()
    return found


def typed(partition: Partition, types: Mapping[str, pa.DataType]) -> dict[str, Any]:
    """Values of the types that their columns have; only the columns that are among these."""
    return {
        name: value if value is None or pa.types.is_string(types[name]) else int(value)
        for name, value in partition
        if name in types
    }
