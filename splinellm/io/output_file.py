"""A file that is in its place only when its run has succeeded.

Until then everything lies in a folder beside it: the parts that a later run goes on with (see
:mod:`splinellm.io.journal`), and the data, the rejects and the provenance of this one. So OUTPUT is
always a complete result, and an earlier one survives a run that fails. At a URI, data and rejects
are on their way instead (see :mod:`splinellm.io.unfinished`), and only the parts lie there.
"""

from __future__ import annotations

import io
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from splinellm.errors import OutputError
from splinellm.io.finished import Finished, Note
from splinellm.io.formats import is_gzipped, output_format
from splinellm.io.journal import Journal, holds_parts
from splinellm.io.json_columns import to_json
from splinellm.io.remote import Location, is_uri, location
from splinellm.io.shares import Share
from splinellm.io.standing import Standing
from splinellm.io.unfinished import Unfinished, settle, unfinished
from splinellm.io.writers import Writer, compressed, writer_of
from splinellm.table import PROVENANCE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from splinellm.io.rows import Chunk, Source

_DATA, _REJECTS, _PROVENANCE = "data", "rejects.jsonl", "provenance.json"
"""Names in the folder beside the output."""
_UNFINISHED, _REJECTED, _NOTES = "_partial", "_rejects", "_done"
RUN_RECORD, RUN_LOCK = "_run.json", "_run.lock"
"""Names in an output that is a folder; for the last two, see :mod:`splinellm.io.shared_run`."""
_OURS = (_UNFINISHED, _REJECTED, _NOTES, RUN_RECORD, f"{RUN_RECORD}.tmp", RUN_LOCK)


