"""Runs that are killed at any moment, and go on."""

from __future__ import annotations

import errno
import json
import random
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm.errors import ResumeError
from splinellm.io.features import FeatureAnnotator
from splinellm.io.pipeline import annotate_rows
from splinellm.io.readers import open_source
from splinellm.io.sink import open_sink
from tests.fakes import FakeExtractor, fake_provenance
from tests.io.files import run, set_chunk_rows, write_input
from tests.io.killed import CHUNK_ROWS, forked, run_slowly
from tests.io.test_writers import OUTPUTS, read_table

TEXTS = ["one", "two", "NAN", "four", "five", "", "seven", "eight", "nine", "ten"]


def uninterrupted(source: Path, suffix: str) -> Path:
    plain = source.with_name(f"plain.{suffix}")
    run(source, plain, on_error="skip", chunk_rows=CHUNK_ROWS)
    return plain


def check_same(path: Path, plain: Path) -> None:
    """All files are equal, to the byte, and nothing else is there."""
    for end in ("", ".rejects.jsonl", ".provenance.json"):
        found, expected = (p.with_name(p.name + end) for p in (path, plain))
        assert found.exists() == expected.exists()
        if found.exists():
            assert found.read_bytes() == expected.read_bytes()
    assert not path.with_name(path.name + ".partial").exists()


@pytest.mark.parametrize(
    ("suffix", "output"),
    [
        ("parquet", "parquet"),
        ("csv", "csv"),
        ("csv.gz", "csv.gz"),
        ("jsonl", "jsonl"),
        ("jsonl.gz", "jsonl.gz"),
    ],
)
def test_twenty_kills_at_random_moments(tmp_path: Path, suffix: str, output: str) -> None:
    rows = [{"id": i, "text": text * (1 + i % 3)} for i, text in enumerate(TEXTS * 4)]
    source = write_input(tmp_path / f"in.{suffix}", rows)
    plain, path = uninterrupted(source, output), source.with_name(f"out.{output}")
    chance = random.Random(f"{source.name} {output}")
    for _ in range(20):
        process = forked.Process(target=run_slowly, args=(str(source), str(path)))
        process.start()
        time.sleep(chance.uniform(0.0, 0.12))
        process.kill()
        process.join()
    run(source, path, on_error="skip", resume=True, chunk_rows=CHUNK_ROWS)
    check_same(path, plain)


@pytest.mark.parametrize("output", ["parquet", "jsonl"])
def test_kill_before_every_single_change_of_the_disk(tmp_path: Path, output: str) -> None:
    source = write_input(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS[:7]])
    plain, path = uninterrupted(source, output), tmp_path / f"out.{output}"
    for number in range(200):
        path.unlink(missing_ok=True)
        process = forked.Process(
            target=run_slowly, args=(str(source), str(path)), kwargs={"dies_at": number}
        )
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        run(source, path, on_error="skip", resume=True, chunk_rows=CHUNK_ROWS)
        check_same(path, plain)
    assert 15 < number < 199


