from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from splinellm import SplineExtractor
from splinellm.cli import loading
from splinellm.errors import ModelNotFoundError
from splinellm.table import FeatureTable
from tests.cli.conftest import Result
from tests.cli.texts import ONE_BAD, ROWS
from tests.fakes import FakeExtractor
from tests.io.files import set_chunk_rows
from tests.tiny import tiny_backbone

Cli = Callable[..., Result]


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def lines(stderr: str) -> list[str]:
    return stderr.splitlines()


def test_file_to_file(cli: Cli, fake: list[FakeExtractor]) -> None:
    Path("in.jsonl").write_bytes(ROWS)
    result = cli("extract", "in.jsonl", "-o", "out.parquet")
    assert (result.code, result.stdout) == (0, b"")
    assert lines(result.stderr) == ["splinellm: 3 rows written"]
    found = FeatureTable.from_parquet("out.parquet")
    np.testing.assert_array_equal(found.values, fake[0].table(["one", "two", "three"]).values)
    assert pq.read_table("out.parquet")["id"].to_pylist() == [1, 2, 3]
    assert files() == ["in.jsonl", "out.parquet"]


def test_pipe_to_pipe_is_data_only(cli: Cli, fake: list[FakeExtractor]) -> None:
    result = cli("extract", "-", "-o", "-", stdin=ROWS)
    assert result.code == 0
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["id"] for record in records] == [1, 2, 3]
    expected = fake[0].table(["one", "two", "three"])
    assert [record["layer_00.sign_mean"] for record in records] == expected.values[:, 0].tolist()
    assert files() == []


@pytest.mark.parametrize(
    ("format_", "data"),
    [
        (None, b"one\ntwo\n"),
        ("csv", b"text\none\ntwo\n"),
        ("tsv", b"text\tb\none\t\ntwo\t\n"),
        (None, gzip.compress(b'{"text": "one"}\n{"text": "two"}\n', mtime=0)),
    ],
)
@pytest.mark.parametrize("output", ["out.csv", "out.npz", "out.parquet", "out.jsonl.gz"])
def test_standard_input_in_every_format(
    cli: Cli, fake: list[FakeExtractor], format_: str | None, data: bytes, output: str
) -> None:
    option = ["--input-format", format_] if format_ else []
    assert cli("extract", "-", "-o", output, *option, stdin=data).code == 0
    assert fake[0].seen == ["one", "two"]


@pytest.mark.parametrize("granularity", ["prompt", "prefix", "token"])
@pytest.mark.parametrize(
    ("features", "name"),
    [("sign_entropy", "sign_entropy"), ("complexity:0.4", "complexity_0.4")],
)
def test_later_statistics(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, granularity: Any, features: str, name: str
) -> None:
    # A real model: the numbers are those of the library.
    backbone = tiny_backbone()
    monkeypatch.setattr(
        loading,
        "load_extractor",
        lambda **settings: SplineExtractor(backbone, features=settings["features"]),
    )
    Path("in.txt").write_text("Hi there\n")
    options = ["--features", features, "--granularity", granularity]
    assert cli("extract", "in.txt", "-o", "out.parquet", *options).code == 0
    found = pq.read_table("out.parquet")
    names = [name for name in found.column_names if name.startswith("layer_")]
    columns = [name] if granularity == "token" else [f"{name}_mean", f"{name}_std"]
    assert names == [f"layer_{layer:02d}.{column}" for layer in range(3) for column in columns]
    expected = SplineExtractor(backbone, features=features).extract(
        ["Hi there"], granularity=granularity
    )
    np.testing.assert_array_equal(np.array([found[name] for name in names]).T, expected.values)
    assert FeatureTable.from_parquet("out.parquet").names == tuple(names)


def test_settings_reach_the_extractor(cli: Cli, fake: list[FakeExtractor]) -> None:
    Path("in.txt").write_text("a\n")
    options = (
        "--model m --layers 0,2 --features blocks:4 --max-tokens 5 --batch-tokens 77 "
        "--dtype bfloat16 --device cuda:1 --device-map auto --dimension-rule absolute "
        "--dimension-threshold 0.2 --allow-special-tokens"
    )
    assert cli("extract", "in.txt", "-o", "out.npz", *options.split()).code == 0
    assert fake[0].settings == {
        "model": "m",
        "layers": "0,2",
        "features": "blocks:4",
        "max_tokens": 5,
        "batch_tokens": 77,
        "dtype": "bfloat16",
        "device": "cuda:1",
        "device_map": "auto",
        "dimension_rule": "absolute",
        "dimension_threshold": 0.2,
        "allow_special_tokens": True,
    }
    assert fake[0].settings.keys() <= signature(SplineExtractor.from_pretrained).parameters.keys()
    # Plain values, not the command line's enumerations: they go into messages and records.
    assert all(type(v) in (str, int, float, bool) for v in fake[0].settings.values())