@contextmanager
def writing(path: Location | str) -> Iterator[None]:
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
    final : Path or RemotePath
        The complete output.
    partial : Path or RemotePath
        Folder in which everything is until then.
    rejects : Path or RemotePath
        The bad rows.
    shown_partial, shown_rejects : str
        These, as the user would name them.
    note : Path or RemotePath
        What the complete output is of; see :mod:`splinellm.io.finished`.
    """

    shown: str
    final: Location
    partial: Location
    rejects: Location
    shown_partial: str
    shown_rejects: str
    note: Location

    @classmethod
    def beside(cls, path: str) -> Places:
        """Places of an output that is a file."""
        final = _real(path)
        partial, rejects = ".partial", ".rejects.jsonl"
        return cls(
            path,
            final,
            _beside(final, partial),
            _beside(final, rejects),
            path + partial,
            path + rejects,
            final.with_name(f".{final.name}.run.json"),
        )

    @classmethod
    def inside(cls, folder: str, share: Share) -> Places:
        """Places of a share of an output that is a folder.

        Readers of Parquet folders take no notice of what begins with an underscore.
        """
        partial, rejects = f"{_UNFINISHED}/{share.name}", f"{_REJECTED}/{share.name}.jsonl"
        data, root, shown = f"{share.name}.parquet", _real(folder), location(folder)
        return cls(
            str(shown / data),
            root / data,
            root / _UNFINISHED / share.name,
            root / _REJECTED / f"{share.name}.jsonl",
            str(shown / partial),
            str(shown / rejects),
            root / _NOTES / f"{share.name}.json",
        )

    @property
    def provenance(self) -> Location:
        """Where it is kept for formats without room for it."""
        return _beside(self.final, ".provenance.json")

    def touched(self) -> tuple[Location, ...]:
        """Everything that the run may replace or remove."""
        return self.final, self.partial, self.rejects, self.provenance


def make_folder(folder: str, share: Share) -> None:
    """Make an output folder, or refuse one that holds what is not this output.

    Raises
    ------
    OutputError
        It cannot be made, or holds something else.
    """
    path = location(folder)
    with writing(folder):
        path.mkdir(parents=True, exist_ok=True)
        found: list[Location] = [*path.iterdir(), *(path / _UNFINISHED).glob("*")]
    for each in sorted(found, key=str):
        if each.name in _OURS:
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


def any_parts(folder: str) -> bool:
    """Whether an output folder holds what a run that did not end has computed."""
    unfinished = location(folder) / _UNFINISHED
    return any(holds_parts(share) for share in unfinished.glob("*"))


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
    versions : mapping of str to str, optional
        What else tells this run from others once it has succeeded; without, nothing is noted.

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
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.places = places
        self.n_rows = 0
        self.n_rejected = 0
        self._kind = output_format(str(places.final))
        self._writer: Writer | None = None
        self._rejects: io.TextIOWrapper | None = None
        self._beside: dict[str, Unfinished] = {}
        self._added: pa.Schema | None = None
        self._note: Note | None = None
        if versions is not None:
            self._note = Note(places.note, places.final, {**(asked or {}), **versions})
        self._may_be_done = resume and not force
        shown, final = places.shown, places.final
        with writing(shown):
            if isinstance(final, Path) and final.is_dir():
                raise OutputError(f"cannot write {shown}: it is a folder")
            self._standing = None if force else Standing.at(final, shown)
            final.parent.mkdir(parents=True, exist_ok=True)
            # All this early, to fail before the model loads.
            self.journal = Journal(places.partial, shown, asked, resume=resume)
            try:
                self._data = unfinished(places.partial / _DATA, final)
            except BaseException:
                self.journal.close()
                raise
        self._stream: BinaryIO = self._data.file
        self._is_closed = False

    def finished(self, added: pa.Schema) -> Finished | None:
        """Look whether an earlier run has done all of this one, which goes on with what is there.

        Parameters
        ----------
        added : pa.Schema
            Columns that the run adds, and what they come from.
        """
        if self._note is None or not self._may_be_done or self.journal.n_rows:
            return None
        return self._note.read(added)

    def start(self, source: Source[Chunk], added: pa.Schema) -> None:
        """Begin the output; reads the input's columns if the format needs them."""
        self._added = added
        with writing(self.places.shown):
            self.journal.start(added)
        columns = source.schema() if self._kind.needs_schema else None
        if self._standing is not None:
            self._standing.require_columns(columns, added)
        with writing(self.places.shown):
            self._remove_partial(_REJECTS, _PROVENANCE)
            if is_gzipped(str(self.places.final)):
                self._stream = compressed(self._data.file)
            self._writer = writer_of(self._kind)(self._stream, columns, added)
            provenance = (added.metadata or {}).get(PROVENANCE_KEY)
            if self._kind.needs_sidecar and provenance is not None:  # predictions have none
                record = self._begin(_PROVENANCE, self.places.provenance)
                record.file.write(provenance)

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
                rejects = self._begin(_REJECTS, self.places.rejects)
                self._rejects = io.TextIOWrapper(rejects.file, encoding="ascii")
            write_reject(self._rejects, record)
        self.n_rejected += 1

    def commit(self) -> None:
        """Complete all files, and give them their names; the data comes last."""
        if self._standing is not None:
            self._standing.require_rows(self.n_rows)
        with writing(self.places.shown):
            self._close()
            for name, final in (
                (_REJECTS, self.places.rejects),
                (_PROVENANCE, self.places.provenance),
            ):
                if name in self._beside:
                    self._beside[name].put_in_place()
                else:  # left by an earlier run, and not true of this one
                    final.unlink(missing_ok=True)
            self._data.put_in_place()
            settle(self.places.final.parent)  # the parts are the only copy until then
            self.journal.remove()
            self._tidy()
        if self._note is not None and self._added is not None:
            self._note.write(self._added, self.n_rows, self.n_rejected)

    def abandon(self) -> None:
        """Keep the parts alone: the rest is made anew when a run goes on with them."""
        with suppress(Exception):  # the failure behind this one is the news
            self._close()
        for file in (self._data, *self._beside.values()):
            file.discard()
        self._remove_partial(_DATA, _REJECTS, _PROVENANCE)
        self.journal.close()
        self._tidy()

    def _begin(self, name: str, final: Location) -> Unfinished:
        file = self._beside[name] = unfinished(self.places.partial / name, final)
        return file

    def _remove_partial(self, *names: str) -> None:
        """Remove what a run that was killed has left."""
        if isinstance(self.places.partial, Path):
            for name in names:
                with suppress(OSError):
                    (self.places.partial / name).unlink(missing_ok=True)

    def _tidy(self) -> None:
        if self.places.partial.parent.name == _UNFINISHED:
            with suppress(OSError):  # other shares are in it
                self.places.partial.parent.rmdir()

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._writer is not None:
                self._writer.close()
            if self._stream is not self._data.file:
                self._stream.close()
            if self._rejects is not None:
                self._rejects.flush()
                self._rejects.detach()
        finally:
            # Whatever failed, no file stays open; the first error is the one to report.
            for file in (*self._beside.values(), self._data):
                file.settle()


def _real(path: str) -> Location:
    # Renaming onto a symbolic link would replace the link instead of the file behind it.
    return location(path) if is_uri(path) else Path(os.path.realpath(path))


def _beside(path: Location, suffix: str) -> Location:
    return path.with_name(path.name + suffix)


def write_reject(file: TextIO, record: dict[str, Any]) -> None:
    """Write a bad row as a line of JSON."""
    # ASCII, so that lone surrogates, which stand for undecodable bytes, survive as escapes.
    file.write(to_json(record, ascii_only=True) + "\n")
