"""Parquet folders whose files differ, and columns that nobody wants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm.errors import ConfigurationError, InputFileError, OutputError
from tests.io.files import read_chunks, read_good, read_problems, run

STRINGS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]


def texts(*values: str | None, kind: Any = None) -> Any:
    return pa.array(values, pa.string()).cast(kind or pa.string())


def folder(path: Path, *tables: pa.Table) -> Path:
    (path / "in").mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, path / "in" / f"{number}.parquet")
    return path / "in"


@pytest.mark.parametrize("output", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("second", STRINGS, ids=str)
@pytest.mark.parametrize("first", STRINGS, ids=str)
def test_strings_of_any_kind_stand_together(
    tmp_path: Path, first: Any, second: Any, output: str
) -> None:
    tables = (
        pa.table({"text": texts("a", "b", kind=first), "x": texts("1", None, kind=second)}),
        pa.table({"x": texts("3", kind=first), "text": texts("c", kind=second)}),
    )
    source = folder(tmp_path, *tables)
    assert read_good(source) == [
        {"text": "a", "x": "1"},
        {"text": "b", "x": None},
        {"text": "c", "x": "3"},
    ]
    assert run(source, tmp_path / f"out.{output}").seen == ["a", "b", "c"]
    if output == "parquet":
        found = pq.read_table(tmp_path / "out.parquet", columns=["text", "x"])
        assert [str(row["text"]) for row in found.to_pylist()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (pa.array([1], pa.int32()), pa.array([1 << 40], pa.int64()), pa.int64()),
        (pa.array([-1], pa.int8()), pa.array([200], pa.uint8()), pa.int16()),
        (pa.array([0.5], pa.float32()), pa.array([0.1], pa.float64()), pa.float64()),
        (pa.nulls(1), pa.array([7], pa.int16()), pa.int16()),
        (pa.array([True]), pa.nulls(1), pa.bool_()),
        (pa.array([b"x"]), pa.array([b"y"], pa.large_binary()), pa.large_binary()),
        (
            pa.array([["x"]]),
            pa.array([["y"]], pa.list_(pa.large_string())),
            pa.list_(pa.large_string()),
        ),
    ],
    ids=str,
)
def test_kinds_of_the_same_thing_widen(tmp_path: Path, one: Any, other: Any, common: Any) -> None:
    for number, (a, b) in enumerate(((one, other), (other, one))):
        place = tmp_path / str(number)
        place.mkdir()
        parts = (pa.table({"text": ["a"], "x": a}), pa.table({"text": ["b"], "x": b}))
        run(folder(place, *parts), place / "out.parquet")
        found = pq.read_table(place / "out.parquet")["x"]
        assert found.type == common
        assert found.to_pylist() == [*a.to_pylist(), *b.to_pylist()]


def test_nullability_may_differ(tmp_path: Path) -> None:
    strict = pa.schema([pa.field("text", pa.string(), nullable=False)])
    source = folder(
        tmp_path, pa.table({"text": ["a"]}, schema=strict), pa.table({"text": ["b", None]})
    )
    run(source, tmp_path / "out.parquet", on_error="skip")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["a", "b"]
    assert list(read_problems(source)) == [2]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"text": ["a"]}, r"1\.parquet.*column 'n' is missing \(--columns"),
        ({"text": ["a"], "n": [1], "m": [1]}, r"1\.parquet.*column 'm' is not in the first"),
        ({"text": ["a"], "n": [1.5]}, r"1\.parquet.*column 'n' is double, not int64"),
        ({"text": ["a"], "n": ["1"]}, r"1\.parquet.*column 'n' is string, not int64"),
    ],
)
def test_columns_that_differ_are_named_or_left_out(
    tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    source = folder(tmp_path, pa.table({"text": ["x"], "n": [1]}), pa.table(other))
    with pytest.raises(InputFileError, match=message):
        read_chunks(source)
    assert read_good(source, columns=[]) == [{"text": "x"}, {"text": "a"}]


def test_files_without_rows(tmp_path: Path) -> None:
    empty = pa.table({"text": pa.nulls(0), "n": pa.nulls(0)})  # as pandas writes it
    source = folder(tmp_path, empty, pa.table({"n": [1], "text": ["a"]}), empty)
    assert read_good(source) == [{"text": "a", "n": 1}]
    run(folder(tmp_path / "in", empty), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_corrupt_file_is_named(tmp_path: Path) -> None:
    source = folder(tmp_path, pa.table({"text": ["a"]}))
    (source / "_SUCCESS").touch()
    (source / ".0.parquet.crc").write_bytes(b"crc")
    assert read_good(source) == [{"text": "a"}]
    (source / "1.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputFileError, match=r"1\.parquet' is not a readable Parquet file"):
        read_chunks(source)


def test_columns_that_are_not_wanted_are_not_read(tmp_path: Path) -> None:
    data = pa.array([b"fine", b"\xff"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, data.buffers())
    table = pa.table(
        {"n_tokens": [1, 2], "broken": broken, "text": ["a", "b"], "a.b": [1, 2], "a": [3, 4]}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    assert read_good(tmp_path / "in.parquet", columns=["a"]) == [
        {"text": "a", "a": 3},
        {"text": "b", "a": 4},
    ]
    with pytest.raises(InputFileError, match="no column 'c'"):
        read_chunks(tmp_path / "in.parquet", columns=["c"])
    with pytest.raises(ConfigurationError, match="not for parquet"):
        read_chunks(tmp_path / "in.parquet", encoding="cp1252")


@pytest.mark.parametrize("output", ["csv", "jsonl", "npz"])
def test_value_that_is_no_text_names_its_column(tmp_path: Path, output: str) -> None:
    late = pa.array([1 << 45], pa.timestamp("s"))
    pq.write_table(pa.table({"text": ["a"], "when": late}), tmp_path / "in.parquet")
    with pytest.raises((InputFileError, OutputError), match=r"column 'when'.*--columns"):
        run(tmp_path / "in.parquet", tmp_path / f"out.{output}")
    extractor = run(tmp_path / "in.parquet", tmp_path / f"out.{output}", columns=[], resume=True)
    assert extractor.seen == []  # what was computed is of use with other columns, too


def test_nan_of_parquet_is_null_in_json_and_stays_in_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "x": [float("nan"), 1.0]})
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert first["x"] is None
    run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert str(pq.read_table(tmp_path / "out.parquet")["x"].to_pylist()) == "[nan, 1.0]"
