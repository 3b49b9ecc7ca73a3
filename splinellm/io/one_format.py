"""A run reads one format: what to give, format by format, where files are of several."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from splinellm.io.formats import Format, format_of_name, is_gzipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ALIKE = {"tsv": "csv"}
"""Formats that one reader reads, told apart by each file."""
_SHOWN = 4
"""Files of a format that a message names."""


def read_as(known: Format) -> str:
    """Name of the format that files are read as together."""
    return _ALIKE.get(known.name, known.name)


def one_by_one(ways: Mapping[str, str]) -> str:
    """Say what to give one after the other: an output for each format, a folder for all.

    Parameters
    ----------
    ways : mapping of str to str
        By format, what names its files.
    """
    runs = ", then ".join(f"{ways[name]} -o OUT/{name}.parquet" for name in sorted(ways))
    return f"a run reads one format: {runs}; OUT is one input again"


def ways_by_format(arguments: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """What names the files of each format: patterns with its suffixes, or the files.

    Parameters
    ----------
    arguments : sequence of str
        As they were given.
    paths : sequence of str
        What they stand for.
    """
    ends: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        known = format_of_name(path)
        if known is not None:
            n_parts = 2 if is_gzipped(path) else 1
            end = "." + ".".join(path.rsplit(".", n_parts)[1:])
            ends.setdefault(read_as(known), {}).setdefault(end, []).append(path)
    are_open = all(argument.endswith("*") for argument in arguments)
    found = {}
    for name, named in ends.items():
        if are_open:
            told = [f"'{argument}{end}'" for argument in arguments for end in named]
        else:
            told = [shlex.quote(path) for some in named.values() for path in some]
        found[name] = " ".join([*told[:_SHOWN], *(["..."] if len(told) > _SHOWN else [])])
    return found
