"""Which format a file has, told by its name. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from splinellm.errors import ConfigurationError, InputFileError

STANDARD_STREAM = "-"
"""Stands for standard input or output in place of a path."""

INPUT_FORMATS = ("jsonl", "csv", "tsv", "txt", "parquet")
OUTPUT_FORMATS = ("parquet", "csv", "jsonl", "npz")

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
    ".parquet": "parquet",
    ".npz": "npz",
}
_GZIPPED_OUTPUTS = ("csv", "jsonl")


def is_gzipped(path: str) -> bool:
    """Whether the name ends with .gz."""
    return path.lower().endswith(".gz")


def _format_of_name(path: str) -> str | None:
    name = path[:-3] if is_gzipped(path) else path
    return _SUFFIXES.get(Path(name).suffix.lower())


def input_format(path: str, given: str | None = None) -> str:
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
    found = given or _format_of_name(path)
    if found not in INPUT_FORMATS or (found == "parquet" and is_gzipped(path)):
        raise InputFileError(
            f"cannot tell the format of '{path}' from its name",
            hint="known: .jsonl .csv .tsv .txt (each also .gz), .parquet, a folder of Parquet "
            "files, or -; --input-format overrides",
        )
    return found


def output_format(path: str, *, features: bool = True) -> str:
    """Format of an output file; standard output gets JSON lines.

    Parameters
    ----------
    path : str
        A file's path, or ``-``.
    features : bool
        Whether features are to be written; an archive of arrays has no place for anything else.

    Raises
    ------
    ConfigurationError
        The name does not tell.
    """
    if path == STANDARD_STREAM:
        return "jsonl"
    found = _format_of_name(path)
    allowed = _GZIPPED_OUTPUTS if is_gzipped(path) else OUTPUT_FORMATS
    if found is None or found not in allowed:
        raise ConfigurationError(
            f"cannot write '{path}': unknown suffix",
            hint="known: .parquet .npz .csv .jsonl (the last two also .gz), or - for JSON lines",
        )
    if found == "npz" and not features:
        raise ConfigurationError(
            f"cannot write '{path}': .npz is for features only",
            hint="use .parquet .csv .jsonl (the last two also .gz), or - for JSON lines",
        )
    return found
