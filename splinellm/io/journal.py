"""What a run has computed so far, in a folder beside its output, for a run that goes on with it.

A part holds the columns that one chunk of rows got, and is renamed when it is whole. A run that
goes on reads its input again, takes what it finds here, computes the rest, and writes every row
anew: its output is that of a run that was never interrupted, whatever the format. ``state.json``
tells of which input and which settings the parts are.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.ipc

from splinellm.errors import ResumeError
from splinellm.io.leases import Lease
from splinellm.io.locks import Lock
from splinellm.io.rows import Problem
from splinellm.io.unfinished import write_whole
from splinellm.provenance import library_versions
from splinellm.table import PROVENANCE_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from splinellm.io.remote import Location
    from splinellm.io.rows import Chunk

STATE_VERSION = 1
_STATE, _LOCK = "state.json", "lock"
_PART = "part-"
_FACTS_KEY = b"splinellm.part"
_ATTEMPTS = 10

Added = tuple[pa.Table, dict[int, Problem]]
"""The columns that rows got, and what was wrong with those that have none."""


class Journal:
    """Parts of a run; locked while it lives, so that two runs do not write one output.

    Parameters
    ----------
    folder : Path or RemotePath
        Where they are; made if need be.
    shown : str
        The output, for messages.
    asked : mapping of str to str, optional
        Input and settings of the run, in the words of the command line.
    resume : bool
        Whether to go on with what is there.

    Attributes
    ----------
    n_recalled : int
        Rows that were taken from parts so far.

    Raises
    ------
    ResumeError
        Another run is at it, what is there is of another input, other settings or a newer version,
        or it is there and `resume` is false.
    """

    def __init__(
        self,
        folder: Location,
        shown: str,
        asked: Mapping[str, str] | None = None,
        *,
        resume: bool = False,
    ) -> None:
        self.folder = folder
        self.n_recalled = 0
        self._shown = shown
        self._asked = dict(asked or {})
        if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
            raise ResumeError(
                f"'{folder}', where the parts of a run go, is a file",
                hint="an older version left it; remove it or give it another name",
            )
        self._lock = self._locked()
        try:
            self._parts = self._found_parts()
            self._state = self._read_state()
            self._check(resume=resume)
        except BaseException:
            self._lock.release()
            raise

    def _locked(self) -> Lock | Lease:
        for attempt in range(_ATTEMPTS):
            try:
                if isinstance(self.folder, Path):
                    self.folder.mkdir(parents=True, exist_ok=True)
                return hold(self.folder / _LOCK, self._shown)
            except FileNotFoundError:  # a run that ended just now removed the folder
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    @property
    def n_rows(self) -> int:
        """Rows in the parts."""
        return sum(int(name.split(".")[1]) for name in self._parts.values())

    def _found_parts(self) -> dict[int, str]:
        for unfinished in self.folder.glob("*.tmp"):
            unfinished.unlink()
        names = [path.name for path in self.folder.glob(f"{_PART}*.arrow")]
        return {int(name.split(".")[0].removeprefix(_PART)): name for name in names}

    def _read_state(self) -> dict[str, Any] | None:
        path = self.folder / _STATE
        if not path.exists():
            if self._parts:
                raise ResumeError(
                    f"'{self.folder}' has parts of a run, but no {_STATE} that tells of which",
                    hint="remove the folder to begin anew",
                )
            return None
        try:
            state: dict[str, Any] = json.loads(path.read_bytes())
            version = int(state["state_version"])
            if version <= STATE_VERSION and not (dict(state["asked"]) and dict(state["made_by"])):
                raise ValueError("nothing is told")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ResumeError(
                f"'{path}' is not readable", hint="remove the folder to begin anew"
            ) from error
        if version > STATE_VERSION:
            raise ResumeError(
                f"'{self.folder}' is of a newer version: its state is {version}, this version's "
                f"is {STATE_VERSION}",
                hint="update splinellm, or remove the folder to begin anew",
            )
        return state

    def _check(self, *, resume: bool) -> None:
        if self._state is None:
            return
        if resume:
            self._compare(self._state["asked"], self._asked)
        elif self._parts:
            raise ResumeError(
                f"'{self.folder}' holds {self.n_rows:,} rows of a run for '{self._shown}' that did "
                "not end",
                hint="--resume goes on with it; remove the folder to begin anew",
            )
        else:
            self._state = None

    def start(self, added: pa.Schema) -> None:
        """Note what the columns come from, or compare it with what the parts come from."""
        made_by = made_by_of(added)
        if self._state is not None:
            self._compare(self._state["made_by"], made_by)
            return
        self._state = {"state_version": STATE_VERSION, "asked": self._asked, "made_by": made_by}
        self._write(_STATE, json.dumps(self._state, indent=1).encode())

    def recall(self, number: int, rows: Chunk) -> Added | None:
        """Columns that a chunk of rows got in an earlier run.

        Parameters
        ----------
        number : int
            Of the chunk.
        rows : Chunk
            Good rows of it.

        Raises
        ------
        ResumeError
            They were of other rows.
        """
        name = self._parts.get(number)
        if name is None:
            return None
        try:
            with pa.ipc.open_file(pa.BufferReader((self.folder / name).read_bytes())) as reader:
                table = reader.read_all()
            metadata = dict(table.schema.metadata)
            facts = json.loads(metadata.pop(_FACTS_KEY))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            del self._parts[number]  # power failed before it was on the disk; it is computed again
            return None
        if facts["basis"] != _digest(rows):
            raise ResumeError(
                f"cannot go on with '{self.folder}': the input is another: part {number:,} is of "
                f"other rows than {rows.source} has there",
                hint="give the input as it was, or remove the folder to begin anew",
            )
        self.n_recalled += len(table)
        problems = {int(place): Problem(*told) for place, told in facts["problems"].items()}
        return table.replace_schema_metadata(metadata or None), problems

    def remember(self, number: int, rows: Chunk, added: Added) -> None:
        """Keep the columns that a chunk of rows got."""
        table, problems = added
        told = {place: [problem.code, problem.reason] for place, problem in problems.items()}
        facts = json.dumps({"basis": _digest(rows), "problems": told})
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _FACTS_KEY: facts})
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        name = f"{_PART}{number:08d}.{len(table)}.arrow"
        self._write(name, sink.getvalue().to_pybytes())
        self._parts[number] = name

    def remove(self) -> None:
        """Remove the folder, once the output is in its place."""
        for name in self._parts.values():
            (self.folder / name).unlink(missing_ok=True)
        self._parts = {}
        # Last, for what is left of a folder without it is nobody's.
        (self.folder / _STATE).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let others have the folder, which goes if nothing was computed."""
        if not self._parts:
            with suppress(OSError):
                (self.folder / _STATE).unlink(missing_ok=True)
        self._lock.release()
        if not self._parts:
            with suppress(OSError):  # something else is in it
                self.folder.rmdir()

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self.folder / name, content)

    def _compare(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        if difference := differing(before, now):
            raise ResumeError(
                f"cannot go on with '{self.folder}': {difference}",
                hint="give it as it was, or remove the folder to begin anew",
            )


def hold(path: Location, what: str) -> Lock | Lease:
    """Keep others away from what a file or an object stands for.

    Raises
    ------
    ResumeError
        Another process holds it.
    """
    return Lock(path, what) if isinstance(path, Path) else Lease(path, what)


def holds_parts(folder: Location) -> bool:
    """Whether a folder has parts of a run."""
    return any(True for _ in folder.glob(f"{_PART}*.arrow"))


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Say the first difference between what was asked then and now."""
    for name in [*before, *(name for name in now if name not in before)]:
        was, is_now = before.get(name, "none"), now.get(name, "none")
        if was != is_now:
            return f"{name} was {_short(was)}, now it is {_short(is_now)}"
    return None


def made_by_of(added: pa.Schema) -> dict[str, str]:
    """Everything that the numbers depend on once the model is loaded, in words."""
    metadata = added.metadata or {}
    found = {f"version of {name}": version for name, version in library_versions().items()}
    record = json.loads(metadata.get(PROVENANCE_KEY, b"{}"))
    found |= {name: json.dumps(value) for name, value in record.items() if name != "libraries"}
    rest = {key: value for key, value in metadata.items() if key != PROVENANCE_KEY}
    found |= {key.decode(): value.decode("utf-8", "replace") for key, value in rest.items()}
    return {**found, "columns": ", ".join(f"{field.name}: {field.type}" for field in added)}


def _digest(rows: Chunk) -> str:
    return hashlib.sha256(rows.basis()).hexdigest()


def _short(value: str) -> str:
    return value if len(value) <= 80 else value[:77] + "..."
