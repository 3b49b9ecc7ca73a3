"""Any text goes in and comes out unchanged, with its own features beside it."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeExtractor
from tests.io.files import run, write_input
from tests.io.test_writers import input_columns, read_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROW = st.builds(lambda id_, text: {"id": id_, "text": text}, TEXT, TEXT.filter(bool))
ROWS = st.lists(ROW, min_size=1, max_size=8)


@given(
    suffix=st.sampled_from(["csv", "tsv", "jsonl", "jsonl.gz"]),
    output=st.sampled_from(["csv", "jsonl", "parquet", "npz"]),
    rows=ROWS,
)
@settings(max_examples=80, deadline=None)
def test_any_text_survives(suffix: str, output: str, rows: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write_input(Path(folder) / f"in.{suffix}", rows)
        path = Path(folder) / f"out.{output}"
        run(source, path, csv_types="text")
        expected = FakeExtractor().table([row["text"] for row in rows])
        np.testing.assert_array_equal(read_table(path).values, expected.values)
        if output != "csv":
            assert input_columns(path) == rows
        else:
            with path.open(encoding="utf-8", newline="") as file:
                assert [row[:2] for row in csv.reader(file)][1:] == [list(r.values()) for r in rows]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
COLUMNS = st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON, max_size=3)


@given(rows=st.lists(COLUMNS, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_json_value_survives(rows: list[dict[str, object]]) -> None:
    rows = [{**row, "text": f"text {i}"} for i, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(source, Path(folder) / "out.jsonl")
        assert input_columns(Path(folder) / "out.jsonl") == rows
        # In Parquet a column has one type; each value is there, as itself or as JSON text.
        run(source, Path(folder) / "out.parquet")
        table = pq.read_table(Path(folder) / "out.parquet")
        for name in {name for row in rows for name in row}:
            is_json = bool((table.schema.field(name).metadata or {}).get(b"splinellm.content"))
            for row, value in zip(rows, table[name].to_pylist(), strict=True):
                found = json.loads(value) if is_json and value is not None else value
                assert found == row.get(name)


@given(lines=st.lists(TEXT, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_lines_of_text_are_split_at_newlines_only(lines: list[str]) -> None:
    prompts = io.StringIO("".join(lines), newline="").read().split("\n")
    prompts = [p.removesuffix("\r") for p in prompts]
    while prompts and not prompts[-1]:
        prompts.pop()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.txt"
        source.write_text("x\n" + "".join(lines) + "\n", encoding="utf-8", newline="")
        run(source, Path(folder) / "out.jsonl", on_error="skip")
        found = [row["text"] for row in input_columns(Path(folder) / "out.jsonl")]
    assert found == ["x", *filter(None, prompts)]
