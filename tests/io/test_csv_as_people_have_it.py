"""CSV with other delimiters, headers and quotes than the standard's."""

from __future__ import annotations

from pathlib import Path

import pytest

from splinellm.errors import ConfigurationError, InputFileError
from splinellm.io import csv_reader
from tests.io.files import read_chunks, read_good, read_problems, run


def write(folder: Path, text: str, suffix: str = "csv") -> Path:
    path = folder / f"in.{suffix}"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_header_makes_the_delimiter_certain(tmp_path: Path, suffix: str, mark: str) -> None:
    rows = ["\ufeffid,text,price", '1,"a,b;c\td|e",2', '2,"two\nlines",3']
    text = "\r\n".join(row.replace(",", mark) if "a,b" not in row else row for row in rows)
    text = text.replace('1,"a,b;c\td|e",2', f'1{mark}"a,b;c\td|e"{mark}2') + "\r\n"
    assert read_good(write(tmp_path, text, suffix)) == [
        {"id": "1", "text": "a,b;c\td|e", "price": "2"},
        {"id": "2", "text": "two\nlines", "price": "3"},
    ]


def test_decimal_commas_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path, "text;score\nhello, you;0,5\n")
    assert read_good(path) == [{"text": "hello, you", "score": "0,5"}]


def test_line_that_excel_writes_names_the_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path, "sep=;\r\nid;text\r\n1;a,b\r\n")
    assert read_good(path) == [{"id": "1", "text": "a,b"}]


def test_told_delimiter_is_the_one(tmp_path: Path) -> None:
    path = write(tmp_path, "id^text\n1^a,b\n")
    assert read_good(path, delimiter="^") == [{"id": "1", "text": "a,b"}]
    with pytest.raises(InputFileError, match="only: 'id', 'text' "):
        read_chunks(path, text_column="prompt", delimiter="^")
    for wrong in ('"', "", "::", "\n"):
        with pytest.raises(ConfigurationError, match="one character"):
            read_chunks(path, delimiter=wrong)
    with pytest.raises(ConfigurationError, match="not for txt"):
        read_chunks(write(tmp_path, "a\n", "txt"), delimiter=";")


def test_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path, 'text\nhello\n"a, b"\n')
    assert read_good(path) == [{"text": "hello"}, {"text": "a, b"}]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("id,Text", "did you mean --text-column 'Text'"),
        ("id, text", "did you mean --text-column ' text'"),
        ("ID;Text", r"only: 'ID', 'Text' \(did you mean --text-column 'Text'"),
        ("id,txet", "--text-column names"),
        ("id;prompt", r"only: 'id', 'prompt' \(read with delimiter semicolon"),
        ("# made by hand,\nid,text", "remove comments"),
        ("id,text,,\nx", None),
        ("id,a,a,text", "two columns called 'a' .*--columns"),
        ("id,,,text", "two columns without a name .*--columns"),
        ('id,"text', "header of .* cannot be read: a quote is opened"),
    ],
)
def test_header_that_needs_a_word(tmp_path: Path, header: str, message: str | None) -> None:
    path = write(tmp_path, f"{header}\n")
    if message is None:
        assert read_chunks(path)
        return
    with pytest.raises(InputFileError, match=message) as caught:
        read_chunks(path)
    assert "in.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "text"), [("csv", "id,messages\n1,x\n"), ("jsonl", '{"id": 1, "messages": "x"}\n')]
)
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("mesages", "did you mean --messages-column 'messages'"),
        ("chat", "--messages-column names the one with the conversations"),
    ],
)
def test_the_option_of_conversations_is_the_one_that_is_told(
    tmp_path: Path, suffix: str, text: str, wanted: str, message: str
) -> None:
    path = write(tmp_path, text, suffix)
    if suffix == "csv":
        with pytest.raises(InputFileError, match=message):
            read_chunks(path, text_column=wanted, holds_messages=True)
        return
    ((_, reason),) = read_problems(path, text_column=wanted, holds_messages=True).values()
    assert message in reason


def test_trailing_columns_without_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, "id,text,,\n1,a,,\n2,b\n3,c,\n4,d,,x\n5,e,,,\n")
    assert read_good(path) == [{"id": i, "text": t} for i, t in zip("123", "abc", strict=True)]
    assert read_problems(path) == {
        4: ("ragged_row", "a value is in a column that has no name"),
        5: ("ragged_row", "5 values for 2 columns"),
    }


def test_columns_that_are_not_wanted_are_not_in_the_way(tmp_path: Path) -> None:
    path = write(tmp_path, "a,n_tokens,a,text,é\n1,2,3,x,\u00e9\n")
    path.write_bytes(path.read_bytes() + b"1,2,3,y,\xff\n")
    assert read_good(path, columns=[]) == [{"text": "x"}, {"text": "y"}]
    assert read_good(path, columns=["é"]) == [{"text": "x", "é": "é"}]
    with pytest.raises(InputFileError, match=r"no column 'b', only: 'a'.*--columns"):
        read_chunks(path, columns=["b"])


