"""A disk that is full in the middle of a run, and has room again later."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from splinellm.errors import OutputError
from tests.io.files import run, write_input
from tests.io.killed import CHUNK_ROWS, forked, run_with_little_room
from tests.io.test_journal import TEXTS, check_same, uninterrupted

OUTPUTS = ["parquet", "csv", "csv.gz", "jsonl", "jsonl.gz"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_room_for_another_file(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_input(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS[:7]])
    plain, path = uninterrupted(source, output), tmp_path / f"out.{output}"
    opened = Path.open
    for number in range(50):
        path.unlink(missing_ok=True)
        left = number

        def opening(self: Path, mode: str = "r", *given: Any, **options: Any) -> Any:
            nonlocal left
            if "w" in mode:
                left -= 1
                if left < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
            return opened(self, mode, *given, **options)

        with monkeypatch.context() as full:
            full.setattr(Path, "open", opening)
            told = None
            try:
                run(source, path, on_error="skip", chunk_rows=CHUNK_ROWS)
            except OutputError as error:
                told = str(error)
        if told is None:
            break
        assert ("No space left on device" in told, told.count("\n")) == (True, 0)
        assert not path.exists()
        run(source, path, on_error="skip", resume=True, chunk_rows=CHUNK_ROWS)
        check_same(path, plain)
    assert 4 < number < 49


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_room_for_more_of_a_file(tmp_path: Path, output: str) -> None:
    pytest.importorskip("resource", reason="the system does not limit the size of files")
    rows = [{"id": i, "text": f"{i} {text}" * 3} for i, text in enumerate(TEXTS * 3)]
    source = write_input(tmp_path / "in.csv", rows)
    plain, path = uninterrupted(source, output), tmp_path / f"out.{output}"
    n_failed = 0
    for n_bytes in (700, plain.stat().st_size // 2, plain.stat().st_size - 1):
        process = forked.Process(
            target=run_with_little_room, args=(str(source), str(path), n_bytes)
        )
        process.start()
        process.join()
        assert process.exitcode in (0, 7)
        n_failed += process.exitcode == 7
        assert path.exists() == (process.exitcode == 0)
    assert n_failed > 1
    run(source, path, on_error="skip", resume=True, chunk_rows=CHUNK_ROWS)
    check_same(path, plain)
