"""Standard input: rows leave while others are still to come, and tables are no prose."""

from __future__ import annotations

import gzip
import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from splinellm.errors import InputFileError
from splinellm.io.recognition import recognised
from splinellm.io.rows import ReadOptions
from tests.cli.test_process import start

PROSE = ["Hello, world\nSo it is, and was.\n", "A text\n", "yes, no\nno\n", "Hi,there\nplain\n"]


def _running(tmp_path: Path, *options: str) -> subprocess.Popen[Any]:
    return start(
        *("extract", "-", "-o", "-", "-q", *options),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=False,
    )


@pytest.mark.parametrize("kind", ["jsonl", "txt", "csv", "gzip"])
def test_rows_leave_while_the_pipe_is_open(tmp_path: Path, kind: str) -> None:
    header = b"id,text\n" if kind == "csv" else b""
    rows = {
        "jsonl": [b'{"text": "one"}\n', b'{"text": "two"}\n'],
        "txt": [b"one\n", b"two\n"],
        "csv": [b"1,one\n", b"2,two\n"],
        "gzip": [b'{"text": "one"}\n', b'{"text": "two"}\n'],
    }[kind]
    packer = zlib.compressobj(wbits=31)
    process = _running(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    for row, text in zip(rows, ["one", "two"], strict=True):
        data = header + row
        header = b""
        if kind == "gzip":
            data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        process.stdin.write(data)
        process.stdin.flush()
        # Without the end of the input: a reader that waits for it would wait for ever.
        assert json.loads(process.stdout.readline())["text"] == text
    process.stdin.write(packer.flush() if kind == "gzip" else b"")
    process.stdin.close()
    with process.stdout, process.stderr:
        assert process.stdout.read() == b""
    assert process.wait(60) == 0


def test_reader_that_is_gone_ends_a_run_that_waits(tmp_path: Path) -> None:
    process = _running(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stderr:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"two\n")
        process.stdin.flush()
        assert process.wait(60) == 141  # though more may be to come
        assert b"Fatal" not in process.stderr.read()


def kind(text: str, **options: Any) -> str:
    return recognised(text.encode(), None, ReadOptions(**options))


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        ("id,text\n1,a\n", "csv"),
        ("text,label\n", "csv"),
        ("id;text\n1;a\n", "csv"),
        ("id\ttext\n1\ta\n", "tsv"),
        ('"id","text","What do you think of all of this, then?"\n', "csv"),
        (",text,label\n0,a,b\n", "csv"),
        ("sep=;\nid;text\n", "csv"),
        ("\ufeffid,text\r\n1,a\r\n", "csv"),
        ('{"text": "a, b"}\n', "jsonl"),
        *((text, "txt") for text in PROSE),
    ],
)
def test_format_is_told_by_the_beginning(text: str, format_: str) -> None:
    assert kind(text) == format_


def test_delimiter_says_that_it_is_csv() -> None:
    assert kind("a^b\n", delimiter="^") == "csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,prompt,label\n1,a,0\n", "header has 3 columns, none called 'text'.*--text-column"),
        ("id;Text\n1;a\n", "did you mean --text-column 'Text'"),
        ("id, text, label\n1, a, 0\n", "header has 3 columns"),
        ("text\nhello\n", "one column 'text'.*--input-format csv.*--input-format txt"),
        ("1,hello,0\n2,there,1\n", "3 columns without a header.*--input-format csv"),
        ("id\tprompt\n1\ta\n", "header has 2 columns"),
    ],
)
def test_table_is_refused_with_the_option_to_give(text: str, message: str) -> None:
    with pytest.raises(InputFileError, match=message):
        kind(text)


def test_standard_input_of_a_table(tmp_path: Path) -> None:
    for data in (b"id,text\n1,one\n", gzip.compress(b"id,text\n1,one\n")):
        process = _running(tmp_path)
        out, _ = process.communicate(data, timeout=60)
        assert json.loads(out)["id"] == "1"  # from pipe to pipe, nobody knows what is to come
        process = _running(tmp_path, "--csv-types", "infer")
        out, _ = process.communicate(data, timeout=60)
        assert json.loads(out)["id"] == 1
