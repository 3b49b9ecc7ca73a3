"""The record of a run whose shares several processes do."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm.errors import InUseError, OutputError, ResumeError
from splinellm.io.shared_run import SharedRun
from splinellm.io.shares import Share

ASKED = {"--layers": "0"}


@pytest.fixture
def given(tmp_path: Path) -> str:
    path = tmp_path / "in.csv"
    path.write_text("text\nHello.\n")
    return str(path)


@pytest.fixture
def output(tmp_path: Path) -> str:
    return f"{tmp_path}/out/"


def finish(output: str, run: SharedRun, share: Share, n_rows: int = 10) -> None:
    pq.write_table(pa.table({"text": ["x"]}), Path(output) / f"{share.name}.parquet")
    run.note(share, n_rows, 1)


def test_a_run_goes_on_with_what_is_missing(given: str, output: str) -> None:
    with SharedRun(output, given, ASKED, 3) as run:
        assert [str(share) for share in run.missing()] == ["1/3", "2/3", "3/3"]
        run.require_made_by({"model": "a"})
        finish(output, run, Share(2, 3))
    with SharedRun(output, given, ASKED, 8, resume=True) as run:
        assert run.n_shares == 3
        assert [str(share) for share in run.missing()] == ["1/3", "3/3"]
        assert (run.n_rows, run.n_rejected, run.n_done) == (10, 1, 1)
        with pytest.raises(ResumeError, match="model was a, now it is b"):
            run.require_made_by({"model": "b"})


def test_a_file_that_was_removed_is_made_anew(given: str, output: str) -> None:
    with SharedRun(output, given, ASKED, 2) as run:
        finish(output, run, Share(1, 2))
        finish(output, run, Share(2, 2))
    (Path(output) / "part-00002-of-00002.parquet").unlink()
    with SharedRun(output, given, ASKED, 2, resume=True) as run:
        assert [str(share) for share in run.missing()] == ["2/2"]
        assert run.n_rows == 10


def test_a_run_that_ended_is_done_anew(given: str, output: str) -> None:
    with SharedRun(output, given, ASKED, 2) as run:
        finish(output, run, Share(1, 2))
        finish(output, run, Share(2, 2))
    with SharedRun(output, given, {"--layers": "1"}, 5) as run:
        assert len(run.missing()) == 2
        finish(output, run, Share(1, 2))
    with pytest.raises(ResumeError, match=r"1 of 2 shares of a run that did not end .*--resume"):
        SharedRun(output, given, {"--layers": "1"}, 2)
    with SharedRun(output, given, {"--layers": "1"}, 2, resume=True) as run:
        # That of the run before, which had other settings, is none of this one's.
        assert [str(share) for share in run.missing()] == ["2/2"]


def test_shares_of_others_say_how_many_there_are(given: str, output: str) -> None:
    Path(output).mkdir()
    pq.write_table(pa.table({"text": ["x"]}), Path(output) / "part-00003-of-00004.parquet")
    with SharedRun(output, given, ASKED, 9) as run:
        assert len(run.missing()) == 4


def test_what_differs_is_named(given: str, output: str) -> None:
    with SharedRun(output, given, ASKED, 2) as run:
        finish(output, run, Share(1, 2))
    with pytest.raises(ResumeError, match="--layers was 0, now it is 1"):
        SharedRun(output, given, {"--layers": "1"}, 2, resume=True)
    Path(given).write_text("text\nHello, you.\n")
    with pytest.raises(ResumeError, match="size of the input was 12 bytes, now it is 17 bytes"):
        SharedRun(output, given, ASKED, 2, resume=True)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{", "not readable"),
        ('{"record_version": 1}', "not readable"),
        (
            '{"record_version": 1, "asked": {}, "made_by": {}, "shares": 2, "done": 3}',
            "not readable",
        ),
        ('{"record_version": 2}', "newer version"),
    ],
)
def test_records_of_others(given: str, output: str, record: str, reason: str) -> None:
    Path(output).mkdir()
    (Path(output) / "_run.json").write_text(record)
    with pytest.raises(ResumeError, match=reason):
        SharedRun(output, given, ASKED, 2, resume=True)
    assert (Path(output) / "_run.json").read_text() == record


def test_two_runs_at_once(given: str, output: str) -> None:
    with SharedRun(output, given, ASKED, 2), pytest.raises(InUseError, match="another process"):
        SharedRun(output, given, ASKED, 2, resume=True)


def test_a_run_that_did_nothing_leaves_nothing(given: str, output: str) -> None:
    with SharedRun(output, given, ASKED, 2):
        assert (Path(output) / "_run.json").exists()
    assert not Path(output).exists()


def test_a_folder_of_something_else(given: str, output: str) -> None:
    Path(output).mkdir()
    (Path(output) / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'thesis\.txt'"):
        SharedRun(output, given, ASKED, 2)
    assert [path.name for path in Path(output).iterdir()] == ["thesis.txt"]
