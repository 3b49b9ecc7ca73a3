"""A row per token: what is repeated, what is left out, and what bad rows do."""

from __future__ import annotations

import csv
import gzip
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from splinellm.errors import InputFileError, RowError
from splinellm.io import token_rows
from splinellm.io.features import FeatureAnnotator
from splinellm.io.pipeline import annotate_rows
from splinellm.io.readers import open_source
from splinellm.io.sink import open_sink
from splinellm.io.token_rows import TextlessSource, is_token_column
from splinellm.table import FeatureTable
from splinellm.token_index import TOKEN_SCHEMA
from tests.fakes import FakeExtractor
from tests.io.files import ROWS, set_chunk_rows, write_input
from tests.io.test_writers import OUTPUTS, input_columns, read_table

GRANULARITIES = ["prefix", "token"]
GOOD = {0: "one", 2: "two", 4: "three", 6: "four"}
BAD = """\
{"text": "one", "id": 1}
not json
{"text": "two", "id": 2}
{"text": "NAN", "id": 3}
{"text": "three", "id": 4}
{"text": "", "id": 5}
{"text": "four", "id": 6}
"""


def run(
    source_path: Path,
    output: Path,
    granularity: Any = "prefix",
    on_error: Any = "fail",
    text_column: str = "text",
    *,
    resume: bool = False,
) -> FakeExtractor:
    extractor = FakeExtractor()
    reserved = is_token_column(text_column)
    source = open_source(str(source_path), text_column=text_column, is_reserved=reserved)
    with closing(TextlessSource(source, text_column)) as rows:
        sink = open_sink(str(output), str(source_path), resume=resume)
        annotator = FeatureAnnotator(extractor, granularity)
        annotate_rows(rows, sink, annotator, on_error=on_error)
    return extractor


def check_equal(found: FeatureTable, expected: FeatureTable) -> None:
    assert found.provenance == expected.provenance
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.n_tokens, expected.n_tokens)
    np.testing.assert_array_equal(found.truncated, expected.truncated)
    assert found.tokens is not None
    assert expected.tokens is not None
    assert found.tokens.to_arrow().equals(expected.tokens.to_arrow())


def others(path: Path) -> list[dict[str, Any]]:
    """Input columns of every row."""
    return [
        {name: value for name, value in row.items() if name not in TOKEN_SCHEMA.names}
        for row in map(_without_features, _rows(path))
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".npz":
        return input_columns(path)
    name = path.name.removesuffix(".gz")
    if name.endswith(("parquet", "arrow")):
        read = pq.read_table if name.endswith("parquet") else pyarrow.feather.read_table
        rows: list[dict[str, Any]] = read(path).to_pylist()
        return rows
    return _text_rows(path)


def _text_rows(path: Path) -> list[dict[str, Any]]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        if ".csv" in path.name:
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file]


def _without_features(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if "." not in k and k not in ("n_tokens", "truncated")}


@pytest.fixture(params=[1, 2, 1024])
def _chunk_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk_rows(monkeypatch, request.param)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "jsonl.gz"])
def test_every_other_column_is_repeated(
    tmp_path: Path, suffix: str, output: str, granularity: Any
) -> None:
    source = write_input(tmp_path / f"in.{suffix}", ROWS)
    path = tmp_path / f"out.{output}"
    extractor = run(source, path, granularity)
    texts = {row: str(record["text"]) for row, record in enumerate(ROWS)}
    expected = extractor.token_table(texts, granularity)
    check_equal(read_table(path), expected)
    kept = [{k: v for k, v in row.items() if k != "text"} for row in ROWS]
    assert expected.tokens is not None
    assert others(path) == [kept[row] for row in expected.tokens.row]


@pytest.mark.parametrize("output", OUTPUTS)
def test_texts_alone_leave_no_input_column(tmp_path: Path, output: str) -> None:
    source = write_input(tmp_path / "in.txt", [{"text": "ab"}, {"text": "c"}])
    path = tmp_path / f"out.{output}"
    extractor = run(source, path)
    check_equal(read_table(path), extractor.token_table({0: "ab", 1: "c"}, "prefix"))
    if output != "npz":
        first = list(_rows(path)[0])
        assert first[:7] == [*TOKEN_SCHEMA.names, "n_tokens", "truncated"]


