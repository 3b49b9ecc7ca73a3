"""``--resume``, ``--shard`` and folders, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from splinellm.cli import loading
from tests.cli.conftest import Result
from tests.fakes import FakeExtractor, LearnableExtractor
from tests.io.files import set_chunk_rows, write_input

Cli = Callable[..., Result]
RUN = ("extract", "in.csv", "-o", "out.parquet")


@pytest.fixture
def stopped(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A run that ended after two of four rows."""
    set_chunk_rows(monkeypatch, 2)
    write_input(Path("in.csv"), [{"id": i, "text": t} for i, t in enumerate(["a", "b", "c", "d"])])
    load = loading.load_extractor

    def load_failing(**settings: object) -> FakeExtractor:
        extractor = LearnableExtractor.from_pretrained(**settings)  # type: ignore[arg-type]
        extractor.raises = {"c": KeyboardInterrupt()}
        return extractor

    monkeypatch.setattr(loading, "load_extractor", load_failing)
    assert cli(*RUN, "--layers", "0").code == 130
    monkeypatch.setattr(loading, "load_extractor", load)
    return cli


def content() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file()}


def test_goes_on_and_says_how_much_was_there(stopped: Cli, fake: list[FakeExtractor]) -> None:
    result = stopped(*RUN, "--layers", "0", "--resume")
    assert result.code == 0
    assert result.stderr == "splinellm: 4 rows written, 2 of them computed before\n"
    assert fake[-1].seen == ["c", "d"]
    assert stopped("extract", "in.csv", "-o", "plain.parquet", "--layers", "0").code == 0
    assert Path("plain.parquet").read_bytes() == Path("out.parquet").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == [
        ".out.parquet.run.json",  # for the next run with --resume
        "in.csv",
        "out.parquet",
        "plain.parquet",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "0"), "holds 2 rows of a run for 'out.parquet' that did not end (--resume"),
        (("--layers", "0-1", "--resume"), "--layers was 0, now it is 0-1"),
        (("--resume",), "--layers was 0, now it is the default"),
        (("--layers", "0", "--resume", "--batch-tokens", "9"), "--batch-tokens was the default"),
        (("--layers", "0", "--resume", "--text-column", "id"), "--text-column was text, now it"),
        (("--layers", "0", "--resume", "--granularity", "token"), "--granularity was prompt, now"),
    ],
)
def test_refused_in_one_line_before_the_model_loads(
    stopped: Cli, fake: list[FakeExtractor], options: tuple[str, ...], message: str
) -> None:
    before, n_loaded = content(), len(fake)
    result = stopped(*RUN, *options)
    assert (result.code, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr
    assert (content(), len(fake)) == (before, n_loaded)


def test_standard_output_cannot_be_gone_on_with(cli: Cli) -> None:
    Path("in.txt").write_text("a\n")
    result = cli("extract", "in.txt", "-o", "-", "--resume")
    assert result.code == 2
    assert "standard output cannot be gone on with (name a file)" in result.stderr


def test_shards_make_a_folder_that_reads_as_one_file(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    write_input(Path("in.csv"), [{"id": i, "text": "ab" * (i + 1)} for i in range(7)])
    assert cli("extract", "in.csv", "-o", "plain.parquet").code == 0
    for shard, n_rows in (("2/3", 2), ("1/3", 2), ("3/3", 3)):
        result = cli("extract", "in.csv", "-o", "out/", "--shard", shard)
        assert result.code == 0
        assert result.stderr in (f"splinellm: {n_rows} rows written\n", "")
    folder = pd.read_parquet("out")
    pd.testing.assert_frame_equal(folder, pd.read_parquet("plain.parquet"))
    # Input of the next command, as any file: whole, and in shards again.
    for options in ((), ("--shard", "1/1")):
        again = cli("extract", "out", "-o", "again/", "--columns", "id", *options)
        assert (again.code, fake[-1].seen[0]) == (0, "ab")


def test_rejects_of_a_folder_are_told_of(cli: Cli) -> None:
    Path("in.jsonl").write_text('{"text": "one"}\n{"text": ""}\n')
    result = cli("extract", "in.jsonl", "-o", "out/", "--on-error", "skip")
    assert result.code == 0
    where = "out/_rejects/part-00001-of-00001.jsonl"
    assert result.stderr == f"splinellm: 1 row written, 1 rejected, see {where}\n"
    assert json.loads(Path(where).read_text())["row"] == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("-o", "out.parquet", "--shard", "1/2"), 2, "--shard writes into a folder"),
        (("-o", "-", "--shard", "1/2"), 2, "--shard writes into a folder"),
        (("-o", "out/", "--shard", "3/2"), 2, "'3/2' is no share"),
        (("-o", "out/", "--shard", "0/2"), 2, "'0/2' is no share"),
        (("-o", "full/"), 1, "it holds 'thesis.doc', which is none of its parts"),
        (("-o", "in.txt/out/"), 1, "cannot write in.txt/out/: "),
    ],
)
def test_shards_and_folders_that_cannot_be(
    cli: Cli, fake: list[FakeExtractor], options: tuple[str, ...], code: int, message: str
) -> None:
    Path("in.txt").write_text("a\nb\n")
    Path("full").mkdir()
    Path("full/thesis.doc").touch()
    result = cli("extract", "in.txt", *options)
    assert (result.code, result.stderr.count("\n")) == (code, 1)
    assert message in result.stderr
    assert not fake
    assert sorted(str(path) for path in Path().rglob("*")) == ["full", "full/thesis.doc", "in.txt"]


