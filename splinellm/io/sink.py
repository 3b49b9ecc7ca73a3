"""Where a run's rows go: a file, or standard output."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from splinellm.errors import ConfigurationError, OutputError
from splinellm.io.formats import STANDARD_STREAM, output_format
from splinellm.io.output_file import OutputFile, touched_by, write_reject, writing
from splinellm.io.writers import Writer, writer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from splinellm.io.rows import Chunk, Source


class Sink(Protocol):
    """Takes rows and rejects. Opened by :func:`open_sink`."""

    n_rows: int
    n_rejected: int

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
        """Keep what can be kept of a run that failed; never raises."""
        ...


class StandardOutput:
    """JSON lines on standard output, rejects as JSON lines on standard error."""

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


def open_sink(path: str, source_path: str) -> StandardOutput | OutputFile:
    """Open the output of a run.

    Parameters
    ----------
    path : str
        A file, or ``-`` for standard output.
    source_path : str
        The run's input, which must survive.

    Raises
    ------
    ConfigurationError
        Unknown suffix, or the output would overwrite the input.
    OutputError
        The output cannot be written.
    """
    if path == STANDARD_STREAM:
        return StandardOutput()
    output_format(path)
    _protect(Path(source_path), Path(path))
    return OutputFile(path)


def _protect(source: Path, output: Path) -> None:
    if str(source) == STANDARD_STREAM or not source.exists():
        return
    target = Path(os.path.realpath(output))
    if source.is_dir() and target.is_relative_to(os.path.realpath(source)):
        raise ConfigurationError(f"output '{output}' lies in the input folder '{source}'")
    for path in touched_by(target):
        if path.exists() and path.samefile(source):
            raise ConfigurationError(f"writing '{output}' would replace the input '{source}'")
