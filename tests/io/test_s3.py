"""Files at URIs, with a real S3 server.

Skipped without it: ``pip install -c constraints.txt -e '.[s3-tests]'`` has it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm.errors import (
    ConfigurationError,
    InputFileError,
    OutputError,
    ResumeError,
)
from splinellm.io import leases
from splinellm.io.feature_reader import open_features
from splinellm.io.inputs import find_input
from splinellm.io.remote import RemotePath, location
from splinellm.io.shares import Share
from splinellm.io.sink import open_sink
from splinellm.io.table_columns import read_with_columns
from splinellm.table import FeatureTable
from tests.fakes import FakeExtractor
from tests.io.files import read_good, run, set_chunk_rows, write_input
from tests.io.killed import CHUNK_ROWS, forked, run_slowly
from tests.io.stores import s3_server
from tests.io.test_writers import OUTPUTS
from tests.tables import make

pytest.importorskip("s3fs", reason="S3 needs the extra s3-tests")
pytest.importorskip("moto", reason="an S3 server needs the extra s3-tests")
pytest.importorskip("flask_cors", reason="an S3 server needs the extra s3-tests")

ROWS = [{"id": i, "text": f"text {i} " * (1 + i % 3)} for i in range(11)]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, as a URI."""
    import s3fs

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"box-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


def put(folder: Path, uri: str, rows: list[dict[str, Any]]) -> str:
    """Write rows here, and there."""
    local = write_input(folder / uri.rpartition("/")[2], rows)
    at(uri).write_bytes(local.read_bytes())
    return uri


def at(uri: str) -> RemotePath:
    found = location(uri)
    assert isinstance(found, RemotePath)
    return found


def names(bucket: str) -> list[str]:
    return sorted(str(path)[len(bucket) + 1 :] for path in at(bucket).walk())


@pytest.mark.parametrize("output", OUTPUTS)
def test_output_is_that_of_a_disk(bucket: str, tmp_path: Path, output: str) -> None:
    rows = [*ROWS, {"id": 99, "text": "NAN"}]
    source = put(tmp_path, f"{bucket}/in.jsonl", rows)
    plain = tmp_path / f"out.{output}"
    run(tmp_path / "in.jsonl", plain, on_error="skip", chunk_rows=4)
    run(source, f"{bucket}/out.{output}", on_error="skip", chunk_rows=4)
    if output != "npz":  # whose parts know their lengths only on a disk
        assert at(f"{bucket}/out.{output}").read_bytes() == plain.read_bytes()
    found = at(f"{bucket}/out.{output}.rejects.jsonl").read_bytes()
    assert [json.loads(line)["row"] for line in found.splitlines()] == [12]
    beside = {path.name for path in tmp_path.iterdir()}
    assert set(names(bucket)) == beside
    table, _ = read_with_columns(f"{bucket}/out.{output}", ())
    np.testing.assert_array_equal(table.values, read_with_columns(str(plain), ())[0].values)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl.gz", "txt", "parquet", "arrow"])
def test_inputs_are_read_as_from_a_disk(bucket: str, tmp_path: Path, suffix: str) -> None:
    for lang in ("de", "en"):
        put(tmp_path, f"{bucket}/d/lang={lang}/a b.{suffix}", [{"text": lang}] * 3)
    put(tmp_path, f"{bucket}/d/_old/x.{suffix}", [{"text": "old"}])
    folder = [row | {"lang": row["text"]} for row in read_good(f"{bucket}/d/*/*.{suffix}")]
    assert [row["text"] for row in folder] == ["de"] * 3 + ["en"] * 3
    assert read_good(f"{bucket}/d") == read_good(f"{bucket}/d/") == folder
    assert read_good(f"{bucket}/d/**/*.{suffix}") == folder
    one = f"{bucket}/d/lang=en/a b.{suffix}"
    both = [one, str(tmp_path / f"a b.{suffix}")]
    assert [row["text"] for row in read_good(both)] == ["en"] * 6
    shares = [read_good(f"{bucket}/d", share=Share(n, 2), chunk_rows=2) for n in (1, 2)]
    assert shares[0] + shares[1] == folder


