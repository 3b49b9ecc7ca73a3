"""An output is not replaced by less, or by something else, unless that is asked for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm import FeatureTable
from splinellm.errors import OutputError
from tests.fakes import FakeExtractor
from tests.io.files import run, write_input

FORMATS = ["parquet", "arrow", "csv", "jsonl", "npz", "csv.gz", "jsonl.gz"]
ROWS = [{"text": "one\ntwo", "id": "a"}, {"text": "three", "id": "b"}, {"text": "4", "id": "c"}]


@pytest.mark.parametrize("suffix", FORMATS)
def test_more_rows_are_not_replaced_by_fewer(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    run(write_input(tmp_path / "in.csv", ROWS), path)
    before = path.read_bytes()
    fewer = write_input(tmp_path / "fewer.csv", ROWS[:2])
    with pytest.raises(OutputError, match=r"is there with 3 rows, and would have 2.*--force"):
        run(fewer, path)
    assert path.read_bytes() == before
    extractor = run(fewer, path, resume=True, force=True)
    assert extractor.seen == []  # what was computed was not lost
    assert path.read_bytes() != before
    run(write_input(tmp_path / "in.csv", ROWS), path)  # more may come


@pytest.mark.parametrize("suffix", FORMATS)
def test_other_columns_are_not_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    run(write_input(tmp_path / "in.csv", ROWS), path)
    before = path.read_bytes()
    run(write_input(tmp_path / "in.csv", ROWS), path)  # the same again is no loss
    assert path.read_bytes() == before
    other = FakeExtractor.from_pretrained(features="blocks:2")
    with pytest.raises(OutputError, match=r"other columns: 'layer_00.\w+' would be (gone|new)"):
        run(tmp_path / "in.csv", path, other)
    assert path.read_bytes() == before
    assert not other.seen  # known before anything is computed
    run(tmp_path / "in.csv", path, other, force=True)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"my notes", b"\x00\x01", b""])
def test_something_else_is_not_replaced(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_bytes(content)
    source = write_input(tmp_path / "in.csv", ROWS)
    if content:
        with pytest.raises(OutputError, match="is there"):
            run(source, path)
        assert path.read_bytes() == content
    run(source, path, force=bool(content))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_types_that_come_back_as_others_are_no_difference(tmp_path: Path, suffix: str) -> None:
    rows = pa.table(
        {
            "text": ["a", "b"],
            "seconds": pa.array([1, 2], pa.timestamp("s")),
            "day": pa.array([0, 86_400_000], pa.date64()),
            "lists": [[1], [2, 3]],
            "kinds": pa.array(["x", "y"]).dictionary_encode(),
            "large": pa.array(["x", "y"], pa.large_string()),
            "bytes": pa.array([b"x", b"y"], pa.large_binary()),
        }
    )
    pq.write_table(rows, tmp_path / "in.parquet")
    for _ in range(2):
        run(tmp_path / "in.parquet", tmp_path / f"out.{suffix}")
    changed = rows.set_column(3, "lists", pa.array([1, 2]))
    pq.write_table(changed, tmp_path / "in.parquet")
    with pytest.raises(OutputError, match=r"'lists' is .*, and would be int64"):
        run(tmp_path / "in.parquet", tmp_path / f"out.{suffix}")


def test_folders_are_made(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.csv", ROWS)
    run(source, tmp_path / "a" / "b" / "out.parquet")
    assert len(FeatureTable.from_parquet(tmp_path / "a" / "b" / "out.parquet")) == 3
    run(source, f"{tmp_path}/c/d/")
    assert len(FeatureTable.from_parquet(tmp_path / "c" / "d")) == 3