@pytest.mark.parametrize("output", OUTPUTS)
def test_only_what_is_missing_is_computed(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    texts = ["a", "b", "c", "d", "STOP", "f"]
    source = write_input(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    path = tmp_path / f"out.{output}"
    with pytest.raises(ZeroDivisionError):
        run(source, path, FakeExtractor(raises={"STOP": ZeroDivisionError()}))
    extractor = run(source, path, resume=True)
    assert extractor.seen == ["STOP", "f"]
    np.testing.assert_array_equal(read_table(path).values, extractor.table(texts).values)


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output whose run ended in the middle, after two rows."""
    set_chunk_rows(monkeypatch, 2)
    rows = [{"text": text} for text in ("aa", "bb", "STOP", "dd")]
    source = write_input(tmp_path / "in.jsonl", rows)
    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "out.csv", FakeExtractor(raises={"STOP": ZeroDivisionError()}))
    return tmp_path / "out.csv"


def content(path: Path) -> dict[str, bytes]:
    folder = path.with_name(path.name + ".partial")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_without_resume_it_says_what_is_there_and_touches_nothing(stopped: Path) -> None:
    before = content(stopped)
    message = r"out\.csv\.partial' holds 2 rows of a run .* did not end \(--resume goes on with it"
    with pytest.raises(ResumeError, match=message):
        run(stopped.with_name("in.jsonl"), stopped)
    assert content(stopped) == before


def test_another_input_is_refused(stopped: Path) -> None:
    source, before = stopped.with_name("in.jsonl"), content(stopped)
    text = source.read_text()
    other = stopped.with_name("other.jsonl")
    other.write_text(text)
    with pytest.raises(ResumeError, match=r"input was .*in\.jsonl, now it is "):
        run(other, stopped, resume=True)
    source.write_text(text + text)
    with pytest.raises(ResumeError, match=r"size of the input was 62 bytes, now it is 124 bytes"):
        run(source, stopped, resume=True)
    source.write_text(text.replace("bb", "xx"))
    with pytest.raises(ResumeError, match=r"part 0 is of other rows than .*in\.jsonl has there"):
        run(source, stopped, resume=True)
    assert content(stopped) == before
    source.write_text(text)
    assert run(source, stopped, resume=True).seen == ["STOP", "dd"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"layers": (0, 1)}, r"layers was \[0, 2\], now it is \[0, 1\]"),
        ({"weights_sha256": "1" * 64}, "weights_sha256 was"),
        ({"attention": "eager"}, 'attention was "sdpa", now it is "eager"'),
    ],
)
def test_another_model_is_refused(stopped: Path, changes: Any, difference: str) -> None:
    before = content(stopped)
    extractor = FakeExtractor(fake_provenance(**changes))
    with pytest.raises(ResumeError, match=difference):
        run(stopped.with_name("in.jsonl"), stopped, extractor, resume=True)
    assert content(stopped) == before


def test_another_version_of_a_library_is_refused(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splinellm.io.journal.library_versions", lambda: {"torch": "9.9"})
    with pytest.raises(ResumeError, match=r"version of .* was "):
        run(stopped.with_name("in.jsonl"), stopped, resume=True)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"state_version": 2, "new": 1}, "is of a newer version: its state is 2"),
        ({"state_version": 1}, "is not readable"),
        ([], "is not readable"),
    ],
)
def test_state_that_this_version_cannot_read(stopped: Path, state: Any, message: str) -> None:
    path = stopped.with_name("out.csv.partial") / "state.json"
    path.write_text(json.dumps(state))
    before = content(stopped)
    for resume in (False, True):
        with pytest.raises(ResumeError, match=message):
            run(stopped.with_name("in.jsonl"), stopped, resume=resume)
    assert content(stopped) == before
    path.unlink()
    with pytest.raises(ResumeError, match=r"has parts of a run, but no state\.json"):
        run(stopped.with_name("in.jsonl"), stopped, resume=True)


def test_part_that_never_reached_the_disk_is_computed_again(stopped: Path) -> None:
    (part,) = stopped.with_name("out.csv.partial").glob("part-*")
    part.write_bytes(b"\0" * 100)
    extractor = run(stopped.with_name("in.jsonl"), stopped, resume=True)
    assert extractor.seen == ["aa", "bb", "STOP", "dd"]
    values = extractor.table(extractor.seen).values
    np.testing.assert_array_equal(read_table(stopped).values, values)


def test_second_run_of_one_output_is_refused(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", [{"text": "x"}])
    first = open_sink(str(tmp_path / "out.csv"), str(source))
    for resume in (False, True):
        with pytest.raises(ResumeError, match=r"another process is writing '.*out\.csv'"):
            open_sink(str(tmp_path / "out.csv"), str(source), resume=resume)
    with closing(open_source(str(source))) as rows:
        annotate_rows(rows, first, FeatureAnnotator(FakeExtractor()))
    run(source, tmp_path / "out.csv")


def test_partial_file_of_an_older_version(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", [{"text": "x"}])
    (tmp_path / "out.csv.partial").write_text("hours of work")
    with pytest.raises(ResumeError, match="is a file"):
        run(source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv.partial").read_text() == "hours of work"


def test_run_that_computed_nothing_is_not_in_the_way(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", [{"text": "STOP"}])
    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "out.csv", FakeExtractor(raises={"STOP": ZeroDivisionError()}))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    open_sink(str(tmp_path / "out.csv"), str(source)).abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    run(source, tmp_path / "out.csv", resume=True)  # nothing to go on with
    assert len(read_table(tmp_path / "out.csv")) == 1


def test_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def failing(*_given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", failing)
    source = write_input(tmp_path / "in.jsonl", [{"text": "x"}])
    with pytest.warns(UserWarning, match="the output's disk has no locks"):
        run(source, tmp_path / "out.csv")
    assert len(read_table(tmp_path / "out.csv")) == 1
