"""A file that is in its place only when its run has succeeded.

Until then everything lies in a folder beside it: the parts that a later run goes on with (see
:mod:`splinellm.io.journal`), and the data, the rejects and the provenance of this one. So OUTPUT is
always a complete result, and an earlier one survives a run that fails.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from splinellm.errors import OutputError
from splinellm.io.formats import is_gzipped, output_format
from splinellm.io.journal import Journal, settle
from splinellm.io.json_columns import to_json
from splinellm.io.shares import Share
from splinellm.io.standing import Standing
from splinellm.io.writers import Writer, compressed, writer_of
from splinellm.provenance import sidecar
from splinellm.table import PROVENANCE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from splinellm.io.rows import Chunk, Source

_DATA, _REJECTS, _PROVENANCE = "data", "rejects.jsonl", "provenance.json"
"""Names in the folder beside the output."""
_UNFINISHED, _REJECTED = "_partial", "_rejects"
"""Names in an output that is a folder."""


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn failures to write into one clear error that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class Places:
    """Where the files of a run go.

    Parameters
    ----------
    shown : str
        The output, as the user would name it.
    final : Path
        The complete output.
    partial : Path
        Folder in which everything is until then.
    rejects : Path
        The bad rows.
    shown_partial, shown_rejects : str
        These, as the user would name them.
    """

    shown: str
    final: Path
    partial: Path
    rejects: Path
    shown_partial: str
    shown_rejects: str

    @classmethod
    def beside(cls, path: str) -> Places:
        """Places of an output that is a file."""
        # Renaming onto a symbolic link would replace the link instead of the file behind it.
        final = Path(os.path.realpath(path))
        partial, rejects = ".partial", ".rejects.jsonl"
        return cls(
            path,
            final,
            _beside(final, partial),
            _beside(final, rejects),
            path + partial,
            path + rejects,
        )

    @classmethod
    def inside(cls, folder: str, share: Share) -> Places:
        """Places of a share of an output that is a folder.

        Readers of Parquet folders take no notice of what begins with an underscore.
        """
        partial, rejects = f"{_UNFINISHED}/{share.name}", f"{_REJECTED}/{share.name}.jsonl"
        data, root, shown = f"{share.name}.parquet", Path(os.path.realpath(folder)), Path(folder)
        return cls(
            str(shown / data),
            root / data,
            root / partial,
            root / rejects,
            str(shown / partial),
            str(shown / rejects),
        )

    def touched(self) -> tuple[Path, ...]:
        """Everything that the run may replace or remove."""
        return self.final, self.partial, self.rejects, sidecar(self.final)


def make_folder(folder: str, share: Share) -> None:
    """Make an output folder, or refuse one that holds what is not this output.

    Raises
    ------
    OutputError
        It cannot be made, or holds something else.
    """
    path = Path(folder)
    with writing(folder):
        path.mkdir(parents=True, exist_ok=True)
        found = [*path.iterdir(), *(path / _UNFINISHED).glob("*")]
    for each in sorted(found):
        if each.name in (_UNFINISHED, _REJECTED):
            continue
        other = Share.of_name(each.stem if each.suffix == ".parquet" else each.name)
        if other is None:
            raise OutputError(
                f"cannot write {folder}: it holds '{each.name}', which is none of its parts",
                hint="name a folder that is empty or does not exist yet",
            )
        if other.of != share.of:
            raise OutputError(
                f"cannot write {folder}: it holds a share of {other.of:,}, and this is one of "
                f"{share.of:,}",
                hint="name another folder",
            )


class OutputFile:
    """A file and what lies beside it: rejects, and provenance for formats without room for it.

    Parameters
    ----------
    places : Places
        Where everything goes.
    asked : mapping of str to str, optional
        Input and settings of the run.
    resume : bool
        Whether to go on with what an earlier run computed.
    force : bool
        Whether what is there is replaced even if it has more rows, or other columns.

    Attributes
    ----------
    journal : Journal
        What is computed, for a run that goes on with it.

    Raises
    ------
    OutputError
        It cannot be written.
    ResumeError
        What an earlier run left is in the way.
    """

    def __init__(
        self,
        places: Places,
        asked: Mapping[str, str] | None = None,
        *,
        resume: bool = False,
        force: bool = False,
    ) -> None:
        self.places = places
        self.n_rows = 0
        self.n_rejected = 0
        self._kind = output_format(str(places.final))
        self._writer: Writer | None = None
        self._rejects: TextIO | None = None
        shown, final = places.shown, places.final
        with writing(shown):
            if final.is_dir():
                raise OutputError(f"cannot write {shown}: it is a folder")
            self._standing = None if force else Standing.at(final, shown)
            final.parent.mkdir(parents=True, exist_ok=True)
            # All this early, to fail before the model loads.
            self.journal = Journal(places.partial, shown, asked, resume=resume)
            try:
                self._file: BinaryIO = (places.partial / _DATA).open("wb")
            except BaseException:
                self.journal.close()
                raise
        self._stream: BinaryIO = self._file

    def start(self, source: Source[Chunk], added: pa.Schema) -> None:
        """Begin the output; reads the input's columns if the format needs them."""
        with writing(self.places.shown):
            self.journal.start(added)
        columns = source.schema() if self._kind.needs_schema else None
        if self._standing is not None:
            self._standing.require_columns(columns, added)
        with writing(self.places.shown):
            for name in (_REJECTS, _PROVENANCE):
                (self.places.partial / name).unlink(missing_ok=True)
            if is_gzipped(str(self.places.final)):
                self._stream = compressed(self._file)
            self._writer = writer_of(self._kind)(self._stream, columns, added)
            provenance = (added.metadata or {}).get(PROVENANCE_KEY)
            if self._kind.needs_sidecar and provenance is not None:  # predictions have none
                (self.places.partial / _PROVENANCE).write_bytes(provenance)

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows."""
        assert self._writer is not None  # noqa: S101 (start() comes first)
        with writing(self.places.shown):
            self._writer.write(rows, added)
        self.n_rows += len(added)

    def reject(self, record: dict[str, Any]) -> None:
        """Write a bad row to the rejects file."""
        with writing(self.places.rejects):
            if self._rejects is None:
                self._rejects = (self.places.partial / _REJECTS).open("w", encoding="ascii")
            write_reject(self._rejects, record)
        self.n_rejected += 1

    def commit(self) -> None:
        """Complete all files, and give them their names; the data comes last."""
        partial, final = self.places.partial, self.places.final
        if self._standing is not None:
            self._standing.require_rows(self.n_rows)
        with writing(self.places.shown):
            self._close()
            self._put_in_place(partial / _REJECTS, self.places.rejects)
            self._put_in_place(partial / _PROVENANCE, sidecar(final))
            (partial / _DATA).replace(final)
            settle(final.parent)  # the parts are the only copy until then
            self.journal.remove()
            self._tidy()

    def abandon(self) -> None:
        """Keep the parts alone: the rest is made anew when a run goes on with them."""
        with suppress(Exception):  # the failure behind this one is the news
            self._close()
        for name in (_DATA, _REJECTS, _PROVENANCE):
            with suppress(OSError):
                (self.places.partial / name).unlink(missing_ok=True)
        self.journal.close()
        self._tidy()

    def _tidy(self) -> None:
        if self.places.partial.parent.name == _UNFINISHED:
            with suppress(OSError):  # other shares are in it
                self.places.partial.parent.rmdir()

    def _close(self) -> None:
        if self._file.closed:
            return
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

    @staticmethod
    def _put_in_place(partial: Path, final: Path) -> None:
        if partial.exists():
            final.parent.mkdir(exist_ok=True)
            settle(partial)
            partial.replace(final)
        else:  # left by an earlier run, and not true of this one
            final.unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def write_reject(file: TextIO, record: dict[str, Any]) -> None:
    """Write a bad row as a line of JSON."""
    # ASCII, so that lone surrogates, which stand for undecodable bytes, survive as escapes.
    file.write(to_json(record, ascii_only=True) + "\n")
