"""What INPUT names: the files of arguments, patterns and folders, in the order they are read in.

Arguments keep their order. Files of a pattern or a folder are sorted by their path, so that every
machine that works on a share of them sees the same input.
"""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from splinellm.errors import ConfigurationError, InputFileError
from splinellm.io.byte_stream import reading
from splinellm.io.formats import (
    STANDARD_STREAM,
    Format,
    format_of_name,
    input_format,
)
from splinellm.io.one_format import one_by_one, read_as, ways_by_format
from splinellm.io.partitions import Partition, partition_of
from splinellm.io.remote import Location, RemotePath, location, size_of
from splinellm.io.shares import Share

_MAGIC = re.compile(r"[*?[]")
_BESIDE = (".rejects.jsonl", ".provenance.json")
"""What a run leaves beside its output, which is no data."""


@dataclass(frozen=True)
class InputFile:
    """One file of an input.

    Parameters
    ----------
    path : Path or RemotePath
        Where it is.
    partition : tuple
        Names and values that its folders, such as ``lang=en``, give to all of its rows.
    """

    path: Location
    partition: Partition = ()

    def __str__(self) -> str:
        return str(self.path)

    def size(self) -> int:
        """Bytes of the file."""
        with reading(str(self)):
            return size_of(self.path)


@dataclass(frozen=True)
class Input:
    """What a run reads.

    Parameters
    ----------
    shown : str
        What messages call it.
    files : tuple of InputFile
        In order; none is standard input.
    kind : Format or None
        Of all files; of standard input only what it begins with tells.
    folders : tuple of Path or RemotePath
        Those that were given as such.
    """

    shown: str
    files: tuple[InputFile, ...] = ()
    kind: Format | None = None
    folders: tuple[Location, ...] = ()

    @property
    def is_standard(self) -> bool:
        """Whether it is standard input."""
        return not self.files

    @property
    def is_pipe(self) -> bool:
        """Whether it is a pipe with a name, as of ``<(zcat x)``."""
        return len(self.files) == 1 and is_pipe(self.files[0].path)

    @property
    def is_stream(self) -> bool:
        """Whether it can be read only once."""
        return self.is_standard or self.is_pipe

    @property
    def is_plain(self) -> bool:
        """Whether it is one file and nothing else."""
        return len(self.files) == 1 and not self.files[0].partition

    def identity(self) -> dict[str, str]:
        """What tells it from others; which rows it has is compared part by part."""
        if self.is_stream:
            return {"input": "a pipe"}
        if len(self.files) == 1 or (
            len(self.folders) == 1 and self.shown.rstrip("/") == str(self.folders[0])
        ):
            where = self.folders[0] if self.folders else self.files[0].path
            n_bytes = sum(file.size() for file in self.files)
            return {"input": _real(where), "size of the input": f"{n_bytes:,} bytes"}
        told = {
            f"input file {number:,}": f"{_real(file.path)}, {file.size():,} bytes"
            for number, file in enumerate(self.files, 1)
        }
        return {**told, "number of input files": f"{len(self.files):,}"}


Given: TypeAlias = str | Sequence[str] | Input
"""An input as callers name it: one or several files, folders or patterns, or what was found."""


def find_input(given: Given, format: str | None = None) -> Input:  # noqa: A002 (as open_source)
    """Look up the files that an input is made of; none is opened.

    Parameters
    ----------
    given : str, sequence of str or Input
        Files, folders, patterns such as ``data/**/*.csv``, URIs of such, or ``-`` alone.
    format : str, optional
        Overrides the names of files, and chooses among those of a folder.

    Raises
    ------
    ConfigurationError
        A file is there twice, or a pipe is not alone.
    InputFileError
        Nothing matches, or files are of different or unknown formats.
    """
    if isinstance(given, Input):
        return given
    arguments = [given] if isinstance(given, str) else list(given)
    if STANDARD_STREAM in arguments:
        if len(arguments) > 1:
            raise ConfigurationError(
                "standard input, -, cannot be read together with files",
                hint="give it alone, or cat all of it into one pipe",
            )
        return Input(STANDARD_STREAM)
    files: list[InputFile] = []
    folders: list[Location] = []
    for argument in arguments:
        files += _files_of(argument, format, folders)
    _require_distinct(files)
    return Input(
        _shown(arguments, files), tuple(files), _kind(arguments, files, format), tuple(folders)
    )


def is_pipe(path: Location) -> bool:
    """Whether a path is that of something that can be read only once, as of ``<(zcat x)``."""
    if isinstance(path, RemotePath):
        return False
    return path.exists() and not path.is_file() and not path.is_dir()


def _files_of(argument: str, given: str | None, folders: list[Location]) -> list[InputFile]:
    path = location(argument)
    has_magic = _MAGIC.search(argument) is not None
    with reading(argument):
        if path.is_dir():
            folders.append(path)
            return _files_in(path, path, given)
        if not has_magic or path.exists():
            return [InputFile(path)]
    root = _fixed_part(path)
    with reading(argument):
        matches = [
            (found, is_folder)
            for found, is_folder in _matches(path)
            if not any(map(_is_other, _below(root, found)[:-1]))
        ]
    matches.sort(key=lambda match: str(match[0]))
    files = [found for found, is_folder in matches if not is_folder]
    if files:
        return [InputFile(file, partition_of(_below(root, file)[:-1])) for file in files]
    folders += [found for found, _ in matches]
    inside = [file for folder, _ in matches for file in _files_in(folder, root, given)]
    if not inside:
        raise InputFileError(f"no file matches '{argument}'")
    return inside


