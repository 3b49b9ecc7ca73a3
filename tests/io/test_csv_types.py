"""Columns of CSV get the types that all of their values have, and no value changes for it."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinellm.io.csv_types import value_of
from splinellm.io.readers import open_source
from splinellm.io.shares import Share
from tests.io.files import run, set_chunk_rows

COLUMNS: dict[str, tuple[list[str], pa.DataType, list[Any]]] = {
    "whole": (["1", "-20", ""], pa.int64(), [1, -20, None]),
    "wide": (["9223372036854775807", "0", "-1"], pa.int64(), [(1 << 63) - 1, 0, -1]),
    "float": (["1.50", "-2", ".5"], pa.float64(), [1.5, -2.0, 0.5]),
    "exponent": (["1e-05", "2E+3", "-0"], pa.float64(), [1e-5, 2000.0, -0.0]),
    "seventeen": (["0.10000000000000001", "1", ""], pa.float64(), [0.1, 1.0, None]),
    "flag": (["true", "False", "TRUE"], pa.bool_(), [True, False, True]),
}
TEXTS = {
    "nothing": ["", "", ""],
    "zip": ["02134", "12345", "1"],
    "mixed": ["1", "n/a", "2"],
    "two kinds": ["1", "true", "0"],
    "too wide": ["9223372036854775808", "1", "2"],
    "wide among floats": ["9007199254740993", "0.5", "1"],
    "digits": ["0.123456789012345678", "1", "2"],
    "huge": ["1e400", "1", "2"],
    "tiny": ["1e-400", "1", "2"],
    "nan": ["nan", "1", "2"],
    "inf": ["-inf", "1.5", "2"],
    "plus": ["+5", "1", "2"],
    "hexadecimal": ["0x1F", "1", "2"],
    "thousands": ['"1,000"', "1", "2"],
    "underscore": ["1_000", "1", "2"],
    "space": [" 1", "2", "3"],
    "ordinal": ["1.", "2.", "3."],
    "date": ["2024-01-31", "2024-02-01", "2024-02-02"],
    "other digits": ["١٢", "1", "2"],
    "yes": ["yes", "no", "yes"],
}


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    rows = ["text," + ",".join(columns)]
    for i, cells in enumerate(zip(*columns.values(), strict=True)):
        rows.append(f"t{i}," + ",".join(cells))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_types_are_exact(tmp_path: Path) -> None:
    cells = {name: column[0] for name, column in COLUMNS.items()} | TEXTS
    source = write(tmp_path / "in.csv", cells)
    run(source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    for name, (_, kind, values) in COLUMNS.items():
        assert found.schema.field(name).type == kind, name
        assert found[name].to_pylist() == values
    assert math.copysign(1, found["exponent"][2].as_py()) == -1
    for name, texts in TEXTS.items():
        assert found.schema.field(name).type == pa.string(), name
        assert found[name].to_pylist() == [text.strip('"') for text in texts]
    run(source, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["float"] for line in lines] == [1.5, -2.0, 0.5]
    assert [line["zip"] for line in lines] == TEXTS["zip"]
    run(source, tmp_path / "text.parquet", csv_types="text")
    found = pq.read_table(tmp_path / "text.parquet")
    assert [found[name].to_pylist() for name in COLUMNS] == [c[0] for c in COLUMNS.values()]


def test_the_last_row_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk_rows(monkeypatch, 4)
    n_rows = 50
    columns = {"a": [*map(str, range(n_rows - 1)), "x"], "b": list(map(str, range(n_rows)))}
    source = write(tmp_path / "in.csv", columns)
    run(source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["a"].to_pylist() == columns["a"]
    assert found["b"].to_pylist() == list(range(n_rows))
    # So it does for every share.
    for number in (1, 2, 3):
        run(source, f"{tmp_path}/parts/", share=Share(number, 3))
    shares = pq.read_table(tmp_path / "parts")
    assert shares.schema.field("a").type == pa.string()
    assert shares["b"].to_pylist() == list(range(n_rows))


def test_rejects_keep_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,n\na,1\n,2\nb,3\n")
    run(tmp_path / "in.csv", tmp_path / "out.jsonl", on_error="skip")
    reject = json.loads((tmp_path / "out.jsonl.rejects.jsonl").read_text())
    assert reject["columns"] == {"text": "", "n": "2"}


def test_texts_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,n\n1,1\n2,2\n")
    extractor = run(tmp_path / "in.csv", tmp_path / "out.parquet")
    assert extractor.seen == ["1", "2"]
    with closing(open_source(str(tmp_path / "in.csv"))) as source:
        assert source.schema().types == [pa.string(), pa.int64()]


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 20))
def test_what_a_program_wrote_of_a_float_is_that_float(value: float, n_digits: int) -> None:
    assert value_of(repr(value)) == value
    written = f"{value:.{n_digits}e}"
    found = value_of(written)
    assert found == float(written) or n_digits < 17  # fewer digits may be of a number too small


@given(st.integers())
def test_integers_are_exact(value: int) -> None:
    found = value_of(str(value))
    assert found == (value if -(1 << 63) <= value < 1 << 63 else str(value))
