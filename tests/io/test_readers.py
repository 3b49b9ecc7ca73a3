from __future__ import annotations

import gzip
import io
import json
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm.errors import InputFileError
from splinellm.io import rows as rows_module
from splinellm.io.readers import open_source
from tests.io.files import (
    ONE_LINE_ROWS,
    ROWS,
    read_chunks,
    read_good,
    read_problems,
    write_input,
)

TEXT_BASED = ["jsonl", "csv", "tsv", "txt"]


def expected(suffix: str) -> list[dict[str, str]]:
    return ONE_LINE_ROWS if suffix.startswith("txt") else ROWS


@pytest.mark.parametrize(
    "suffix", [*TEXT_BASED, *(f"{s}.gz" for s in TEXT_BASED), "parquet", "arrow"]
)
def test_every_format_keeps_every_value(tmp_path: Path, suffix: str) -> None:
    path = write_input(tmp_path / f"in.{suffix}", expected(suffix))
    assert read_good(path) == expected(suffix)
    assert not read_problems(path)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("suffix", "told"),
    [(s, True) for s in TEXT_BASED]
    + [("jsonl", False), ("txt", False), ("parquet", False), ("arrow", False)],
)
def test_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, told: bool, compress: bool
) -> None:
    data = write_input(tmp_path / f"in.{suffix}", expected(suffix)).read_bytes()
    data = gzip.compress(data) if compress else data
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_good("-", format=suffix if told else None) == expected(suffix)


def test_standard_input_is_json_lines_after_blanks_and_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = b'\xef\xbb\xbf \n\n  {"text": "a"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    (chunk,) = read_chunks("-")
    assert [chunk.number(i) for i in range(3) if i not in chunk.problems] == [3]


def test_scan_of_standard_input_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'{"text": "a"}\n{"text": "b", "n": 1}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with closing(open_source("-")) as source:
        assert source.schema().names == ["text", "n"]
        assert [len(chunk) for chunk in source.chunks()] == [2]


