"""Runs in processes of their own, to be killed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from splinellm.errors import OutputError
from splinellm.io.features import FeatureAnnotator
from splinellm.io.pipeline import annotate_rows
from splinellm.io.readers import open_source
from splinellm.io.remote import RemotePath
from splinellm.io.shares import Share
from splinellm.io.sink import open_sink
from tests.fakes import FakeExtractor

CHUNK_ROWS = 3

forked = multiprocessing.get_context("forkserver")
"""Makes processes in no time, from one that has imported everything and started no thread."""
forked.set_forkserver_preload([__name__])


class SlowExtractor(FakeExtractor):
    """Takes a moment for a batch, as models do."""

    def extract_valid(self, *given: Any, **options: Any) -> Any:
        time.sleep(0.002)
        return super().extract_valid(*given, **options)


def run_slowly(
    source: str,
    output: str,
    *,
    dies_at: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Go on with a run, up to its end, or to a change of the disk that is the last one."""
    os.environ.update(environment or {})
    if dies_at is not None:
        _die_before_change(dies_at)
    with closing(open_source(source, chunk_rows=CHUNK_ROWS)) as rows:
        sink = open_sink(output, source, resume=True)
        annotate_rows(rows, sink, FeatureAnnotator(SlowExtractor()), on_error="skip")


def run_with_little_room(source: str, output: str, n_bytes: int) -> None:
    """The same where no file can have more bytes; ends with 7 if that is told of in one line."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
    try:
        run_slowly(source, output)
    except OutputError as error:
        os._exit(7 if "File too large" in str(error) and "\n" not in str(error) else 8)


def share_slowly(
    source: str, output: str, number: int, of: int, *, dies_at: int | None = None
) -> None:
    """The same of a share."""
    if dies_at is not None:
        _die_before_change(dies_at)
    share = Share(number, of)
    with closing(open_source(source, chunk_rows=CHUNK_ROWS, share=share)) as rows:
        sink = open_sink(output, source, resume=True, share=share)
        annotate_rows(rows, sink, FeatureAnnotator(SlowExtractor()), on_error="skip")


def _die_before_change(number: int) -> None:
    """Kill this process before it renames, removes or opens something for the n-th time."""
    left = number

    def counting(change: Any) -> Any:
        def changed(*given: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*given, **options)

        return changed

    for name in ("replace", "unlink", "rmdir", "mkdir", "open", "write_bytes"):
        setattr(Path, name, counting(getattr(Path, name)))
    for name in ("unlink", "write_bytes", "create"):
        setattr(RemotePath, name, counting(getattr(RemotePath, name)))