def test_what_is_not_there_is_told_in_one_line(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=rf"'{bucket}/no.csv' does not exist"):
        read_good(f"{bucket}/no.csv")
    with pytest.raises(InputFileError, match="no file matches"):
        find_input(f"{bucket}/*.csv")
    with pytest.raises(InputFileError, match=r"s3://no-such-bucket/x.csv' does not exist"):
        read_good("s3://no-such-bucket/x.csv")
    source = put(tmp_path, f"{bucket}/in.csv", ROWS)
    with pytest.raises(OutputError, match=r"cannot write s3://no-such-bucket/out.csv"):
        run(source, "s3://no-such-bucket/out.csv")
    with pytest.raises(ConfigurationError, match="would replace the input"):
        run(source, source)
    with pytest.raises(ConfigurationError, match=r"in.csv' is given twice"):
        find_input([source, f"{bucket}/*.csv"])
    put(tmp_path, f"{bucket}/d/in.csv", ROWS)
    with pytest.raises(ConfigurationError, match="lies in the input folder"):
        run(f"{bucket}/d", f"{bucket}/d/out.csv")


def test_output_that_is_there_is_kept_unless_forced(bucket: str, tmp_path: Path) -> None:
    long = put(tmp_path, f"{bucket}/long.csv", ROWS)
    short = put(tmp_path, f"{bucket}/short.csv", ROWS[:3])
    out = f"{bucket}/out.parquet"
    run(long, out)
    before = at(out).read_bytes()
    with pytest.raises(OutputError, match="'id' would be gone"):
        run(long, out, columns=[])
    with pytest.raises(OutputError, match=r"is there with 11 rows, and would have 3 \(--force"):
        run(short, out)
    assert at(out).read_bytes() == before
    run(short, out, force=True, resume=True)
    assert len(FeatureTable.from_parquet(out)) == 3  # type: ignore[arg-type]
    at(f"{bucket}/other.parquet").write_bytes(b"PAR1 nothing of ours")
    with pytest.raises(OutputError, match="nothing that extract or predict wrote"):
        run(long, f"{bucket}/other.parquet")


def test_failure_leaves_parts_and_no_object(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 4)
    source = put(tmp_path, f"{bucket}/in.csv", [*ROWS[:6], {"id": 6, "text": "STOP"}])
    failing = FakeExtractor(raises={"STOP": ZeroDivisionError()})
    with pytest.raises(ZeroDivisionError):
        run(source, f"{bucket}/out.csv", failing)
    assert names(bucket) == [
        "in.csv",
        "out.csv.partial/part-00000000.4.arrow",
        "out.csv.partial/state.json",
    ]
    with pytest.raises(ResumeError, match=r"out.csv.partial' holds 4 rows of a run"):
        run(source, f"{bucket}/out.csv")
    other = put(tmp_path, f"{bucket}/other.csv", ROWS)
    with pytest.raises(ResumeError, match=r"input was s3://.*/in.csv, now it is s3://.*/other.csv"):
        run(other, f"{bucket}/out.csv", resume=True)
    assert run(source, f"{bucket}/out.csv", resume=True).seen == [
        row["text"] for row in [*ROWS[4:6], {"text": "STOP"}]
    ]
    assert names(bucket) == ["in.csv", "other.csv", "out.csv", "out.csv.provenance.json"]


@pytest.mark.parametrize("output", ["parquet", "csv.gz"])
def test_killed_at_any_change_it_goes_on(
    bucket: str, environment: dict[str, str], tmp_path: Path, output: str
) -> None:
    rows = [*ROWS, {"id": 99, "text": "NAN"}]
    source, out = put(tmp_path, f"{bucket}/in.jsonl", rows), f"{bucket}/out.{output}"
    plain = tmp_path / f"out.{output}"
    run(tmp_path / "in.jsonl", plain, on_error="skip", chunk_rows=CHUNK_ROWS)
    n_killed = 0
    for number in (0, 2, 4, 5, 7, 9, 11, 14):
        process = forked.Process(
            target=run_slowly,
            args=(source, out),
            kwargs={"dies_at": number, "environment": environment},
        )
        process.start()
        process.join()
        n_killed += process.exitcode == -9
        # Never a half object.
        assert not at(out).exists() or at(out).read_bytes() == plain.read_bytes()
    assert n_killed > 4
    run(source, out, on_error="skip", resume=True, chunk_rows=CHUNK_ROWS)
    assert at(out).read_bytes() == plain.read_bytes()
    rejects = at(f"{out}.rejects.jsonl").read_bytes().replace(bucket.encode(), b"")
    assert [json.loads(line)["row"] for line in rejects.splitlines()] == [12]
    assert not any(".partial" in name for name in names(bucket))
    assert not at(out)._place[0].list_multipart_uploads(bucket[5:])  # what was sent is forgotten


