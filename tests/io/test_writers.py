from __future__ import annotations

import csv
import gzip
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from splinellm.io.feature_files import read_features
from splinellm.io.text_writers import cell_texts, json_texts
from splinellm.table import N_TOKENS, TRUNCATED, FeatureTable, schema_of
from tests.fakes import fake_provenance
from tests.io.files import ROWS, run, set_chunk_rows, write_input

FEATURES = [N_TOKENS, TRUNCATED, *schema_of(fake_provenance()).names]
OUTPUTS = ["parquet", "arrow", "csv", "jsonl", "npz", "csv.gz", "jsonl.gz"]


def read_table(path: Path) -> FeatureTable:
    return read_features(path)


def input_columns(path: Path) -> list[dict[str, Any]]:
    """Input columns as the file's own, independent reader sees them."""
    opener = gzip.open if path.suffix == ".gz" else open
    if path.suffix == ".npz":
        with np.load(path) as archive:
            lines = archive["input_jsonl"].tobytes().decode().split("\n")[:-1]
        return [json.loads(line) for line in lines]
    if path.suffix in (".parquet", ".arrow"):
        read = pq.read_table if path.suffix == ".parquet" else pyarrow.feather.read_table
        rows = read(path).to_pylist()
    else:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            rows = (
                list(csv.DictReader(file)) if ".csv" in path.name else [json.loads(x) for x in file]
            )
    assert all(list(row)[-len(FEATURES) :] == FEATURES for row in rows)
    return [{k: v for k, v in row.items() if k not in FEATURES} for row in rows]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "arrow"])
def test_rows_columns_and_features_arrive_in_order(
    tmp_path: Path, suffix: str, output: str
) -> None:
    source = write_input(tmp_path / f"in.{suffix}", ROWS)
    path = tmp_path / f"out.{output}"
    extractor = run(source, path)
    found, expected = read_table(path), extractor.table([row["text"] for row in ROWS])
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.n_tokens, expected.n_tokens)
    np.testing.assert_array_equal(found.truncated, expected.truncated)
    assert found.provenance == expected.provenance
    assert input_columns(path) == ROWS
    assert [list(row) for row in input_columns(path)] == [list(row) for row in ROWS]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt", "parquet", "arrow"])
def test_no_rows(tmp_path: Path, suffix: str, output: str) -> None:
    source = tmp_path / f"in.{suffix}"
    if suffix in ("parquet", "arrow"):
        write = pq.write_table if suffix == "parquet" else pyarrow.feather.write_feather
        write(pa.table({"text": pa.array([], pa.string())}), source)
    else:
        source.write_text("text\n" if suffix == "csv" else "")
    run(source, tmp_path / f"out.{output}")
    if "jsonl" not in output:  # an empty JSONL file has no columns to read
        assert read_table(tmp_path / f"out.{output}").array.shape == (0, 2, 8)


def test_parquet_to_parquet_keeps_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([1, 2, 3], pa.timestamp("ns", "UTC")),
            "text": pa.array(["a", "b", "c"], pa.string_view()),
            "kind": pa.array(["x", None, "x"]).dictionary_encode(),
            "small": pa.array([1, None, 3], pa.uint8()),
            "half": pa.array([0.5, float("nan"), None], pa.float16()),
            "price": pa.array([Decimal("1.10"), None, Decimal("2.00")], pa.decimal128(9, 2)),
            "tags": pa.array([["a"], [], None], pa.list_(pa.large_string())),
            "tree": pa.array([{"a": 1}, None, {"a": None}]),
            "bytes": pa.array([b"\xff", b"", None]),
        }
    )
    source, path = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source)
    run(source, path)
    found = pq.read_table(path).select(table.column_names)
    assert found.schema.remove_metadata() == table.schema
    assert found.slice(0, 1).to_pylist() == table.slice(0, 1).to_pylist()
    assert found.drop_columns("half").equals(table.drop_columns("half"))


