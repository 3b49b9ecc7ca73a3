"""A file written under temporary names until its run succeeds.

A run that writes OUTPUT keeps everything under names that begin with ``OUTPUT.partial``. Only when
the last row is written are they renamed, so that OUTPUT is always a complete result and an earlier
one survives a run that fails.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from splinellm.errors import OutputError
from splinellm.io.formats import is_gzipped, output_format
from splinellm.io.json_columns import to_json
from splinellm.io.writers import Writer, compressed, writer_of
from splinellm.provenance import sidecar
from splinellm.table import PROVENANCE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from splinellm.io.rows import Chunk, Source


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn failures to write into one clear error that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


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
        self._kind = output_format(path)
        self._writer: Writer | None = None
        self._rejects: TextIO | None = None
        self._whole_bytes = 0
        self._is_broken = False
        with writing(path):
            if self.path.is_dir():
                raise OutputError(f"cannot write {path}: it is a folder")
            if not self.path.parent.exists():
                raise OutputError(
                    f"cannot write {path}: there is no such folder", hint="make the folder first"
                )
            # Opened early, to fail before the model loads; emptied late, when rows are to come.
            self._file: BinaryIO = open(self.partial, "wb", opener=_open_without_emptying)  # noqa: SIM115 (abandon() and commit() close it)
        self._stream: BinaryIO = self._file

    @property
    def rejects_path(self) -> Path:
        """Where the bad rows go."""
        return _beside(self.path, ".rejects.jsonl")

    def start(self, source: Source[Chunk], added: pa.Schema) -> None:
        """Begin the output; reads the input's columns if the format needs them."""
        columns = source.schema() if self._kind.needs_schema else None
        with writing(self._shown):
            if os.fstat(self._file.fileno()).st_size:
                self._keep_earlier_rows()
            for stale in (_beside(self.partial, ".rejects.jsonl"), sidecar(self.partial)):
                stale.unlink(missing_ok=True)
            if is_gzipped(self._shown):
                self._stream = compressed(self._file)
            self._writer = writer_of(self._kind)(self._stream, columns, added)
            provenance = (added.metadata or {}).get(PROVENANCE_KEY)
            if self._kind.needs_sidecar and provenance is not None:  # predictions have none
                sidecar(self.partial).write_bytes(provenance)
            self._note_whole_rows()

    def _keep_earlier_rows(self) -> None:
        """Give what a run left that did not end another name, with what lies beside it."""
        kept = next(
            path
            for number in count(1)
            if not (path := _beside(self.partial, f".{number}")).exists()
        )
        for of_partial, of_kept in zip(
            _with_company(self.partial), _with_company(kept), strict=True
        ):
            if of_partial.exists():
                of_partial.rename(of_kept)
        self._file.close()
        self._file = open(self.partial, "wb")  # noqa: SIM115 (abandon() and commit() close it)
        self._stream = self._file
        warnings.warn(
            f"{self._shown}.partial of an earlier run that did not end is kept as {kept.name}",
            stacklevel=2,
        )

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows."""
        assert self._writer is not None  # noqa: S101 (start() comes first)
        with writing(self._shown), _uninterrupted():
            try:
                self._writer.write(rows, added)
                self._note_whole_rows()
            except OSError:
                self._is_broken = True
                raise
            self.n_rows += len(added)

    def reject(self, record: dict[str, Any]) -> None:
        """Write a bad row to the rejects file."""
        with writing(self.rejects_path):
            if self._rejects is None:
                path = _beside(self.partial, ".rejects.jsonl")
                self._rejects = path.open("w", encoding="ascii")
            write_reject(self._rejects, record)
        self.n_rejected += 1

    def commit(self) -> None:
        """Complete all files, and give them their names; the data comes last."""
        with writing(self._shown), _uninterrupted():
            self._close()
            self._put_in_place(_beside(self.partial, ".rejects.jsonl"), self.rejects_path)
            self._put_in_place(sidecar(self.partial), sidecar(self.path))
            self.partial.replace(self.path)

    def abandon(self) -> None:
        """Complete the partial file, or cut or remove it if it cannot be made readable."""
        with suppress(Exception), _uninterrupted():  # the failure behind this one is the news
            if not self._file.closed:
                self._close()
        if self._is_broken:
            self._cut_to_whole_rows()
        if self._writer is None:  # the run never began: what an earlier one left is not ours
            with suppress(OSError):
                if self.partial.stat().st_size == 0:
                    self.partial.unlink()
        elif self.n_rows == 0:
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
        except BaseException:
            self._is_broken = True
            raise
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


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until a write is whole: half a row group would cost the entire file."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def touched_by(path: Path) -> list[Path]:
    """Every file that a run with output `path` may replace or remove."""
    return [*_with_company(path), *_with_company(_beside(path, ".partial"))]


def _with_company(path: Path) -> tuple[Path, ...]:
    return path, _beside(path, ".rejects.jsonl"), sidecar(path)


def _open_without_emptying(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def write_reject(file: TextIO, record: dict[str, Any]) -> None:
    """Write a bad row as a line of JSON."""
    # ASCII, so that lone surrogates, which stand for undecodable bytes, survive as escapes.
    file.write(to_json(record, ascii_only=True) + "\n")