def _fixed_part(pattern: Location) -> Location:
    """The folders of a pattern before the first that is one itself."""
    root = pattern
    while _MAGIC.search(str(root)):
        root = root.parent
    return root


def _matches(pattern: Location) -> list[tuple[Location, bool]]:
    """What a pattern matches, and whether it is a folder."""
    if isinstance(pattern, RemotePath):
        found: list[tuple[Location, bool]] = [*pattern.matches()]
        if pattern.name.startswith("."):
            return found
        # As in a shell: `*` stands for no hidden file, such as the notes of runs.
        return [match for match in found if not match[0].name.startswith(".")]
    paths = {Path(name) for name in glob.glob(str(pattern), recursive=True)}  # noqa: PTH207 (a pattern may begin at the root)
    return [(path, path.is_dir()) for path in paths]


def _below(root: Location, path: Location) -> tuple[str, ...]:
    """Names of the folders between, and of the path itself."""
    if isinstance(path, RemotePath) and isinstance(root, RemotePath):
        return path.parts_below(root)
    return Path(str(path)).relative_to(str(root)).parts


def _is_other(name: str) -> bool:
    # Spark and others leave _SUCCESS and .crc files beside the data; we leave OUTPUT.partial.
    return name.startswith(("_", ".")) or name.endswith(".partial")


def _files_in(folder: Location, root: Location, given: str | None) -> list[InputFile]:
    """Files of a folder and those below it, all of one format."""
    by_format: dict[str, list[Location]] = {}
    with reading(str(folder)):
        for path in sorted(_walk(folder), key=str):
            known = None if path.name.endswith(_BESIDE) else format_of_name(path.name)
            if known is not None and known.reader:
                by_format.setdefault(known.name, []).append(path)
    if given is not None:
        by_format = {given: by_format.get(given, [])}
    elif "parquet" in by_format:
        chosen = by_format.pop("parquet")
        _tell_of_others(folder, by_format)
        by_format = {"parquet": chosen}
    if len(by_format) > 1:
        raise InputFileError(
            f"folder '{folder}' has files of several formats: {', '.join(sorted(by_format))}",
            hint=one_by_one({name: f"{folder} --input-format {name}" for name in by_format}),
        )
    for files in by_format.values():
        if files:
            _require_all_shares(files)
            return [InputFile(file, partition_of(_below(root, file)[:-1])) for file in files]
    what = "input" if given is None else given
    raise InputFileError(f"folder '{folder}' has no {what} files")


def _tell_of_others(folder: Location, by_format: Mapping[str, Sequence[Location]]) -> None:
    others = [file for files in by_format.values() for file in files]
    if others:
        ways = {name: f"{folder} --input-format {name}" for name in (*by_format, "parquet")}
        more = f" and {len(others) - 1:,} more are" if len(others) > 1 else " is"
        warnings.warn(
            f"folder '{folder}': its Parquet files are read, '{min(map(str, others))}'{more} not "
            f"({one_by_one(ways)})",
            stacklevel=2,
        )


def _walk(folder: Location) -> Iterator[Location]:
    if isinstance(folder, RemotePath):
        for path in folder.walk():
            if not any(map(_is_other, path.parts_below(folder))):
                yield path
        return
    seen: set[str] = set()

    def fail(error: OSError) -> None:
        raise error

    for where, below, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(where)
        below[:] = [] if real in seen else [name for name in below if not _is_other(name)]
        if real not in seen:
            yield from (Path(where, name) for name in names if not _is_other(name))
        seen.add(real)


def _require_all_shares(files: Sequence[Location]) -> None:
    """Refuse what ``--shard`` wrote if not all shares are there."""
    by_folder: dict[Location, list[Share]] = {}
    for file in files:
        if (share := Share.of_name(file.stem)) is not None:
            by_folder.setdefault(file.parent, []).append(share)
    for where, found in by_folder.items():
        if any(share.number == 0 for share in found):  # of another program, which counts from 0
            continue
        for of in {share.of for share in found}:
            numbers = {share.number for share in found if share.of == of}
            missing = [number for number in range(1, of + 1) if number not in numbers]
            if missing:
                first = Share(missing[0], of).name
                raise InputFileError(
                    f"folder '{where}' has {len(numbers):,} of {of:,} shares: {first}"
                    f"{' and others are' if missing[1:] else ' is'} missing",
                    hint=f"--shard {missing[0]}/{of} makes it",
                )


def _require_distinct(files: Sequence[InputFile]) -> None:
    if len(files) < 2:
        return
    seen: set[str] = set()
    for file in files:
        if is_pipe(file.path):
            raise ConfigurationError(
                f"'{file}' is a pipe and cannot be read together with others",
                hint="cat them into one",
            )
        real = _real(file.path)
        if real in seen:
            raise ConfigurationError(f"'{file}' is given twice", hint="name it once")
        seen.add(real)


def _real(path: Location) -> str:
    return str(path) if isinstance(path, RemotePath) else os.path.realpath(path)


def _kind(arguments: Sequence[str], files: Sequence[InputFile], given: str | None) -> Format:
    first: Format | None = None
    for file in files:
        known = input_format(str(file.path), given)
        first = first or known
        if read_as(known) != read_as(first):
            raise InputFileError(
                f"'{file}' is {known.name}, and '{files[0]}' is {first.name}",
                hint=one_by_one(ways_by_format(arguments, [str(file) for file in files])),
            )
    assert first is not None  # noqa: S101 (there is at least one)
    return first


def _shown(arguments: Sequence[str], files: Sequence[InputFile]) -> str:
    if len(arguments) == 1:
        return arguments[0]
    n_more = len(files) - 1
    return f"{files[0]} and {n_more:,} more" if n_more else str(files[0])