@pytest.mark.parametrize("suffix", TEXT_BASED)
def test_byte_order_mark_is_not_data(tmp_path: Path, suffix: str) -> None:
    path = write_input(tmp_path / f"in.{suffix}", ONE_LINE_ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_good(path) == ONE_LINE_ROWS


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
@pytest.mark.parametrize("suffix", TEXT_BASED)
def test_line_ends_are_not_data(tmp_path: Path, suffix: str, end: str) -> None:
    lines = {"jsonl": ['{"text": "a"}', '{"text": "b"}'], "txt": ["a", "b"]}
    between = end or "\n"
    data = between.join(lines.get(suffix, ["text", "a", "b"])) + end
    (tmp_path / f"in.{suffix}").write_bytes(data.encode())
    assert read_good(tmp_path / f"in.{suffix}") == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize("suffix", TEXT_BASED)
def test_blank_line_between_rows_is_bad_and_after_the_last_is_none(
    tmp_path: Path, suffix: str
) -> None:
    lines = {"jsonl": '{"text": "a"}\n\n{"text": "b"}\n\n\n', "txt": "a\n\nb\n\n\n"}
    path = tmp_path / f"in.{suffix}"
    path.write_text(lines.get(suffix, "text\na\n\nb\n\n\n"))
    assert read_good(path) == [{"text": "a"}, {"text": "b"}]
    assert {row: code for row, (code, _) in read_problems(path).items()} == {2: "blank_line"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', "invalid JSON"),
        (b'["a"]', "got an array"),
        (b'"a"', "got a string"),
        (b"12", "got a number"),
        (b'{"text": NaN}', "expected text, got NaN"),
        (b'{"text": -Infinity, "x": 1}', "expected text, got NaN or infinity"),
        (b'{"text": "a"}{"text": "b"}', "one object per line"),
        (b'{"text": "a"},,', "one object per line"),
        (b'{"text": 1e999, "x": 1}', "expected text, got NaN or infinity"),
        (b'{"text": "a", "x": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"text": "a", "x": ' + b"[" * 300 + b"]" * 300 + b"}", "nested too deeply"),
        (b'{"text": "a", "text": "b"}', "same key twice"),
        (b'{"text": "\xff"}', "not valid UTF-8"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
        (b'{"text": "a", "x": {"y": ["\\uDFFF"]}}', "column 'x' has a lone surrogate"),
        (b'{"txt": "a"}', "column 'text' is missing"),
        (b'{"text": null}', "the text is missing"),
        (b'{"text": ""}', "the text is empty"),
        (b'{"text": 5}', "expected text, got int"),
        (b'{"text": [1, 2]}', "expected text, got list"),
        (b'{"text": {"a": 1}}', "expected text, got dict"),
    ],
)
def test_bad_json_row_spoils_itself_alone(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    ((row, (_, found)),) = read_problems(path).items()
    assert row == 2
    assert reason in found
    assert read_good(path) == [{"text": "before"}, {"text": "after"}]


def test_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "\\ud83d\\ude00"}\n')
    assert read_good(path) == [{"text": "😀"}]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b"only one\n", "ragged_row"),
        (b"1,two,3\n", "ragged_row"),
        (b'1,"a"b\n', "invalid_csv"),
        (b"1,\n", "invalid_prompt"),
        (b"1,\xff\n", "invalid_prompt"),
        (b"\xff,a\n", "invalid_encoding"),
    ],
)
def test_bad_csv_row_spoils_itself_alone(tmp_path: Path, row: bytes, code: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,text\n1,before\n" + row + b"3,after\n")
    assert {n: found for n, (found, _) in read_problems(path).items()} == {2: code}
    assert [record["text"] for record in read_good(path)] == ["before", "after"]


def test_csv_field_larger_than_the_modules_limit(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert len(read_good(path)[0]["text"]) == 200_000


def test_csv_of_old_macs(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,text\r1,a\r2,b\r")
    assert [record["text"] for record in read_good(path)] == ["a", "b"]


def test_undecodable_line_of_text(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"a\n\xe9\nb\n")
    assert read_problems(path)[2][0] == "invalid_encoding"
    assert read_chunks(path)[0].rejected(1)["raw"].encode("utf-8", "surrogateescape") == b"\xe9"


def write_invalid_utf8(path: Path, column: str) -> None:
    data = pa.array([b"fine", b"\xff", b"also fine"], pa.binary())
    invalid = pa.Array.from_buffers(pa.string(), 3, data.buffers())
    columns = {"text": pa.array(["a", "b", "c"]), "other": pa.array(["x", "y", "z"])}
    pq.write_table(pa.table(columns | {column: invalid}), path)


@pytest.mark.parametrize("column", ["text", "other"])
def test_undecodable_parquet_value(tmp_path: Path, column: str) -> None:
    path = tmp_path / "in.parquet"
    write_invalid_utf8(path, column)
    assert read_problems(path) == {2: ("invalid_encoding", f"column '{column}' is not valid UTF-8")}
    assert len(read_good(path)) == 2
    assert read_chunks(path)[0].rejected(1)["columns"][column] == "\udcff"


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_parquet_text_of_every_string_type(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "in.parquet"
    texts = ["a", None, "b", "", "c", "d"]
    pq.write_table(pa.table({"text": pa.array(texts, pa.string()).cast(kind)}), path)
    assert sorted(read_problems(path)) == [2, 4]
    assert [record["text"] for record in read_good(path)] == ["a", "b", "c", "d"]


def test_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for name, text in [("b", ["3"]), ("a", ["1", "2"]), ("c", ["4", None])]:
        pq.write_table(pa.table({"text": pa.array(text, pa.string())}), folder / f"{name}.parquet")
    assert [record["text"] for record in read_good(folder)] == ["1", "2", "3", "4"]
    last = read_chunks(folder)[-1]
    assert (Path(last.source).name, last.number(1)) == ("c.parquet", 2)


def test_folder_of_unlike_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "n": [1.5]}), tmp_path / "b.parquet")
    with pytest.raises(InputFileError, match=r"b\.parquet.*column 'n' is double, not int64"):
        read_chunks(tmp_path)


def test_nested_folder_is_not_silently_left_out(tmp_path: Path) -> None:
    write_input(tmp_path / "a.parquet", ROWS)
    (tmp_path / "year=2024").mkdir()
    write_input(tmp_path / "year=2024" / "b.parquet", ROWS)
    with pytest.raises(InputFileError, match="year=2024"):
        read_chunks(tmp_path)


@pytest.mark.parametrize("suffix", [*TEXT_BASED, "parquet", "arrow"])
def test_chunks_are_bounded_and_numbered(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": f"text {i}"} for i in range(1, 11)]
    chunks = read_chunks(write_input(tmp_path / f"in.{suffix}", rows), chunk_rows=4)
    assert max(map(len, chunks)) == 4
    assert [
        (chunk.number(i), text) for chunk in chunks for i, text in enumerate(chunk.texts())
    ] == [(i, f"text {i}") for i in range(1, 11)]


@pytest.mark.parametrize("suffix", ["txt", "parquet", "arrow"])
def test_long_rows_make_small_chunks(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": f"{i:09d}" * 50_000} for i in range(30)]
    chunks = read_chunks(write_input(tmp_path / f"in.{suffix}", rows))
    assert max(sum(map(len, chunk.texts())) for chunk in chunks) < 2 * rows_module.CHUNK_BYTES


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("none.csv", None, "does not exist"),
        ("in.doc", b"x", "--input-format"),
        ("in.parquet.gz", b"x", "cannot tell the format"),
        ("in.csv", b"id,txt\n1,a\n", "no column 'text', only: 'id', 'txt'"),
        ("in.csv", b"", "no column 'text', only: none"),
        ("in.tsv", b"\xef\xbb\xbf", "only: none .there is nothing in it"),
        ("in.csv", b"text,a,a\nx,1,2\n", "two columns called 'a'"),
        ("in.csv", b"text,layer_00.sign_mean\nx,1\n", "already has a column 'layer_00.sign_mean'"),
        ("in.jsonl", b'{"text": "x", "n_tokens": 1}\n', "already has a column 'n_tokens'"),
        ("in.txt.gz", gzip.compress(b"text\n" * 1000, mtime=0)[:-20], "not a complete gzip file"),
        ("in.txt.gz", b"not gzip at all", "not a complete gzip file"),
        ("in.parquet", b"PAR1 not really", "Parquet"),
        ("in.parquet", b"", "Parquet"),
        ("in.arrow", b"ARROW1 not really", "not a readable Arrow file"),
        ("in.arrow", b"", "not a readable Arrow file"),
    ],
)
def test_unusable_file_is_one_clear_error(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputFileError, match=message) as caught:
        read_chunks(tmp_path / name)
    assert name in str(caught.value)


def test_parquet_columns_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["a"], "truncated": [True]}), path)
    with pytest.raises(InputFileError, match="already has a column 'truncated'"):
        open_source(str(path))
    pq.write_table(pa.table({"text": [1]}), path)
    with pytest.raises(InputFileError, match="column 'text' holds int64, not text"):
        open_source(str(path))