@pytest.mark.usefixtures("_chunk_rows")
@pytest.mark.parametrize("part", [1, 4, 1 << 15])
@pytest.mark.parametrize("output", ["parquet", "csv", "jsonl", "npz"])
def test_rows_are_counted_over_all_that_were_read(
    tmp_path: Path, output: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_rows, "PART_CHARACTERS", part)
    source = tmp_path / "in.jsonl"
    source.write_text(BAD)
    path = tmp_path / f"out.{output}"
    extractor = run(source, path, on_error="skip")
    check_equal(read_table(path), extractor.token_table(GOOD, "prefix"))
    rejects = [json.loads(x) for x in Path(f"{path}.rejects.jsonl").read_text().splitlines()]
    assert [(r["row"], r["code"]) for r in rejects] == [
        (2, "invalid_json"),
        (4, "non_finite_features"),
        (6, "invalid_prompt"),
    ]
    assert rejects[1]["columns"] == {"text": "NAN", "id": 3}  # its text included


@pytest.mark.usefixtures("_chunk_rows")
@pytest.mark.parametrize("part", [1, 1 << 15])
def test_fail_stops_and_skip_goes_on(
    tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_rows, "PART_CHARACTERS", part)
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(BAD.split("\n")[2:]))
    with pytest.raises(RowError) as caught:
        run(source, tmp_path / "out.jsonl")
    assert caught.value.row == 2
    run(source, tmp_path / "plain.jsonl", on_error="skip")
    run(source, tmp_path / "out.jsonl", on_error="skip", resume=True)
    for end in ("", ".rejects.jsonl", ".provenance.json"):
        found, expected = (tmp_path / f"{name}.jsonl{end}" for name in ("out", "plain"))
        assert found.read_bytes() == expected.read_bytes()


def test_folder_of_parquet_files_is_counted_through(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i, texts in enumerate((["ab", "c"], ["d", "ef"])):
        write_input(folder / f"{i}.parquet", [{"text": text} for text in texts])
    extractor = run(folder, tmp_path / "out.parquet")
    expected = extractor.token_table(dict(enumerate(["ab", "c", "d", "ef"])), "prefix")
    check_equal(FeatureTable.from_parquet(tmp_path / "out.parquet"), expected)


def test_parquet_keeps_types_that_arrow_cannot_take(tmp_path: Path) -> None:
    table = pa.table(
        {
            "view": pa.array(["x", None], pa.string_view()),
            "text": pa.array(["ab", "c"], pa.string_view()),
            "tags": pa.array([["a"], None], pa.list_(pa.large_string())),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
        }
    )
    for kept in (table, table.drop_columns("view").cast(_plain_text(table))):
        (tmp_path / "out.parquet").unlink(missing_ok=True)
        pq.write_table(kept, tmp_path / "in.parquet")
        run(tmp_path / "in.parquet", tmp_path / "out.parquet")
        found = pq.read_table(tmp_path / "out.parquet")
        assert found["tags"].to_pylist() == [["a"], ["a"], None]
        assert found["kind"].to_pylist() == ["x", "x", "y"]
        assert found["kind"].type == table["kind"].type
        if "view" in kept.column_names:
            assert found["view"].to_pylist() == ["x", "x", None]


def _plain_text(table: pa.Table) -> pa.Schema:
    return pa.schema(
        [pa.field("text", pa.string()), table.schema.field("tags"), table.schema.field("kind")]
    )


@pytest.mark.parametrize("name", [*TOKEN_SCHEMA.names, "n_tokens", "layer_00.sign_mean"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_column_that_the_output_adds_is_refused(tmp_path: Path, suffix: str, name: str) -> None:
    source = write_input(tmp_path / f"in.{suffix}", [{"text": "a", name: "mine"}])
    with pytest.raises((InputFileError, RowError), match=f"'{name}'"):
        run(source, tmp_path / "out.npz")


@pytest.mark.parametrize("name", TOKEN_SCHEMA.names)
def test_text_column_is_never_in_the_way(tmp_path: Path, name: str) -> None:
    source = write_input(tmp_path / "in.csv", [{name: "ab"}])
    extractor = run(source, tmp_path / "out.csv", text_column=name)
    check_equal(
        FeatureTable.from_csv(tmp_path / "out.csv"), extractor.token_table({0: "ab"}, "prefix")
    )


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_rows(tmp_path: Path, output: str) -> None:
    source = write_input(tmp_path / "in.csv", [{"text": "a", "b": "c"}])
    source.write_text("text,b\n")
    run(source, tmp_path / f"out.{output}")
    table = read_table(tmp_path / f"out.{output}")
    assert len(table) == 0
    assert table.provenance.granularity == "prefix"


def test_parts_bound_how_much_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_rows, "PART_CHARACTERS", 10)
    texts = ["aaaa", "bbbb", "cccccc", "d" * 30, "e", "f" * 9, "g"]
    source = write_input(tmp_path / "in.txt", [{"text": text} for text in texts])
    with closing(TextlessSource(open_source(str(source)), "text")) as rows:
        parts = [chunk.texts() for chunk in rows.chunks()]
    assert [len(part) for part in parts] == [2, 1, 1, 2, 1]
    assert [text for part in parts for text in part] == texts
