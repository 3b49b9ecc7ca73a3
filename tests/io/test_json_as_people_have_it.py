"""JSON that is not an object a line, and numbers that are none."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from splinellm.errors import InputFileError
from tests.io.files import read_chunks, read_good, read_problems, run

ROWS: list[dict[str, Any]] = [
    {"text": "a", "n": 1, "tree": {"x": [{"text": "inner"}]}},
    {"text": "ü [{", "n": None, "tree": {}},
    {"text": "c", "n": 2.5, "tree": {"x": []}},
]
SHAPES = {
    "lines": "\n".join(map(json.dumps, ROWS)),
    "list on one line": json.dumps(ROWS),
    "list, no ASCII": json.dumps(ROWS, ensure_ascii=False),
    "list, pretty": json.dumps(ROWS, indent=2),
    "list, an object a line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]",
    "list, bracket before": "[" + ",\n".join(map(json.dumps, ROWS)) + "]",
    "pretty objects": "\n".join(json.dumps(row, indent=4) for row in ROWS),
    "objects one after the other": "".join(map(json.dumps, ROWS)),
    "pretty, one after the other": "".join(json.dumps(row, indent=1) for row in ROWS),
    "commas at line ends": ",\n".join(map(json.dumps, ROWS)),
    "comma after the last": "".join(json.dumps(row) + " ,\n" for row in ROWS),
}


@pytest.mark.parametrize("begin", ["", "\ufeff", " \r\n\n"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_in_any_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, begin: str, end: str
) -> None:
    text = SHAPES[shape]
    data = (begin + (text.replace("\n", "\r\n") if "\r" in end else text) + end).encode()
    for name in ("in.jsonl", "in.json", "in.json.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        assert read_good(path) == ROWS
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_good("-") == ROWS


@pytest.mark.parametrize("output", ["parquet", "csv", "jsonl", "npz"])
def test_list_is_read_for_every_output(tmp_path: Path, output: str) -> None:
    (tmp_path / "in.json").write_text(json.dumps(ROWS))
    assert run(tmp_path / "in.json", tmp_path / f"out.{output}").seen == ["a", "ü [{", "c"]


@pytest.mark.parametrize("data", [b"[]", b"[\n]\n", b" [ ] "])
def test_empty_list_has_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    (tmp_path / "in.json").write_bytes(data)
    assert read_chunks(tmp_path / "in.json") == []
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_chunks("-") == []


@pytest.mark.parametrize("line", ["[INST] hello", "[1] a note", "[]x", "[x", "] a"])
def test_text_that_begins_with_a_bracket_is_text(
    monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{line}\nb\n".encode())))
    assert read_good("-") == [{"text": line}, {"text": "b"}]


def test_items_of_a_list_are_judged_one_by_one(tmp_path: Path) -> None:
    items = '{"text": "a"}, "b", 3, {"text": ""}, {"text": "x", "text": "y"}, {"text": "\\ud800"}'
    (tmp_path / "in.json").write_text(f'[{items}, {{"text": 1e999}}, {{"text": "z"}}]')
    assert read_good(tmp_path / "in.json") == [{"text": "a"}, {"text": "z"}]
    problems = read_problems(tmp_path / "in.json")
    assert {row: code for row, (code, _) in problems.items()} == {
        2: "invalid_json",
        3: "invalid_json",
        4: "invalid_prompt",
        5: "invalid_json",
        6: "invalid_prompt",
        7: "invalid_prompt",
    }
    assert "one object per line" in problems[2][1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "a"}, {"text": ', "row 2: invalid JSON.*line 1.*one object per line"),
        ('[{"text": "a"},\n{"text": oops}]', "row 2: invalid JSON.*line 2"),
        ('[\n{"text": "a"},\n{"text": "b"}\n', "the list never ends, after row 2"),
        ('[\n{"text": "a"}]\n{"text": "b"}\n', "followed by something else"),
        ('{\n"text": "a"}\n{"text": }\n', "row 2: invalid JSON"),
    ],
)
def test_document_that_breaks_is_a_loud_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "in.json").write_text(text)
    with pytest.raises(InputFileError, match=message) as caught:
        read_chunks(tmp_path / "in.json")
    assert "in.json" in str(caught.value)


@pytest.mark.parametrize("first", ['{"text": "a"', '{"text": "a",', "[oops", '["a"]', '"a"', "{"])
def test_broken_first_line_spoils_itself_alone(tmp_path: Path, first: str) -> None:
    (tmp_path / "in.jsonl").write_text(f'{first}\n{{"text": "b"}}\n{{"text": "c"}}\n')
    assert read_good(tmp_path / "in.jsonl") == [{"text": "b"}, {"text": "c"}]
    assert list(read_problems(tmp_path / "in.jsonl")) == [1]


def test_numbers_that_are_none_become_null_and_are_told_of_once(tmp_path: Path) -> None:
    lines = [
        '{"text": "a", "score": NaN, "x": 1}',
        '{"text": "b", "score": 0.5, "x": [Infinity, {"y": -Infinity}]}',
        '{"text": "c", "score": NaN, "x": "NaN"}',
        '{"text": "", "score": NaN}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    message = "2 in column 'score', 1 in column 'x'"
    with pytest.warns(UserWarning, match=message) as told:
        run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", on_error="skip")
    assert len(told) == 1
    found = [json.loads(x) for x in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["score"] for row in found] == [None, 0.5, None]
    assert [row["x"] for row in found] == [1, [None, {"y": None}], "NaN"]
    assert "NaN," not in (tmp_path / "out.jsonl").read_text()
    with pytest.warns(UserWarning, match=message):
        run(tmp_path / "in.jsonl", tmp_path / "out.parquet", on_error="skip")
    assert pq.read_table(tmp_path / "out.parquet")["score"].to_pylist() == [None, 0.5, None]


def test_columns_that_are_not_wanted_are_not_looked_at(tmp_path: Path) -> None:
    lines = [
        '{"text": "a", "n_tokens": 3, "x": 1, "y": NaN}',
        '{"text": "b", "z": "\\ud800"}',
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    assert read_good(tmp_path / "in.jsonl", columns=["x"]) == [{"text": "a", "x": 1}, {"text": "b"}]
    with pytest.warns(UserWarning, match="no row has column 'w'"):
        read_good(tmp_path / "in.jsonl", columns=["x", "w"])


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", '[1, {"b": 1e400}]'])
@pytest.mark.parametrize("form", ['{{"text": "a", "x": {}}}\n', '[{{"text": "a", "x": {}}}]'])
def test_number_too_large_for_a_float_in_another_column_is_null(
    tmp_path: Path, number: str, form: str
) -> None:
    (tmp_path / "in.json").write_text(form.format(number))
    with pytest.warns(UserWarning, match="became null: 1 in column 'x'"):
        (row,) = read_good(tmp_path / "in.json")
    assert row["text"] == "a"
    assert row["x"] in (None, [1, {"b": None}])


@pytest.mark.parametrize(
    "number", ["0.12345678901234567890123", "1e-400", '[1, {"b": 3.14159265358979323846}]']
)
@pytest.mark.parametrize("form", ['{{"text": "a", "x": {}}}\n', '[{{"text": "a", "x": {}}}]'])
def test_number_that_is_rounded_is_told_of(tmp_path: Path, number: str, form: str) -> None:
    (tmp_path / "in.json").write_text(form.format(number))
    with pytest.warns(UserWarning, match="than a float holds were rounded: 1 in column 'x'"):
        (row,) = read_good(tmp_path / "in.json")
    assert row["x"] == json.loads(number)


@pytest.mark.parametrize(
    "number",
    [
        *("0.30000000000000004", "-2.2250738585072014e-308", "0.0", "-0.0e-99", "1e22"),
        *("0.10000000000000000555", "1.000000000000000000000000", "123456789012345678901234567890"),
    ],
)
def test_number_that_is_not_rounded_is_not(tmp_path: Path, number: str) -> None:
    (tmp_path / "in.jsonl").write_text(f'{{"text": "a", "x": {number}}}\n')
    (row,) = read_good(tmp_path / "in.jsonl")  # a warning would be an error
    assert row["x"] == json.loads(number)


def test_whole_number_with_too_many_digits_spoils_its_row_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(f'[{{"text": "a", "x": {"9" * 5000}}}, {{"text": "b"}}]')
    assert read_good(tmp_path / "in.json") == [{"text": "b"}]
    assert read_problems(tmp_path / "in.json") == {
        1: ("invalid_json", "a whole number has too many digits")
    }