def test_unfinished_folder_is_no_input(cli: Cli) -> None:
    Path("in.txt").write_text("a\nb\n")
    assert cli("extract", "in.txt", "-o", "out/", "--shard", "2/2").code == 0
    result = cli("extract", "out", "-o", "again.csv")
    assert result.code == 1
    assert "has 1 of 2 shares: part-00001-of-00002 is missing (--shard 1/2" in result.stderr


def test_several_files_patterns_and_folders_are_one_input(
    cli: Cli, fake: list[FakeExtractor]
) -> None:
    for name in ("d/lang=en/b", "d/lang=de/a", "c"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_input(Path(f"{name}.csv"), [{"text": name, "n": 1}])
    assert cli("extract", "c.csv", "d/*/b.csv", "-o", "out.parquet", "--columns", "n").code == 0
    assert fake[-1].seen == ["c", "d/lang=en/b"]
    assert cli("extract", "d", "-o", "out/", "--shard", "1/1").code == 0
    assert fake[-1].seen == ["d/lang=de/a", "d/lang=en/b"]
    assert pd.read_parquet("out")[["lang", "n"]].to_dict("list") == {
        "lang": ["de", "en"],
        "n": [1, 1],
    }


@pytest.mark.parametrize(
    ("inputs", "code", "message"),
    [
        (("-", "in.csv"), 2, "standard input, -, cannot be read together with files"),
        (("in.csv", "in.csv"), 2, "'in.csv' is given twice"),
        (("in.csv", "other.csv"), 1, "'other.csv' does not have the columns of 'in.csv'"),
        (("no/*.csv",), 1, "no file matches 'no/*.csv'"),
    ],
)
def test_inputs_that_cannot_be_read_together(
    cli: Cli, fake: list[FakeExtractor], inputs: tuple[str, ...], code: int, message: str
) -> None:
    write_input(Path("in.csv"), [{"text": "a"}])
    write_input(Path("other.csv"), [{"text": "a", "more": 1}])
    result = cli("extract", *inputs, "-o", "out.csv")
    assert (result.code, result.stderr.count("\n")) == (code, 1)
    assert message in result.stderr
    assert not fake
    assert not Path("out.csv").exists()


DONE = "splinellm: already done: 4 rows in out.parquet; nothing to compute\n"


def test_what_is_done_is_not_done_again(cli: Cli, fake: list[FakeExtractor]) -> None:
    write_input(Path("in.csv"), [{"id": i, "text": t} for i, t in enumerate(["a", "b", "c", "d"])])
    assert cli(*RUN, "--layers", "0").code == 0
    assert not list(Path().glob(".*"))  # nobody asked for a run that can be gone on with
    assert cli(*RUN, "--layers", "0", "--resume").stderr == "splinellm: 4 rows written\n"
    before, times = content(), Path("out.parquet").stat().st_mtime_ns
    result = cli(*RUN, "--layers", "0", "--resume")
    assert (result.code, result.stderr) == (0, DONE)
    assert (fake[-1].seen, content()) == ([], before)
    assert Path("out.parquet").stat().st_mtime_ns == times
    assert cli(*RUN, "--layers", "0").stderr == "splinellm: 4 rows written\n"  # as it was asked
    assert cli(*RUN, "--layers", "0", "--resume", "--force").stderr.endswith("4 rows written\n")
    assert cli(*RUN, "--layers", "0", "--resume", "-q").stderr == ""


def test_what_is_done_of_something_else_is_done_again(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": i, "text": t} for i, t in enumerate(["a", "b", "c", "d"])]
    write_input(Path("in.csv"), rows)
    run = (*RUN, "--layers", "0", "--resume")

    def is_done() -> bool:
        result = cli(*run)
        assert result.code == 0, result.stderr
        return result.stderr == DONE

    assert [is_done(), is_done()] == [False, True]
    write_input(Path("in.csv"), [*rows[:3], {"id": 3, "text": "e"}])  # of the same size
    assert [is_done(), fake[-1].seen[-1]] == [False, "e"]
    assert is_done()
    Path("out.parquet").write_bytes(Path("out.parquet").read_bytes())  # by somebody else
    assert [is_done(), is_done()] == [False, True]
    Path("out.parquet").unlink()
    assert [is_done(), is_done()] == [False, True]
    run = (*run[:-3], "--layers", "1", "--resume", "--force")
    assert not is_done()
    run = (*run[:-1],)
    assert is_done()
    run = (*run, "--columns", "id")  # nobody looks whether these are all
    assert [is_done(), is_done()] == [False, True]
    versions = {"numpy": "1"}
    monkeypatch.setattr("splinellm.io.journal.library_versions", lambda: versions)
    assert [is_done(), is_done()] == [False, True]


def test_what_is_done_of_a_folder(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    write_input(Path("in.jsonl"), [{"text": "ab" * i} for i in range(7)])  # the first is empty
    for _ in range(2):
        for shard in ("2/2", "1/2"):
            run = ("extract", "in.jsonl", "-o", "out/", "--shard", shard, "--resume")
            result = cli(*run, "--on-error", "skip")
            assert result.code == 0
    where = "out/part-00001-of-00002.parquet"
    rejects = "out/_rejects/part-00001-of-00002.jsonl"
    told = f"already done: 3 rows in {where}, 1 rejected, see {rejects}; nothing to compute"
    assert result.stderr == f"splinellm: {told}\n"
    assert [one.seen for one in fake[-2:]] == [[], []]
    assert cli(*run).code == 1  # the bad row ends it
    assert len(pd.read_parquet("out")) == 6
    again = cli("extract", "out", "-o", "again.parquet", "--columns", "text")
    assert (again.code, again.stderr) == (0, "splinellm: 6 rows written\n")


def test_a_pipe_is_never_known_again(cli: Cli, fake: list[FakeExtractor]) -> None:
    for _ in range(2):
        result = cli("extract", "-", "-o", "out.parquet", "--resume", stdin=b"a\nb\n")
        assert (result.code, result.stderr) == (0, "splinellm: 2 rows written\n")