def test_environment_twins(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.csv").write_text("prompt\na\n\nb\n")
    for name, value in {
        "MODEL": "from-env",
        "TEXT_COLUMN": "prompt",
        "ON_ERROR": "skip",
        "QUIET": "1",
        "MAX_TOKENS": "7",
    }.items():
        monkeypatch.setenv(f"SPLINELLM_{name}", value)
    result = cli("extract", "in.csv", "-o", "out.csv", "--max-tokens", "9")
    assert result.code == 0
    assert fake[0].settings["model"] == "from-env"
    assert fake[0].settings["max_tokens"] == 9  # the command line wins
    assert fake[0].seen == ["a", "b"]


def test_bad_row_fails_with_file_row_and_reason(cli: Cli) -> None:
    Path("in.jsonl").write_bytes(ONE_BAD)
    result = cli("extract", "in.jsonl", "-o", "out.csv")
    assert result.code == 1
    (line,) = lines(result.stderr)
    assert line.startswith("splinellm: error: in.jsonl: row 2: column 'text': the text is empty")
    assert [path.name for path in Path().iterdir()] == ["in.jsonl"]


def test_skip_says_how_many_and_where(cli: Cli) -> None:
    Path("in.jsonl").write_bytes(ONE_BAD)
    result = cli("extract", "in.jsonl", "-o", "out.csv", "--on-error", "skip", "--quiet")
    assert result.code == 0
    assert lines(result.stderr) == [
        "splinellm: 2 rows written, 1 rejected, see out.csv.rejects.jsonl"
    ]
    assert json.loads(Path("out.csv.rejects.jsonl").read_text())["row"] == 2


def test_rejects_of_a_pipe_are_json_lines_on_stderr(cli: Cli) -> None:
    result = cli("extract", "-", "-o", "-", "--on-error", "skip", stdin=ONE_BAD + b"\xff\n")
    assert result.code == 0
    assert len(result.stdout.splitlines()) == 2
    first, second, summary = lines(result.stderr)
    assert json.loads(first)["columns"] == {"text": ""}
    assert json.loads(second)["row"] == 4
    assert summary == "splinellm: 2 rows written, 2 rejected, see above"


def test_bad_row_of_a_pipe(cli: Cli) -> None:
    result = cli("extract", "-", "-o", "-", stdin=ONE_BAD)
    assert result.code == 1
    assert len(result.stdout.splitlines()) == 1
    assert "stdin: row 2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'INPUT...'. To read what is piped in, give - as INPUT, and -o -"),
        (["in.txt"], "Missing option"),
        (["in.txt", "-o", "out.xlsx"], "cannot write 'out.xlsx': unknown suffix"),
        (["in.txt", "-o", "out.parquet.gz"], "unknown suffix"),
        (["in.txt", "-o", "in.txt.csv", "--layers", "3-1"], "runs backwards"),
        (["in.txt", "-o", "out.csv", "--layers", "0-999999999999"], "'--layers'"),
        (["in.txt", "-o", "out.csv", "--layers", ""], "cannot read layer list"),
        (["in.txt", "-o", "out.csv", "--features", "sing_mean"], "unknown feature 'sing_mean'"),
        (["in.txt", "-o", "out.csv", "--device", "gpu"], "'gpu' is none of"),
        (["in.txt", "-o", "out.csv", "--dtype", "int8"], "'int8'"),
        (["in.txt", "-o", "out.csv", "--max-tokens", "0"], "'--max-tokens'"),
        (["in.txt", "-o", "out.csv", "--dimension-threshold", "1"], "not between 0 and 1"),
        (["in.txt", "-o", "out.csv", "--dimension-threshold", "nan"], "not between 0 and 1"),
        (["in.txt", "-o", "out.csv", "--on-error", "ignore"], "'ignore'"),
        (["in.txt", "-o", "out.csv", "--input-format", "xls"], "'xls' is none of csv, tsv, jsonl"),
        (["in.txt", "-o", "out.csv", "--delimiter", "::"], "'::' is no character"),
        (["in.txt", "-o", "out.csv", "--encoding", "utf-9"], "no text encoding 'utf-9'"),
        (["in.txt", "-o", "out.csv", "--granularity", "word"], "'word'"),
        (["in.txt", "-o", "out.csv", "--dtype", "x"], "'SPLINELLM_DTYPE'): 'x' is not one of"),
        (["in.txt", "-o", "out.csv", "--nonsense"], "--nonsense"),
        (["in.jsonl", "-o", "in.jsonl"], "would replace the input"),
    ],
)
def test_bad_usage_is_one_line_and_2(
    cli: Cli, fake: list[FakeExtractor], arguments: list[str], message: str
) -> None:
    Path("in.txt").write_text("a\n")
    Path("in.jsonl").write_bytes(ROWS)
    result = cli("extract", *arguments)
    assert (result.code, result.stdout) == (2, b"")
    (line,) = lines(result.stderr)
    assert line.startswith("splinellm: error: ")
    assert message in line
    assert not fake
    assert files() == ["in.jsonl", "in.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv", "-o", "out.csv"], "'none.csv' does not exist"),
        (["in.unknown", "-o", "out.csv"], "--input-format"),
        (["in.csv", "-o", "out.csv"], "has no column 'text', only: 'a b'"),
        (["in.txt", "-o", "in.txt/out.csv"], "cannot write in.txt/out.csv: "),
    ],
)
def test_library_errors_are_one_line_and_1_before_the_model_loads(
    cli: Cli, fake: list[FakeExtractor], arguments: list[str], message: str
) -> None:
    Path("in.txt").write_text("a\n")
    Path("in.csv").write_text('"a\nb"\n1\n')
    result = cli("extract", *arguments)
    assert (result.code, result.stdout) == (1, b"")
    (line,) = lines(result.stderr)
    assert line.startswith("splinellm: error: ")
    assert message in line
    assert not fake


