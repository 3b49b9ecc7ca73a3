"""One-line messages on standard error."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from splinellm.shown import shown as visible

BROKEN_PIPE = 141
"""Exit code that a shell reports of a program that SIGPIPE ended."""


def say(text: str) -> None:
    """Print one line on standard error, whatever line breaks `text` holds."""
    # A terminal may be gone (a closed SSH session); that must not hide what happened before.
    with suppress(OSError):
        print("splinellm:", visible(" ".join(text.split())), file=sys.stderr, flush=True)  # noqa: T201 (the one place)


def counted(n: int, noun: str) -> str:
    """Say a number of things: ``1 row``, ``2,000 rows``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def say_written(folder: Path) -> None:
    """Say where a classifier is, and how it is used."""
    name = shlex.quote(str(folder))
    say(f"classifier written to {folder}")
    say(
        f"use it with splinellm predict {name} INPUT -o OUTPUT, or splinellm serve --classifiers "
        f"{name}"
    )


def say_error(error: BaseException | str) -> None:
    """Print an error as one line."""
    say(f"error: {error}")


class _Lines(logging.Handler):
    """Log records as lines of ours, where nobody else, as the service does, takes care of them."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            say(record.getMessage())


def show_log_as_lines() -> None:
    """Show what the library logs, from warnings on, like everything else that is said."""
    logging.getLogger("splinellm").addHandler(_Lines(logging.WARNING))


def show_warnings_as_lines() -> None:
    """Show Python warnings as one line each, without source code, and each text once.

    Python forgets what it has shown whenever anybody changes the filters, as libraries do.
    """
    shown: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del category, filename, lineno, file, line
        text = str(message)
        if text not in shown:
            shown.add(text)
            say(f"warning: {text}")

    warnings.showwarning = show


def fill_closed_streams() -> None:
    """Give standard streams that are closed, as by ``>&-``, a descriptor that fails when used.

    Else the next file that is opened has theirs, and what somebody prints becomes part of it.
    """
    wrong_ways = {"stdin": (os.O_WRONLY, "r"), "stdout": (os.O_RDONLY, "w")}
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            way, mode = wrong_ways.get(name, (os.O_RDWR, "w"))  # of errors, nobody could be told
            descriptor = os.open(os.devnull, way)  # the lowest that is free
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def silence_stdout() -> None:
    """Point standard output to nowhere, so that Python's own flush at exit cannot fail."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
