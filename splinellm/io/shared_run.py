"""A run whose shares are done by several processes: who does what is told, and what is done.

``_run.json`` in the output folder has input and settings, how many shares there are, which are
done, and what their numbers come from. It stays there, as the provenance beside the files.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from splinellm.errors import ResumeError
from splinellm.io.inputs import find_input
from splinellm.io.journal import differing, hold
from splinellm.io.output_file import (
    RUN_LOCK,
    RUN_RECORD,
    Places,
    any_parts,
    make_folder,
    writing,
)
from splinellm.io.remote import location, plain_path
from splinellm.io.shares import Share
from splinellm.io.unfinished import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from splinellm.io.inputs import Given

RECORD_VERSION = 1


class SharedRun:
    """The record of a run in an output folder; locked while it is open.

    Parameters
    ----------
    output : str
        The folder, ending in ``/``; made if need be.
    given : str, sequence of str or Input
        What is read.
    asked : mapping of str to str
        Settings of the run, by the names that a message calls them.
    n_shares : int
        How many there are to be. A folder that has shares keeps their number.
    resume : bool
        Whether to go on with a run that did not end.

    Attributes
    ----------
    n_shares : int

    Raises
    ------
    ResumeError
        Another run is at it; or there is one that did not end and `resume` is false, or that is of
        another input, other settings or a newer version.
    OutputError
        The folder holds something else.
    """

    def __init__(
        self,
        output: str,
        given: Given,
        asked: Mapping[str, str],
        n_shares: int,
        *,
        resume: bool = False,
    ) -> None:
        self._shown = plain_path(output)
        self._folder = location(self._shown)
        told = {**find_input(given).identity(), **asked}
        with writing(self._shown):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = hold(self._folder / RUN_LOCK, self._shown)
        try:
            record = self._read()
            self._check(record, told, resume=resume)
            before = record if record and resume else {"done": {}, "made_by": {}}
            self.n_shares = int(record["shares"]) if record else self._there() or n_shares
            make_folder(self._shown, Share(1, self.n_shares))
            self._record: dict[str, Any] = {
                "record_version": RECORD_VERSION,
                "asked": told,
                "shares": self.n_shares,
                "done": before["done"],
                "made_by": before["made_by"],
            }
            self._write()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.has_results:  # as if it had never been asked for
            with suppress(OSError):
                (self._folder / RUN_RECORD).unlink(missing_ok=True)
        self._lock.release()
        if not self.has_results:
            with suppress(OSError):  # something is in it
                self._folder.rmdir()

    @property
    def has_results(self) -> bool:
        """Whether there is something that a run can go on with."""
        return bool(self._record["done"]) or any_parts(self._shown)

    @property
    def n_rows(self) -> int:
        """Rows of the shares that are done."""
        return sum(n_rows for n_rows, _ in self._record["done"].values())

    @property
    def n_rejected(self) -> int:
        """Bad rows of the shares that are done."""
        return sum(n_rejected for _, n_rejected in self._record["done"].values())

    @property
    def n_done(self) -> int:
        """Shares that are done."""
        return len(self._record["done"])

    def missing(self) -> list[Share]:
        """Shares that are not done, in order; a file that somebody removed is made anew."""
        shares = [Share(number, self.n_shares) for number in range(1, self.n_shares + 1)]
        for share in shares:
            if not Places.inside(self._shown, share).final.exists():
                self._record["done"].pop(str(share.number), None)
        return [share for share in shares if str(share.number) not in self._record["done"]]

    def require_made_by(self, made_by: Mapping[str, str]) -> None:
        """Note what numbers come from, or compare it with what is noted.

        Raises
        ------
        ResumeError
            Names the first difference.
        """
        if not self._record["made_by"]:
            self._record["made_by"] = dict(made_by)
            self._write()
        self._compare(self._record["made_by"], made_by)

    def note(self, share: Share, n_rows: int, n_rejected: int) -> None:
        """Note that a share is done."""
        self._record["done"][str(share.number)] = [n_rows, n_rejected]
        self._write()

    def _read(self) -> dict[str, Any] | None:
        path = self._folder / RUN_RECORD
        if not path.exists():
            return None
        try:
            record: dict[str, Any] = json.loads(path.read_bytes())
            version = int(record["record_version"])
            if version <= RECORD_VERSION:
                dict(record["asked"]), dict(record["made_by"]), int(record["shares"])
                for number, (n_rows, n_rejected) in record["done"].items():
                    int(number), int(n_rows), int(n_rejected)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ResumeError(
                f"'{self._shown}/{RUN_RECORD}' is not readable",
                hint="remove the folder to begin anew",
            ) from error
        if version > RECORD_VERSION:
            raise ResumeError(
                f"'{self._shown}' is of a newer version: its record is {version}, this version's "
                f"is {RECORD_VERSION}",
                hint="update splinellm, or name another folder",
            )
        return record

    def _check(
        self, record: Mapping[str, Any] | None, told: Mapping[str, str], *, resume: bool
    ) -> None:
        if record is None:
            return
        if resume:
            self._compare(record["asked"], told)
        elif 0 < len(record["done"]) < record["shares"]:
            raise ResumeError(
                f"'{self._shown}' holds {len(record['done'])} of {record['shares']} shares of a "
                "run that did not end",
                hint="--resume goes on with it; remove the folder to begin anew",
            )

    def _there(self) -> int | None:
        """How many shares there are to be, as the names of others in the folder say."""
        for path in self._folder.iterdir():
            share = Share.of_name(path.stem) if path.suffix == ".parquet" else None
            if share is not None:
                return share.of
        return None

    def _compare(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        if difference := differing(before, now):
            raise ResumeError(
                f"cannot go on with '{self._shown}': {difference}",
                hint="give it as it was, or name another folder",
            )

    def _write(self) -> None:
        with writing(self._shown):
            write_whole(self._folder / RUN_RECORD, json.dumps(self._record, indent=1).encode())