def test_parquet_values_in_text_formats(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", "b"],
            "when": pa.array([datetime(2024, 1, 2, 3, 4, 5), None]),
            "price": pa.array([Decimal("1.10"), None]),
            "bytes": pa.array([b"\xff", None]),
            "score": pa.array([float("nan"), 0.1]),
            "flag": [True, None],
            "tags": [["x", "é"], None],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    run(tmp_path / "in.parquet", tmp_path / "out.csv")
    assert input_columns(tmp_path / "out.jsonl")[0] == {
        "text": "a",
        "when": "2024-01-02T03:04:05",
        "price": "1.10",
        "bytes": "/w==",
        "score": None,
        "flag": True,
        "tags": ["x", "é"],
    }
    first, second = input_columns(tmp_path / "out.csv")
    assert list(first.values()) == [
        "a",
        "2024-01-02T03:04:05",
        "1.10",
        "/w==",
        "nan",
        "true",
        '["x", "é"]',
    ]
    assert list(second.values()) == ["b", "", "", "", "0.1", "", ""]


def test_times_of_day_keep_their_nanoseconds_in_text(tmp_path: Path) -> None:
    nanoseconds = [3_723_000_000_001, 3_723_000_000_000, 100_000_000, None]
    times = pa.array(nanoseconds, pa.time64("ns"))
    table = pa.table(
        {
            "text": ["a", "b", "c", "d"],
            "at": times,
            "list": pa.array([[each] for each in nanoseconds], pa.list_(pa.time64("ns"))),
            "of": pa.StructArray.from_arrays([times], ["at"]),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    run(tmp_path / "in.parquet", tmp_path / "out.csv")
    rows = input_columns(tmp_path / "out.jsonl")
    assert [row["at"] for row in rows] == [
        "01:02:03.000000001", "01:02:03", "00:00:00.100000", None,
    ]  # fmt: skip
    assert rows[0]["list"] == ["01:02:03.000000001"]
    assert rows[0]["of"] == {"at": "01:02:03.000000001"}
    cells = [row["at"] for row in input_columns(tmp_path / "out.csv")]
    assert cells == ["01:02:03.000000001", "01:02:03", "00:00:00.100000", ""]


def test_json_values_are_written_as_they_were_read(tmp_path: Path) -> None:
    line = '{"z": [1, {"é": null}], "text": "a", "n": 1, "x": 1.5, "big": 123456789012345678901234}'
    (tmp_path / "in.jsonl").write_text(line + "\n")
    run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text().startswith(line[:-1] + ', "n_tokens": 1, ')


def test_small_chunks_share_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk_rows(monkeypatch, 10)
    monkeypatch.setattr("splinellm.io.gathering._PIECE_ROWS", 40)
    source = write_input(tmp_path / "in.txt", [{"text": f"text {i}"} for i in range(100)])
    run(source, tmp_path / "out.parquet")
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [40, 40, 20]


def test_csv_is_read_alike_by_other_readers(tmp_path: Path) -> None:
    texts = ["a\rb", "c\r\nd", "e\nf", "", '"', "'", ",", "\ufeffx"]
    rows = [{"id": text, "text": f"{text}."} for text in texts]
    run(write_input(tmp_path / "in.jsonl", rows), tmp_path / "out.csv")
    assert [row["id"] for row in input_columns(tmp_path / "out.csv")] == texts
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    arrow = pa.csv.read_csv(tmp_path / "out.csv", parse_options=parse)
    assert arrow["text"].to_pylist() == [f"{text}." for text in texts]


def test_equal_runs_make_equal_compressed_files(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", ROWS)
    for name in ("a", "b"):
        run(source, tmp_path / f"{name}.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_float32_texts_are_short_and_exact() -> None:
    bits = np.random.default_rng(0).integers(0, 0x7F800000, 40_000, dtype=np.uint32)
    values = np.concatenate([bits.view(np.float32), -bits[:99].view(np.float32)])
    values = np.append(values, np.array([0, 0.1, 9, 1e10, 1 / 3, 16777216], np.float32))
    texts = cell_texts(pa.chunked_array([values]))
    np.testing.assert_array_equal(np.array(texts, np.float64).astype(np.float32), values)
    assert texts[-6:-3] == ["0.0", "0.1", "9.0"]
    assert all(type(json.loads(text)) is float for text in texts)


def test_float64_texts_are_exact() -> None:
    random = np.random.default_rng(0)
    values = np.append(random.random(10_000) ** 40, [0.0, 1.0, 0.1, 5e-324, 1 - 2**-53])
    texts = cell_texts(pa.chunked_array([values]))
    assert [json.loads(text) for text in texts] == values.tolist()
    assert texts[-5:-2] == ["0.0", "1.0", "0.1"]


@pytest.mark.parametrize(
    ("values", "cells", "as_json"),
    [
        ([1, -2], ["1", "-2"], ["1", "-2"]),
        ([True, False], ["true", "false"], ["true", "false"]),
        (["a", 'é"\n'], ["a", 'é"\n'], ['"a"', '"é\\"\\n"']),
        (["1.0"], ["1.0"], ['"1.0"']),
        (
            [[{"a": 1, "b": "x"}], []],
            ['[{"a": 1, "b": "x"}]', "[]"],
            ['[{"a": 1, "b": "x"}]', "[]"],
        ),
    ],
)
def test_texts_of_other_types(values: list[Any], cells: list[str], as_json: list[str]) -> None:
    column = pa.chunked_array([values])
    assert (cell_texts(column), json_texts(column)) == (cells, as_json)


def test_archive_holds_no_pickle(tmp_path: Path) -> None:
    run(write_input(tmp_path / "in.jsonl", ROWS), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        assert {name: archive[name].dtype.kind for name in archive} == {
            "values": "f",
            "n_tokens": "i",
            "truncated": "b",
            "input_jsonl": "u",
            "names": "U",
            "provenance": "U",
        }
