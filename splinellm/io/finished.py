"""What a run that succeeded was of, in a note beside its output: it need not be done again.

The note tells input, settings and what the numbers come from, in the words of
:mod:`splinellm.io.journal`, and which version of which files these were: size and time of change on
a disk, what the store says of an object. If anything differs, it says nothing.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from splinellm.io.journal import made_by_of
from splinellm.io.remote import stamp_of
from splinellm.io.unfinished import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from splinellm.io.remote import Location

NOTE_VERSION = 1


@dataclass(frozen=True)
class Finished:
    """A run that succeeded.

    Parameters
    ----------
    n_rows, n_rejected : int
        Rows written, and bad rows.
    """

    n_rows: int
    n_rejected: int


def stamps(paths: Iterable[Location]) -> str:
    """Digest of which versions of files there are, in their order."""
    told = "\n".join(f"{path}: {stamp_of(path)}" for path in paths)
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Note:
    """The note of an output.

    Parameters
    ----------
    path : Path or RemotePath
        Where it is, or will be.
    output : Path or RemotePath
        What it tells of.
    asked : mapping of str to str
        Input, its versions and all settings.
    """

    path: Location
    output: Location
    asked: Mapping[str, str]

    def read(self, added: pa.Schema) -> Finished | None:
        """Look whether the output is what the run would make.

        Parameters
        ----------
        added : pa.Schema
            Columns that it adds, and what they come from.
        """
        try:
            told: dict[str, Any] = json.loads(self.path.read_bytes())
            found = Finished(int(told.pop("n_rows")), int(told.pop("n_rejected")))
            same = told == json.loads(json.dumps(self._told(added)))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return found if same else None

    def write(self, added: pa.Schema, n_rows: int, n_rejected: int) -> None:
        """Tell of the output, which is in its place; without a note it is made anew, no more."""
        with suppress(OSError):
            told = {**self._told(added), "n_rows": n_rows, "n_rejected": n_rejected}
            self.path.parent.mkdir(exist_ok=True)
            write_whole(self.path, json.dumps(told, indent=1).encode())

    def _told(self, added: pa.Schema) -> dict[str, Any]:
        return {
            "note_version": NOTE_VERSION,
            "output": stamp_of(self.output),
            "asked": dict(self.asked),
            "made_by": made_by_of(added),
        }