def test_shares_make_a_folder(bucket: str, tmp_path: Path) -> None:
    source = put(tmp_path, f"{bucket}/in.csv", [*ROWS, {"id": 11, "text": ""}])
    run(source, tmp_path / "plain.parquet", on_error="skip", chunk_rows=2)
    for number in (2, 1, 3):
        if number == 3:
            with pytest.raises(InputFileError, match=r"has 2 of 3 shares: part-00003-of-00003"):
                find_input(f"{bucket}/out")
        share = Share(number, 3)
        run(source, f"{bucket}/out/", on_error="skip", chunk_rows=2, share=share)
    whole = FeatureTable.from_parquet(f"{bucket}/out/")  # type: ignore[arg-type]
    plain = FeatureTable.from_parquet(tmp_path / "plain.parquet")
    np.testing.assert_array_equal(whole.values, plain.values)
    features = open_features(f"{bucket}/out")
    assert features is not None
    with closing(features):
        assert sum(len(chunk) for chunk in features.chunks()) == 11
    assert names(f"{bucket}/out") == [
        "_rejects/part-00003-of-00003.jsonl",
        *[f"part-0000{number}-of-00003.parquet" for number in (1, 2, 3)],
    ]
    with pytest.raises(OutputError, match="it holds a share of 3, and this is one of 2"):
        run(source, f"{bucket}/out/", share=Share(1, 2))
    at(f"{bucket}/full/thesis.doc").write_bytes(b"all of it")
    with pytest.raises(OutputError, match=r"it holds 'thesis.doc', which is none of its parts"):
        run(source, f"{bucket}/full/")


def test_second_run_is_refused_until_the_first_is_gone(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = put(tmp_path, f"{bucket}/in.csv", ROWS), f"{bucket}/out.csv"
    first = open_sink(out, source)
    with pytest.raises(ResumeError, match=r"another process is writing '.*out.csv'"):
        open_sink(out, source, resume=True)
    first.abandon()
    lock = at(f"{out}.partial/lock")

    def hold(**changes: Any) -> None:
        told = {"host": "elsewhere", "pid": 1, "token": "x", "at": leases.time.time()}
        lock.write_bytes(json.dumps(told | changes).encode())

    hold()
    with pytest.raises(ResumeError, match="another process on elsewhere is writing"):
        open_sink(out, source)
    hold(at=leases.time.time() - 2 * leases.LEASE_S)
    open_sink(out, source).abandon()
    hold(host=leases.socket.gethostname(), pid=os.getppid())
    with pytest.raises(ResumeError, match="another process is writing"):
        open_sink(out, source)
    hold(host=leases.socket.gethostname(), pid=2**22 - 3)  # gone
    open_sink(out, source).abandon()
    monkeypatch.setattr(leases, "LEASE_S", 0.2)
    kept = open_sink(out, source)
    before = lock.read_bytes()
    until = leases.time.monotonic() + 20
    while lock.read_bytes() == before and leases.time.monotonic() < until:
        leases.time.sleep(0.05)
    assert lock.read_bytes() != before  # it is confirmed
    kept.abandon()
    assert names(bucket) == ["in.csv"]


def test_tables_are_written_and_read(bucket: str) -> None:
    table = make()
    for suffix in ("parquet", "csv", "jsonl.gz", "npz"):
        path: Any = f"{bucket}/table.{suffix}"
        from splinellm.io.feature_files import read_features, write_features

        write_features(table, path)
        np.testing.assert_array_equal(read_features(path).values, table.values)