def test_model_that_does_not_load_leaves_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**_settings: object) -> None:
        raise ModelNotFoundError("no model 'x'")

    monkeypatch.setattr(loading, "load_extractor", load)
    Path("in.txt").write_text("a\n")
    result = cli("extract", "in.txt", "-o", "out.csv")
    assert (result.code, result.stderr) == (1, "splinellm: error: no model 'x'\n")
    assert files() == ["in.txt"]


@pytest.mark.parametrize("way", ["option", "environment"])
def test_how_a_file_is_read_can_be_told(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    Path("in.csv").write_bytes("id^text^other^n_tokens\n1^na\xefve^x^y\n".encode("latin-1"))
    told = {"columns": "id, other", "delimiter": "^", "encoding": "cp1252"}
    options = [f"--{name}={value}" for name, value in told.items()]
    if way == "environment":
        for name, value in told.items():
            monkeypatch.setenv(f"SPLINELLM_{name.upper()}", value)
        options = []
    assert cli("extract", "in.csv", "-o", "-", *options).code == 0
    assert fake[0].seen == ["naïve"]
    record = json.loads(cli("extract", "in.csv", "-o", "-", *options).stdout)
    assert list(record)[:4] == ["id", "text", "other", "n_tokens"]
    assert record["n_tokens"] == 5


@pytest.mark.parametrize("name", ["tab", "TAB", "\\t", "\t"])
def test_delimiter_by_name(cli: Cli, fake: list[FakeExtractor], name: str) -> None:
    Path("in.csv").write_text("id\ttext\n1\ta,b\n")
    assert cli("extract", "in.csv", "-o", "out.npz", "--delimiter", name).code == 0
    assert fake[0].seen == ["a,b"]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signal_says_what_is_kept(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, number: int, code: int, word: str
) -> None:
    class Stopped(FakeExtractor):
        def extract_valid(self, prompts, **options):  # type: ignore[no-untyped-def]
            if "three" in prompts:
                os.kill(os.getpid(), number)
            return super().extract_valid(prompts, **options)

    set_chunk_rows(monkeypatch, 2)
    monkeypatch.setattr(loading, "load_extractor", lambda **_settings: Stopped())
    Path("in.jsonl").write_bytes(ROWS)
    before = signal.getsignal(number)
    result = cli("extract", "in.jsonl", "-o", "out.csv")
    assert result.code == code
    kept = "2 rows are in out.csv.partial, --resume goes on with them"
    assert lines(result.stderr) == [f"splinellm: {word}; {kept}"]
    assert signal.getsignal(number) is before


def test_bugs_are_not_swallowed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ZeroDivisionError("a bug")
    monkeypatch.setattr(
        loading, "load_extractor", lambda **_settings: FakeExtractor(raises={"three": error})
    )
    Path("in.jsonl").write_bytes(ROWS)
    with pytest.raises(ZeroDivisionError):
        cli("extract", "in.jsonl", "-o", "out.csv")
