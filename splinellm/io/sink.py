"""Where a run's rows go: a file, or standard output."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from splinellm.errors import ConfigurationError, OutputError
from splinellm.io.finished import stamps
from splinellm.io.formats import STANDARD_STREAM, names_folder, output_format
from splinellm.io.inputs import Given, Input, find_input
from splinellm.io.output_file import OutputFile, Places, make_folder, write_reject, writing
from splinellm.io.remote import Location, RemotePath, plain_path
from splinellm.io.shares import Share
from splinellm.io.writers import Writer, writer_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from splinellm.io.journal import Journal
    from splinellm.io.rows import Chunk, Source


class Sink(Protocol):
    """Takes rows and rejects. Opened by :func:`open_sink`."""

    n_rows: int
    n_rejected: int

    @property
    def journal(self) -> Journal | None:
        """Where what is computed is kept for a run that goes on with it."""
        ...

    def start(self, source: Source[Chunk], added: pa.Schema) -> None:
        """Begin the output, once the model is loaded and the added columns are known."""
        ...

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows with their added columns."""
        ...

    def reject(self, record: dict[str, Any]) -> None:
        """Note a bad row."""
        ...

    def commit(self) -> None:
        """Complete the output and put it in place."""
        ...

    def abandon(self) -> None:
        """Keep what a later run can go on with; never raises."""
        ...


class StandardOutput:
    """JSON lines on standard output, rejects as JSON lines on standard error."""

    journal = None

    def __init__(self) -> None:
        self.n_rows = 0
        self.n_rejected = 0
        self._writer: Writer | None = None

    def start(self, source: Source[Chunk], added: pa.Schema) -> None:  # noqa: ARG002 (the protocol's)
        """Begin the output."""
        self._writer = writer_of(output_format(STANDARD_STREAM))(sys.stdout.buffer, None, added)

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows, at once visible to the reader of the pipe."""
        assert self._writer is not None  # noqa: S101 (start() comes first)
        with _writing_to_pipe():
            self._writer.write(rows, added)
            sys.stdout.buffer.flush()
        self.n_rows += len(added)

    def reject(self, record: dict[str, Any]) -> None:
        """Write a bad row to standard error."""
        self.n_rejected += 1
        write_reject(sys.stderr, record)

    def commit(self) -> None:
        """Nothing is left to do."""

    def abandon(self) -> None:
        """Nothing can be taken back."""


@contextmanager
def _writing_to_pipe() -> Iterator[None]:
    try:
        with writing("to standard output"):
            yield
    except OutputError as error:
        # `| head` has seen enough: not an error of ours, and for the command line to deal with.
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__ from None
        raise


def open_sink(
    path: str,
    given: Given,
    *,
    asked: Mapping[str, str] | None = None,
    resume: bool = False,
    share: Share | None = None,
    force: bool = False,
    kept: str | None = None,
) -> StandardOutput | OutputFile:
    """Open the output of a run.

    Parameters
    ----------
    path : str
        A file, a folder, or ``-`` for standard output.
    given : str, sequence of str or Input
        The run's input, which must survive.
    asked : mapping of str to str, optional
        Settings of the run, by the names that a message calls them.
    resume : bool
        Whether to go on with what a run that did not end has computed, if there is one.
    share : Share, optional
        Of the input that is read, if it is not all of it; goes into a folder.
    force : bool
        Whether an output that is there is replaced even if it has more rows, or other columns.
    kept : str, optional
        Which columns of the input go into the output. If this is told, a run with `resume` notes
        beside its output that it is done, so that the next one finds out.

    Raises
    ------
    ConfigurationError
        Unknown suffix, or the output would overwrite the input.
    OutputError
        The output cannot be written.
    ResumeError
        An earlier run left something that this one cannot go on with, or must not replace.
    """
    if path == STANDARD_STREAM:
        if resume:
            raise ConfigurationError("standard output cannot be gone on with", hint="name a file")
        return StandardOutput()
    path = plain_path(path)
    output_format(path)
    in_folder = names_folder(path)
    if share is not None and not in_folder:
        raise ConfigurationError(f"a share goes into a folder, not to '{path}'", hint="-o FOLDER/")
    share = share or Share()
    places = Places.inside(path, share) if in_folder else Places.beside(path)
    source = find_input(given)
    _protect(source, places)
    if in_folder:
        make_folder(path, share)
    identity = {**source.identity(), "--shard": str(share)}
    versions = None if kept is None or not resume else _versions(source, kept)
    return OutputFile(
        places, {**identity, **(asked or {})}, resume=resume, force=force, versions=versions
    )


def _versions(source: Input, kept: str) -> dict[str, str] | None:
    """What tells a run from others once it has succeeded; None if nothing does, as of a pipe."""
    if source.is_stream:
        return None
    try:
        found = stamps(file.path for file in source.files)
    except OSError:
        return None
    return {"versions of input files": found, "columns kept": kept}


def _protect(source: Input, places: Places) -> None:
    shown, target = places.shown, places.final
    for folder in source.folders:
        if isinstance(folder, RemotePath):
            lies_in = isinstance(target, RemotePath) and target.is_relative_to(folder)
        else:
            real = os.path.realpath(folder)
            lies_in = isinstance(target, Path) and target.is_relative_to(real)
        if lies_in:
            raise ConfigurationError(f"output '{shown}' lies in the input folder '{folder}'")
    require_kept(source, shown, places.touched())


def require_kept(source: Input, shown: object, touched: Sequence[Location]) -> None:
    """Refuse to write over what is read, by whatever path it is named.

    Parameters
    ----------
    source : Input
        What is read.
    shown : str or Path
        What messages call the output.
    touched : sequence of Path or RemotePath
        What writing it replaces.

    Raises
    ------
    ConfigurationError
        A file of the input is among them.
    """
    local = [path for path in touched if isinstance(path, Path) and path.exists()]
    for file in source.files:
        if isinstance(file.path, RemotePath):
            is_touched = file.path in touched
        else:
            is_touched = bool(local) and file.path.exists() and any(map(file.path.samefile, local))
        if is_touched:
            raise ConfigurationError(f"writing '{shown}' would replace the input '{file}'")
