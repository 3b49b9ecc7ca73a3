"""The progress bar: rows, tokens and time left, on standard error if that is a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from splinellm.io.pipeline import Listener


class Read(Protocol):
    """What says how far an input was read, as sources do."""

    @property
    def n_read(self) -> int:
        """Rows that were read."""
        ...

    def progress(self) -> float | None:
        """Share of the input that was read."""
        ...


@contextmanager
def progress_bar(source: Read, *, quiet: bool) -> Iterator[Listener | None]:
    """Show a bar while the block runs.

    Parameters
    ----------
    source : Read
        Says how far it was read.
    quiet : bool
        Show nothing.

    Yields
    ------
    callable or None
        To be told prompts and tokens as they are done.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with _rich_progress() as progress:
        yield _Bar(progress, source)


@dataclass(frozen=True)
class AllRead:
    """Stands for a source whose rows are all in memory.

    Parameters
    ----------
    n_read : int
        Number of rows.
    """

    n_read: int

    def progress(self) -> float:
        """Share of the input that was read."""
        return 1.0


def _rich_progress() -> Progress:
    from rich.console import Console  # slow to import, and often not needed
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.fields[rows]} rows, {task.fields[tokens]} tokens"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]} tokens/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Bar:
    """Turns prompts and tokens done into a share of the input."""

    def __init__(self, progress: Progress, source: Read) -> None:
        self._progress = progress
        self._source = source
        self._rows = 0
        self._tokens = 0
        self._begin_s = time.monotonic()
        self._task = progress.add_task("", total=None, rows="0", tokens="0", speed="-")

    def __call__(self, prompts: int, tokens: int) -> None:
        self._rows += prompts
        self._tokens += tokens
        elapsed_s = max(1e-3, time.monotonic() - self._begin_s)
        share = self._source.progress()
        if share is not None:  # what was read, less what was read and still waits to be done
            share *= min(1.0, self._rows / max(1, self._source.n_read))
        self._progress.update(
            self._task,
            completed=share or 0,
            total=None if share is None else 1.0,
            rows=f"{self._rows:,}",
            tokens=f"{self._tokens:,}",
            speed=f"{self._tokens / elapsed_s:,.0f}",
        )
