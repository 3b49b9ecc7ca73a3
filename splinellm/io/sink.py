"""Where a run's rows go: files under temporary names until the run succeeds, or standard output.

A run that writes OUTPUT keeps everything under names that begin with ``OUTPUT.partial``. Only when
the last row is written are they renamed, so that OUTPUT is always a complete result and an earlier
one survives a run that fails.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO

import pyarrow as pa

from splinellm.errors import ConfigurationError, OutputError
from splinellm.io.formats import STANDARD_STREAM, is_gzipped, output_format
from splinellm.io.json_columns import to_json
from splinellm.io.rows import Chunk, Source
from splinellm.io.writers import WRITERS, Writer, compressed
from splinellm.provenance import Provenance, sidecar
from splinellm.table import FeatureTable


class Sink(Protocol):
    """Takes rows and rejects. Opened by :func:`open_sink`."""

    n_rows: int
    n_rejected: int

    def start(self, source: Source, provenance: Provenance) -> None:
        """Begin the output, once the model is loaded."""
        ...

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows."""
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


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn failures to write into one clear error that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


class StandardOutput:
    """JSON lines on standard output, rejects as JSON lines on standard error."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.n_rejected = 0
        self._writer: Writer | None = None

    def start(self, source: Source, provenance: Provenance) -> None:  # noqa: ARG002 (the protocol's)
        """Begin the output."""
        self._writer = WRITERS["jsonl"](sys.stdout.buffer, pa.schema([]), provenance)

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows, at once visible to the reader of the pipe."""
        assert self._writer is not None  # noqa: S101 (start comes first)
        with _writing_to_pipe():
            self._writer.write(rows, features)
            sys.stdout.buffer.flush()
        self.n_rows += len(features)

    def reject(self, record: dict[str, Any]) -> None:
        """Write a bad row to standard error."""
        self.n_rejected += 1
        _write_reject(sys.stderr, record)

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


class OutputFile:
    """A file and what lies beside it: rejects, and provenance for formats without room for it.

    Parameters
    ----------
    path : str
        Where the complete output goes.

    Attributes
    ----------
    partial : Path
        Where the output is until then.
    """

    def __init__(self, path: str) -> None:
        # Renaming onto a symbolic link would replace the link instead of the file behind it.
        self.path = Path(os.path.realpath(path))
        self.partial = _beside(self.path, ".partial")
        self.n_rows = 0
        self.n_rejected = 0
        self._shown = path
        self._kind = WRITERS[output_format(path)]
        self._writer: Writer | None = None
        self._rejects: TextIO | None = None
        self._whole_bytes = 0
        with writing(path):
            if self.path.is_dir():
                raise OutputError(f"cannot write {path}: it is a folder")
            self._file: BinaryIO = self.partial.open("wb")
            for stale in (_beside(self.partial, ".rejects.jsonl"), sidecar(self.partial)):
                stale.unlink(missing_ok=True)
        self._stream = compressed(self._file) if is_gzipped(path) else self._file

    @property
    def rejects_path(self) -> Path:
        """Where the bad rows go."""
        return _beside(self.path, ".rejects.jsonl")

    def start(self, source: Source, provenance: Provenance) -> None:
        """Begin the output; reads the input's columns if the format needs them."""
        columns = source.schema() if self._kind.needs_schema else None
        with writing(self._shown):
            self._writer = self._kind(self._stream, columns, provenance)
            if self._kind.needs_sidecar:
                sidecar(self.partial).write_text(provenance.to_json(), encoding="utf-8")
            self._note_whole_rows()

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows."""
        assert self._writer is not None  # noqa: S101 (start comes first)
        with writing(self._shown):
            self._writer.write(rows, features)
            self._note_whole_rows()
        self.n_rows += len(features)

    def reject(self, record: dict[str, Any]) -> None:
        """Write a bad row to the rejects file."""
        with writing(self.rejects_path):
            if self._rejects is None:
                path = _beside(self.partial, ".rejects.jsonl")
                self._rejects = path.open("w", encoding="ascii")
            _write_reject(self._rejects, record)
        self.n_rejected += 1

    def commit(self) -> None:
        """Complete all files, and give them their names; the data comes last."""
        with writing(self._shown):
            self._close()
            self._put_in_place(_beside(self.partial, ".rejects.jsonl"), self.rejects_path)
            self._put_in_place(sidecar(self.partial), sidecar(self.path))
            self.partial.replace(self.path)

    def abandon(self) -> None:
        """Complete the partial file, or remove it if it cannot be made readable."""
        try:
            self._close()
        except OSError:
            self._cut_to_whole_rows()
        if self.n_rows == 0:
            for path in (self.partial, sidecar(self.partial)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
            if self._stream is not self._file:
                self._stream.close()
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            # Whatever failed, no file stays open; the first error is the one to report.
            if self._rejects is not None:
                self._rejects.close()
            self._file.close()

    def _note_whole_rows(self) -> None:
        if self._kind.keeps_whole_rows and self._stream is self._file:
            self._file.flush()
            self._whole_bytes = self._file.tell()

    def _cut_to_whole_rows(self) -> None:
        if self._whole_bytes:
            with suppress(OSError):
                os.truncate(self.partial, self._whole_bytes)
                return
        self.n_rows = 0

    @staticmethod
    def _put_in_place(partial: Path, final: Path) -> None:
        if partial.exists():
            partial.replace(final)
        else:  # left by an earlier run, and not true of this one
            final.unlink(missing_ok=True)


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


def touched_by(path: Path) -> list[Path]:
    """Every file that a run with output `path` may replace or remove."""
    return [
        beside
        for base in (path, _beside(path, ".partial"))
        for beside in (base, _beside(base, ".rejects.jsonl"), sidecar(base))
    ]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _write_reject(file: TextIO, record: dict[str, Any]) -> None:
    # ASCII, so that lone surrogates, which stand for undecodable bytes, survive as escapes.
    file.write(json.dumps(json.loads(to_json(record))) + "\n")
