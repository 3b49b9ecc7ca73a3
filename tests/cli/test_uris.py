"""URIs as a user meets them, without a network; S3 itself is in tests/io/test_s3.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from tests.cli.conftest import Result
from tests.fakes import FakeExtractor
from tests.io.files import write_input

Cli = Callable[..., Result]


@pytest.fixture
def memory() -> fsspec.AbstractFileSystem:
    found = fsspec.filesystem("memory")
    found.store.clear()
    return found


def test_from_and_to_a_uri(cli: Cli, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/box/lang=en/in.csv", b"id,text\n1,one\n2,two\n")
    memory.pipe("/box/lang=de/in.csv", b"id,text\n3,drei\n4,\n")
    result = cli(
        "extract", "memory://box", "-o", "memory://out.csv", "--on-error", "skip", "--resume"
    )
    assert result.code == 0
    where = "memory://out.csv.rejects.jsonl"
    assert result.stderr == f"splinellm: 3 rows written, 1 rejected, see {where}\n"
    assert memory.cat("/out.csv").decode().splitlines()[1].startswith("3,drei,de,")
    assert b'"row": 2, "source": "memory://box/lang=de/in.csv"' in memory.cat(
        "/out.csv.rejects.jsonl"
    )
    assert sorted(memory.find("/")) == [
        "/.out.csv.run.json",
        "/box/lang=de/in.csv",
        "/box/lang=en/in.csv",
        "/out.csv",
        "/out.csv.provenance.json",
        "/out.csv.rejects.jsonl",
    ]
    again = ("extract", "memory://box", "-o", "memory://out.csv", "--on-error", "skip", "--resume")
    done = f"already done: 3 rows in memory://out.csv, 1 rejected, see {where}; nothing to compute"
    assert cli(*again).stderr == f"splinellm: {done}\n"
    memory.pipe("/box/lang=en/in.csv", b"id,text\n1,one\n2,six\n")  # of the same size
    assert cli(*again).stderr == f"splinellm: 3 rows written, 1 rejected, see {where}\n"
    result = cli("extract", "memory://box/*/in.csv", "-o", "memory://out.csv", "--columns", "id")
    assert (result.code, "'lang' would be gone (--force" in result.stderr) == (1, True)
    assert (
        cli("extract", "memory://box/*en/in.csv", "-o", "memory://o/", "--shard", "1/1").code == 0
    )
    assert "/o/part-00001-of-00001.parquet" in memory.find("/")
    memory.pipe("/notes/a.jsonl", b'{"text": "one"}\n')
    memory.pipe("/notes/.b.jsonl.run.json", b"{}")  # of a run, and no data
    assert cli("extract", "memory://notes/*", "-o", "notes.csv").stderr.endswith("1 row written\n")


def test_file_uri_is_a_path(cli: Cli, tmp_path: Path) -> None:
    write_input(Path("in put.csv"), [{"text": "a"}])
    uri = (tmp_path / "in put.csv").as_uri()
    assert cli("extract", uri, "-o", (tmp_path / "out.parquet").as_uri()).code == 0
    assert len(pd.read_parquet("out.parquet")) == 1
    assert cli("extract", uri, "-o", (tmp_path / "out").as_uri() + "/").code == 0
    assert Path("out/part-00001-of-00001.parquet").exists()
    result = cli("extract", "file://elsewhere/in.csv", "-o", "out.csv")
    assert (result.code, "is on another machine" in result.stderr) == (2, True)


@pytest.mark.parametrize("place", ["input", "output"])
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://box/x.csv", "s3:// needs s3fs, which is not installed (pip install 'splinellm[rem"),
        ("gs://box/x.csv", "gs:// needs gcsfs, which is not installed (pip install gcsfs)"),
        ("ssh://box/x.csv", "ssh:// needs a package, which is not installed (install the package"),
        ("nothing://x.csv", "'nothing://x.csv' cannot be read: Protocol not known: nothing"),
    ],
)
def test_uri_without_its_package(
    cli: Cli,
    fake: list[FakeExtractor],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    uri: str,
    message: str,
) -> None:
    def missing(name: str) -> type:
        if name == "nothing":
            raise ValueError(f"Protocol not known: {name}")
        raise ImportError(f"Install what {name} needs")

    monkeypatch.setattr("fsspec.core.get_filesystem_class", missing)
    write_input(Path("in.csv"), [{"text": "a"}])
    inputs, output = (uri, "out.csv") if place == "input" else ("in.csv", uri)
    result = cli("extract", inputs, "-o", output)
    assert (result.code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert not fake
    assert [path.name for path in Path().iterdir()] == ["in.csv"]


def test_store_that_fails_is_told_of_in_one_line(
    cli: Cli, memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentialsError(Exception):
        """As botocore's, which is no OSError."""

    def failing(*_given: object, **_options: object) -> None:
        raise NoCredentialsError("Unable to locate credentials")

    memory.pipe("/in.csv", b"text\na\n")
    monkeypatch.setattr(type(memory), "info", failing)
    for inputs, output in (("memory://in.csv", "out.csv"), ("in.csv", "memory://out.csv")):
        write_input(Path("in.csv"), [{"text": "a"}])
        result = cli("extract", inputs, "-o", output)
        assert (result.code, result.stderr.count("\n")) == (1, 1)
        assert "NoCredentialsError: Unable to locate credentials" in result.stderr