@pytest.mark.parametrize("output", ["csv", "jsonl", "parquet", "npz"])
def test_header_only_is_an_empty_output(tmp_path: Path, output: str) -> None:
    path = write(tmp_path, "id;text\r\n")
    run(path, tmp_path / f"out.{output}")
    if output == "csv":
        assert (tmp_path / "out.csv").read_text().startswith("id,text,n_tokens,")


def test_stray_quote_costs_its_own_line_alone(tmp_path: Path) -> None:
    body = "".join(f"{i},row {i}\n" for i in range(3, 20))
    path = write(tmp_path, f'id,text\n1,hello\n2,"oops\n{body}')
    assert [r["id"] for r in read_good(path)] == ["1", *map(str, range(3, 20))]
    ((row, (code, reason)),) = read_problems(path).items()
    assert (row, code) == (2, "invalid_csv")
    assert "18 lines" in reason
    (chunk,) = read_chunks(path)
    assert chunk.rejected(1) == {"raw": '2,"oops'}


def test_stray_quotes_everywhere(tmp_path: Path) -> None:
    lines = [f'{i},"open {i}' if i % 3 == 0 else f'{i},"fine, {i}"' for i in range(30)]
    path = write(tmp_path, "id,text\n" + "\n".join(lines) + "\n")
    good = [record["id"] for record in read_good(path)]
    assert good == [str(i) for i in range(30) if i % 3]
    assert sorted(read_problems(path)) == [i + 1 for i in range(0, 30, 3)]


def test_record_is_bounded_in_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reader, "_MOST_LINES", 50)
    rows = "".join(f"{i},row {i}\n" for i in range(1, 200))
    path = write(tmp_path, f'id,text\n0,"oops\n{rows}')
    assert len(read_good(path)) == 199
    assert "not closed within 50 lines" in read_problems(path)[1][1]


def test_long_text_in_quotes_is_read(tmp_path: Path) -> None:
    text = "\n".join(f"line {i} of a long document, with commas, too" for i in range(5000))
    path = write(tmp_path, f'id,text\n1,"{text}"\n2,b\n')
    assert [record["text"] for record in read_good(path)] == [text, "b"]


def test_quotes_that_close_too_late_are_told_of(tmp_path: Path) -> None:
    rows = "".join(f"{i},row {i}\n" for i in range(3, 20))
    path = write(tmp_path, f'id,text\n1,a\n2,"oops\n{rows}20,end"\n21,b\n')
    with pytest.warns(UserWarning, match="row 2 holds 19 lines in quotes"):
        good = read_good(path)
    assert [record["id"] for record in good] == ["1", "2", "21"]


def test_header_in_another_encoding_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes("schlüssel,text\n1,hello\n".encode("cp1252"))
    with pytest.raises(InputFileError, match=r"header of .*in\.csv.* column 1 .*--encoding cp1252"):
        read_chunks(path)
    assert read_good(path, columns=[]) == [{"text": "hello"}]
    assert read_good(path, encoding="cp1252") == [{"schlüssel": "1", "text": "hello"}]


def test_header_of_one_strange_name_asks_for_the_delimiter(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"only: 'id\^text' .*--delimiter names it"):
        read_chunks(write(tmp_path, "id^text\n1^hello\n"))


@pytest.mark.parametrize("form", ["{i},{text}", "{text},{i}"])
@pytest.mark.parametrize("n_lines", [2, 3, 10, 40])
def test_two_stray_quotes_do_not_swallow_rows_without_a_word(
    tmp_path: Path, form: str, n_lines: int
) -> None:
    quoted = {20: '"oops', 20 + n_lines - 1: 'oops"'}
    if form.startswith("{text}"):
        quoted[20 + n_lines - 1] = 'x"'
    rows = [form.format(i=i, text=quoted.get(i, f"row {i}")) for i in range(100)]
    path = write(tmp_path, "\n".join([form.format(i="id", text="text"), *rows]) + "\n")
    with pytest.warns(UserWarning, match=f"row 21 holds {n_lines} lines .* a quote too much"):
        assert len(read_good(path)) == 100 - n_lines + 1


def test_texts_of_a_few_lines_are_no_reason_to_worry(tmp_path: Path) -> None:
    rows = [f'{i},"Dear all,\nthanks, again.\nYours, A"' for i in range(20)]
    assert len(read_good(write(tmp_path, "id,text\n" + "\n".join(rows)))) == 20
    poem = '"' + "\n".join(f"line {i}" for i in range(40)) + '"'
    assert len(read_good(write(tmp_path, "text\n" + f"{poem}\nshort\n" * 20))) == 40


def test_single_column_whose_quote_swallows_lines(tmp_path: Path) -> None:
    rows = [f"row {i}" for i in range(2000)]
    rows[50], rows[900] = '"oops', 'oops"'
    path = write(tmp_path, "text\n" + "\n".join(rows) + "\n")
    with pytest.warns(UserWarning, match="row 51 holds 851 lines in quotes, while nearly all"):
        assert len(read_good(path)) == 2000 - 850
