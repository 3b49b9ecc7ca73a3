"""Files in other encodings than UTF-8: read where it is certain, else refused with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from splinellm.errors import ConfigurationError, InputFileError
from splinellm.io.byte_stream import ByteStream
from tests.io.files import read_chunks, read_good, read_problems

TEXTS = ["hello world", "zweite Zeile: äöü", "Привет, мир", "日本語 テキスト", "👍 emoji"]
SUFFIXES = ["txt", "csv", "tsv", "jsonl"]


def content(suffix: str, texts: list[str], end: str = "\r\n") -> str:
    rows = {
        "txt": texts,
        "csv": ["text", *(f'"{text}"' for text in texts)],
        "tsv": ["text", *texts],
        "jsonl": [json.dumps({"text": text}, ensure_ascii=False) for text in texts],
    }[suffix]
    return "".join(row + end for row in rows)


def texts_of(path: Path | str, **options: str) -> list[str]:
    return [record["text"] for record in read_good(path, **options)]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be+mark"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_byte_order_mark_tells(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    encoding: str,
    compress: bool,
) -> None:
    text = content(suffix, TEXTS)
    if encoding.endswith("+mark"):
        text, encoding = "\ufeff" + text, encoding.removesuffix("+mark")
    data = text.encode(encoding)
    data = gzip.compress(data) if compress else data
    path = tmp_path / (f"in.{suffix}" + (".gz" if compress else ""))
    path.write_bytes(data)
    assert texts_of(path) == TEXTS
    assert not read_problems(path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    told = {} if suffix in ("txt", "jsonl") else {"format": suffix}
    assert texts_of("-", **told) == TEXTS


@pytest.mark.parametrize("text", ["hello world", "hi", "Привет, мир", "日本語 テキスト です"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_a_mark_it_is_refused_by_name_and_read_if_told(
    tmp_path: Path, suffix: str, encoding: str, text: str
) -> None:
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(content(suffix, [text] * 3).encode(encoding))
    with pytest.raises(InputFileError, match=f"{encoding.upper()}.*--encoding {encoding}"):
        read_chunks(path)
    assert texts_of(path, encoding=encoding) == [text] * 3


def test_nul_in_utf8_is_text(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    texts = ["a\0b", "\0long text", "c"] * 5
    path.write_bytes("\n".join(texts).encode())
    assert texts_of(path) == texts


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "mac-roman", "shift_jis", "koi8-r"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_encodings_are_read_if_told(tmp_path: Path, suffix: str, encoding: str) -> None:
    text = {"shift_jis": "日本", "koi8-r": "Привет"}.get(encoding, "naïve café")
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(content(suffix, ["plain", text]).encode(encoding))
    ((row, (_, reason)),) = read_problems(path).items()
    assert row == 2
    assert "--encoding cp1252 reads it" in reason
    assert texts_of(path) == ["plain"]
    assert texts_of(path, encoding=encoding) == ["plain", text]


def test_byte_that_the_told_encoding_lacks_spoils_its_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"caf\xe9\nbad \x81\nc\n")
    assert texts_of(path, encoding="cp1252") == ["café", "c"]
    ((row, (code, reason)),) = read_problems(path, encoding="cp1252").items()
    assert (row, code) == (2, "invalid_encoding")
    assert "not valid CP1252" in reason


def test_utf16_that_is_cut_off_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes("hello\n".encode("utf-16")[:-1])
    with pytest.raises(InputFileError, match=r"in\.txt' is not valid UTF-16"):
        read_chunks(path)


@pytest.mark.parametrize("name", ["no-such", "rot13", "base64", ""])
def test_unknown_encoding(tmp_path: Path, name: str) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(ConfigurationError, match="there is no text encoding"):
        read_chunks(tmp_path / "in.txt", encoding=name)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_line_ends_of_old_macs(tmp_path: Path, suffix: str, encoding: str) -> None:
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(content(suffix, TEXTS, end="\r").encode(encoding))
    assert texts_of(path) == TEXTS
    path.write_bytes(content(suffix, TEXTS, end="\r").rstrip("\r").encode(encoding))
    assert texts_of(path) == TEXTS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", ["in.txt", "in.txt.gz"])
@pytest.mark.parametrize(
    "first",
    [
        "a" * 65_535,  # of the first 64 KiB, the end of the line is half within
        "a" * 32_766,  # in UTF-16
        "a" * 60_000 + "\r" + "b" * 60_000,  # as programs write that draw over a line
    ],
)
def test_long_first_line_tells_nothing_of_line_ends(
    tmp_path: Path, name: str, encoding: str, first: str
) -> None:
    path = tmp_path / name
    packed = f"{first}\r\nsecond\r\nthird\r\n".encode(encoding)
    path.write_bytes(gzip.compress(packed) if name.endswith(".gz") else packed)
    assert texts_of(path) == [first, "second", "third"]


def test_pipe_whose_line_ends_change_is_one_clear_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    threading.Thread(target=_fill, args=(write, b"a\r" * 40_000 + b"second\nthird\n")).start()
    stream = ByteStream("pipe", os.fdopen(read, "rb"), gzipped=False)
    said = "carriage return, and others that end in a line feed"
    with closing(stream), pytest.raises(InputFileError, match=said):
        list(stream.lines())


def _fill(descriptor: int, content: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_encoding_that_needs_a_mark_says_which_one_does_not(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes("hello\nyou\n".encode(f"{encoding}-be"))
    with pytest.raises(InputFileError, match=f"no byte order mark.*--encoding {encoding}-be"):
        read_chunks(path, encoding=encoding)
    path.write_bytes("hello\nyou\n".encode(encoding))
    assert texts_of(path, encoding=encoding) == ["hello", "you"]
    path.write_bytes(b"")
    assert texts_of(path, encoding=encoding) == []


@pytest.mark.parametrize("name", ["idna", "punycode2", "base64", "hex"])
def test_name_that_is_no_encoding_of_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "in.txt").write_text("hello\n")
    with pytest.raises(ConfigurationError, match=f"no text encoding '{name}'"):
        read_chunks(tmp_path / "in.txt", encoding=name)


def test_utf16_appended_to_utf8_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"plain text\n" * 2000 + "hello\nyou there\n".encode("utf-16-le"))
    with pytest.warns(UserWarning, match=r"in\.txt'?: 2 texts have a NUL .*UTF-16"):
        texts_of(path)


@pytest.mark.parametrize("head", ["id,text", '"text";"id"', "id\ttext\tlabel"])
def test_table_that_is_read_as_lines_is_told_of(tmp_path: Path, head: str) -> None:
    path = tmp_path / "in.txt"
    path.write_text(f"{head}\n1,hello\n")
    with pytest.warns(UserWarning, match=r"header of a table .*--input-format csv"):
        assert texts_of(path)[0] == head
    path.write_text("a text, and more\ntext\n")
    assert len(texts_of(path)) == 2


@pytest.mark.parametrize("suffix", ["csv", "txt", "jsonl"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"text\nhello\n"), r"packed with gzip.*name it \.gz"),
        (bz2.compress(b"text\nhello\n"), "packed with bzip2"),
        (lzma.compress(b"text\nhello\n"), "packed with xz"),
        (b"PK\x03\x04" + b"hello\n" * 9, "packed with zip, as .xlsx are"),
        (b"PAR1\0hello\n", "is parquet, not text.*--input-format parquet"),
        (b"ARROW1\0\0hello\n", "is arrow, not text.*--input-format arrow"),
    ],
)
def test_file_that_is_no_text_is_refused_by_name(
    tmp_path: Path, suffix: str, data: bytes, message: str
) -> None:
    (tmp_path / f"in.{suffix}").write_bytes(data)
    with pytest.raises(InputFileError, match=message):
        read_chunks(tmp_path / f"in.{suffix}")