def test_reserved_key_in_a_late_json_row_is_a_bad_row(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.jsonl", [{"text": "a"}, {"text": "b", "n_tokens": 3}])
    assert read_problems(path)[2][0] == "reserved_column"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt", "txt.gz", "arrow"])
def test_progress_reaches_one(tmp_path: Path, suffix: str) -> None:
    path = write_input(tmp_path / f"in.{suffix}", ONE_LINE_ROWS * 1000)
    with closing(open_source(str(path))) as source:
        shares = [source.progress() or 0.0 for _ in source.chunks()]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert source.n_read == len(ONE_LINE_ROWS) * 1000


def test_json_types_of_a_scan(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "int": 1, "mixed": 1, "wide": 1 << 60, "huge": 1 << 70, "bool": True},
        {"int": None, "text": "b", "mixed": 0.5, "wide": 2, "huge": 1, "bool": False},
        {"text": "c", "any": "x", "tree": {"a": [1]}, "lossy": (1 << 53) + 1, "null": None},
        {"text": "d", "any": 5, "tree": None, "lossy": 0.5},
        {"text": 5, "int": "this row is bad and must not count"},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with closing(open_source(str(path))) as source:
        schema = source.schema()
        (chunk,) = source.chunks()
        table = chunk.take([0, 1, 2, 3]).to_arrow(schema)
    assert {field.name: str(field.type) for field in schema} == {
        "text": "string",
        "int": "int64",
        "mixed": "double",
        "wide": "int64",
        "huge": "string",
        "bool": "bool",
        "any": "string",
        "tree": "string",
        "lossy": "string",
        "null": "string",
    }
    columns = table.to_pydict()
    assert columns["any"] == [None, None, '"x"', "5"]
    assert columns["tree"] == [None, None, '{"a": [1]}', None]
    assert columns["huge"] == [str(1 << 70), "1", None, None]
    assert columns["lossy"] == [None, None, str((1 << 53) + 1), "0.5"]
    assert columns["int"] == [1, None, None, None]
