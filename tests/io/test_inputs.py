"""Several files as one input: arguments, patterns, nested folders, and what they must agree on."""

from __future__ import annotations

import json
import os
import shlex
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from splinellm.errors import ConfigurationError, InputFileError, ResumeError
from splinellm.io.feature_reader import open_features
from splinellm.io.formats import input_format
from splinellm.io.inputs import find_input
from splinellm.io.readers import open_source
from splinellm.io.shares import Share
from tests.fakes import FakeExtractor
from tests.io.files import read_chunks, read_good, run, set_chunk_rows, write_input

SUFFIXES = ["csv", "tsv", "jsonl", "jsonl.gz", "txt", "parquet", "arrow"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, *rows: dict[str, Any]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_input(Path(path), list(rows))
    return path


def named(given: Any, kind: str | None = None) -> list[str]:
    return [str(file) for file in find_input(given, kind).files]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_are_read_one_after_the_other(here: Path, suffix: str) -> None:
    paths = [write(f"{name}.{suffix}", {"text": name}, {"text": name * 2}) for name in "bca"]
    with closing(open_source(paths)) as source:
        found = [(c.source, c.number(0), c.texts()) for c in source.chunks()]
        assert (source.n_read, source.progress()) == (6, 1.0)
    assert found == [(f"{name}.{suffix}", 1, [name, name * 2]) for name in "bca"]
    assert read_good([*paths]) == read_good(paths[:1]) + read_good(paths[1:])


def test_pattern_is_sorted_and_knows_folders(here: Path) -> None:
    for path in ("d/b.csv", "d/a.csv", "d/x/c.csv", "d/x/y/d.csv", "d/_old/e.csv", "d/.f.csv"):
        write(path, {"text": path})
    write("d/out.csv.partial/part.csv", {"text": "p"})
    assert named("d/*.csv") == ["d/a.csv", "d/b.csv"]
    assert named("d/**/*.csv") == ["d/a.csv", "d/b.csv", "d/x/c.csv", "d/x/y/d.csv"]
    assert named("d") == named("d/**/*.csv")
    assert named("d/x*") == ["d/x/c.csv", "d/x/y/d.csv"]  # folders, if there are no files
    assert named(["d/x/c.csv", "d/*.csv"]) == ["d/x/c.csv", "d/a.csv", "d/b.csv"]
    assert named("[ab].csv".replace("[", "d/[")) == ["d/a.csv", "d/b.csv"]
    write("d/[1].csv", {"text": "brackets"})
    assert named("d/[1].csv") == ["d/[1].csv"]  # a file of this very name


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["a.csv", "a.csv"], ConfigurationError, "'a.csv' is given twice"),
        (["a.csv", "./*.csv"], ConfigurationError, "a.csv' is given twice"),
        (["link.csv", "a.csv"], ConfigurationError, "'a.csv' is given twice"),
        (["a.csv", "-"], ConfigurationError, "cannot be read together with files"),
        (["-", "-"], ConfigurationError, "cannot be read together with files"),
        (
            ["a.csv", "b.jsonl"],
            InputFileError,
            r"'b.jsonl' is jsonl, and 'a.csv' is csv \(a run reads one format: a.csv -o OUT/csv.p",
        ),
        ("no*.csv", InputFileError, r"no file matches 'no\*.csv'"),
        (
            "mixed",
            InputFileError,
            r"several formats: csv, txt \(.*: mixed --input-format csv -o OUT/csv.parquet, then",
        ),
        ("empty", InputFileError, "folder 'empty' has no input files"),
        (["a.csv", "what.xyz"], InputFileError, "cannot tell the format of 'what.xyz'"),
    ],
)
def test_what_cannot_be_one_input(
    here: Path, given: Any, error: type[Exception], message: str
) -> None:
    for path in ("a.csv", "b.jsonl", "mixed/a.csv", "mixed/a.txt"):
        write(path, {"text": "x"})
    Path("link.csv").symlink_to("a.csv")
    Path("empty/_inner").mkdir(parents=True)
    with pytest.raises(error, match=message):
        find_input(given)


def test_what_the_message_says_to_give_is_every_file_once(here: Path) -> None:
    """``--input-format`` was its advice, which helps with no pattern."""
    paths = ["a.csv", "b.tsv", "c.jsonl", "d.parquet", "e.jsonl.gz", "g.h.csv"]
    for path in paths:
        write(f"d/{path}", {"text": "x"})
    with pytest.raises(InputFileError) as caught:
        find_input("d/*")
    told = str(caught.value).partition("one format: ")[2].partition(";")[0].split(", then ")
    read = []
    for one in told:
        *given, _, output = shlex.split(one)
        files = find_input(given).files
        assert {input_format(str(file)).name for file in files} >= {Path(output).stem}
        read += [file.path.name for file in files]
    assert sorted(read) == paths


def test_format_chooses_among_the_files_of_a_folder(here: Path) -> None:
    write("d/a.csv", {"text": "x"})
    write("d/b.txt", {"text": "y"})
    write("d/a.csv.rejects.jsonl", {"row": 1})
    assert named("d", "txt") == ["d/b.txt"]
    write("d/c.parquet", {"text": "z"})
    with pytest.warns(UserWarning, match=r"are read, 'd/a\.csv' and 1 more are not"):
        assert named("d") == ["d/c.parquet"]
    Path("d/b.txt").unlink()
    with pytest.warns(
        UserWarning, match=r"are read, 'd/a\.csv' is not \(.*d --input-format csv -o"
    ):
        assert named("d") == ["d/c.parquet"]
    Path("d/a.csv").unlink()
    assert named("d") == ["d/c.parquet"]  # what a run left there is no data
    with pytest.raises(InputFileError, match="folder 'd' has no jsonl files"):
        find_input("d", "jsonl")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipe_is_read_alone(here: Path) -> None:
    os.mkfifo("p.csv")
    write("a.csv", {"text": "x"})
    with pytest.raises(ConfigurationError, match=r"'p\.csv' is a pipe and cannot be read together"):
        find_input(["a.csv", "p.csv"])


def test_types_of_csv_are_those_of_all_files(here: Path) -> None:
    write("a.csv", {"text": "x", "n": "1", "f": "1", "s": "7", "b": "true"})
    write("b.csv", {"text": "y", "n": "2", "f": "2.5", "s": "007", "b": ""})
    with closing(open_source(["a.csv", "b.csv"])) as source:
        schema = source.schema()
        tables = [chunk.to_arrow(schema) for chunk in source.chunks()]
    assert [str(field.type) for field in schema] == ["string", "int64", "double", "string", "bool"]
    rows = [row for table in tables for row in table.to_pylist()]
    assert [list(row.values()) for row in rows] == [
        ["x", 1, 1.0, "7", True],
        ["y", 2, 2.5, "007", None],
    ]


def test_columns_of_json_are_those_of_all_files(here: Path) -> None:
    write("a.jsonl", {"text": "x", "n": 1})
    write("b.jsonl", {"text": "y", "n": 2.5, "late": "z"})
    with closing(open_source(["a.jsonl", "b.jsonl"])) as source:
        schema = source.schema()
        rows = [row for chunk in source.chunks() for row in chunk.to_arrow(schema).to_pylist()]
    assert str(schema.field("n").type) == "double"
    assert rows[0] == {"text": "x", "n": 1.0, "late": None}
    with pytest.warns(UserWarning, match="no row has column 'never'"):
        assert read_good(["a.jsonl", "b.jsonl"], columns=["late", "never"])[1]["late"] == "z"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_that_differ_name_file_and_column(here: Path, suffix: str) -> None:
    write(f"a.{suffix}", {"text": "x", "n": "1"})
    write(f"b.{suffix}", {"n": "1", "text": "y"})
    assert read_good([f"a.{suffix}", f"b.{suffix}"])[1] == {"text": "y", "n": "1"}
    write(f"c.{suffix}", {"text": "y"})
    write(f"d.{suffix}", {"text": "y", "n": "1", "extra": "1"})
    unlike = rf"does not have the columns of 'a.{suffix}': column"
    with pytest.raises(InputFileError, match=rf"'c.{suffix}' {unlike} 'n' is missing"):
        open_source([f"a.{suffix}", f"c.{suffix}"])
    with pytest.raises(InputFileError, match=rf"'d.{suffix}' {unlike} 'extra' is not in the first"):
        open_source([f"a.{suffix}", f"d.{suffix}"])
    assert len(read_good([f"a.{suffix}", f"d.{suffix}"], columns=["n"])) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folders_tell_columns_as_pyarrow_reads_them(here: Path, suffix: str) -> None:
    for lang, year in (("en", "2023"), ("pt%20BR", "2024"), ("__HIVE_DEFAULT_PARTITION__", "2023")):
        write(f"d/lang={lang}/year={year}/x.{suffix}", {"text": f"{lang} {year}"})
    with closing(open_source("d")) as source:
        schema = source.schema()
        rows = [row for chunk in source.chunks() for row in chunk.to_arrow(schema).to_pylist()]
    assert {field.name: str(field.type) for field in schema} == {
        "text": "string",
        "lang": "string",
        "year": "int64",
    }
    found = {row["text"]: (row["lang"], row["year"]) for row in rows}
    assert found["pt%20BR 2024"] == ("pt BR", 2024)
    assert found["__HIVE_DEFAULT_PARTITION__ 2023"] == (None, 2023)
    if suffix == "parquet":
        theirs = pyarrow.dataset.dataset("d", partitioning="hive").to_table().to_pylist()
        assert sorted(map(str, rows)) == sorted(map(str, theirs))
    records = read_good("d", columns=["year"])
    assert [set(record) for record in records] == [{"text", "year"}] * 3
    assert read_good("d/lang=e*/**/x." + suffix)[0]["lang"] == "en"  # below the fixed part
    assert "lang" not in read_good(f"d/lang=en/year=2023/x.{suffix}")[0]


def test_folder_and_file_may_not_have_one_column_both(here: Path) -> None:
    write("d/n=1/a.csv", {"text": "x", "n": "2"})
    with pytest.raises(InputFileError, match="has two columns called 'n'"):
        open_source("d")
    write("e/n=1/a.jsonl", {"text": "x", "n": 2})
    with pytest.raises(InputFileError, match=r"row 1 has a column 'n', and so has its folder"):
        read_chunks("e")
    write("f/truncated=1/a.csv", {"text": "x"})
    with pytest.raises(InputFileError, match="already has a column 'truncated'"):
        open_source("f")
    write("g/n=1/a.parquet", {"text": "x"})
    write("g/b.parquet", {"text": "x"})
    with pytest.raises(InputFileError, match=r"n=1/a.parquet'.*column 'n' is not in the first"):
        open_source("g")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "txt"])
def test_shares_go_through_all_files(
    here: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    for i in range(4):
        write(f"d/k={i}/x.{suffix}", *({"text": f"{i} {n}"} for n in range(1 + 2 * i)))
    whole = [(c.source, c.number(0), c.texts()) for c in read_chunks("d")]
    found = [
        (c.source, c.number(0), c.texts())
        for number in (1, 2, 3)
        for c in read_chunks("d", share=Share(number, 3))
    ]
    assert found == whole


def test_run_goes_on_and_knows_its_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk_rows(monkeypatch, 1)
    paths = [write(f"{name}.csv", {"text": name, "n": "1"}) for name in ("a", "b", "STOP", "d")]
    plain = run(paths, "plain.parquet")
    with pytest.raises(ZeroDivisionError):
        run(paths, "out.parquet", FakeExtractor(raises={"STOP": ZeroDivisionError()}))
    with pytest.raises(ResumeError, match=r"input file 2 was .*, now it is .*"):
        run([paths[0], *paths[:0:-1]], "out.parquet", resume=True)
    with pytest.raises(ResumeError, match=r"input file 4 was .*, now it is none"):
        run(paths[:3], "out.parquet", resume=True)
    assert run(paths, "out.parquet", resume=True).seen == ["STOP", "d"]
    assert plain.seen == ["a", "b", "STOP", "d"]
    assert Path("out.parquet").read_bytes() == Path("plain.parquet").read_bytes()


def test_rejects_name_their_file(here: Path) -> None:
    for name in "ab":
        Path(f"{name}.jsonl").write_text(f'{{"text": "{name}"}}\nbroken\n')
    run(["a.jsonl", "b.jsonl"], "out.csv", on_error="skip")
    rejects = [json.loads(line) for line in Path("out.csv.rejects.jsonl").read_text().splitlines()]
    assert [(r["source"], r["row"]) for r in rejects] == [("a.jsonl", 2), ("b.jsonl", 2)]


def test_no_file_is_replaced_by_the_output(here: Path) -> None:
    paths = [write(f"{name}.csv", {"text": name}) for name in "ab"]
    with pytest.raises(ConfigurationError, match=r"would replace the input 'b.csv'"):
        run(paths, "b.csv")
    write("d/x/a.csv", {"text": "x"})
    with pytest.raises(ConfigurationError, match="lies in the input folder 'd'"):
        run(["a.csv", "d"], "d/x/out.csv")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "arrow"])
def test_features_of_several_files_must_agree(here: Path, suffix: str) -> None:
    for name in "ab":
        run(write(f"{name}.csv", {"text": name}), f"{name}.out.{suffix}")
    paths = [f"a.out.{suffix}", f"b.out.{suffix}"]
    features = open_features(paths)
    assert features is not None
    with closing(features):
        assert [chunk.features.values.shape[0] for chunk in features.chunks()] == [1, 1]
    Path(f"plain.{suffix}").parent.mkdir(exist_ok=True)
    write(f"plain.{suffix}", {"text": "x"})
    with pytest.raises(Exception, match=r"is not comparable with .*: one has no features"):
        open_features([*paths, f"plain.{suffix}"])


def test_folder_of_parquet_keeps_types(here: Path) -> None:
    for i, kind in enumerate((pa.int32(), pa.int64())):
        Path(f"d/k={i}").mkdir(parents=True)
        pq.write_table(pa.table({"text": ["x"], "n": pa.array([i], kind)}), f"d/k={i}/a.parquet")
    with closing(open_source("d")) as source:
        assert str(source.schema().field("n").type) == "int64"


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.usefixtures("here")
def test_folders_that_tell_no_value_or_two(suffix: str) -> None:
    write(f"d/year=2024/x.{suffix}", {"text": "a"})
    write(f"d/year=/x.{suffix}", {"text": "b"})
    assert [row["year"] for row in read_good("d")] == ["", "2024"]
    write(f"e/year=2023/year=2024/x.{suffix}", {"text": "a"})
    with pytest.raises(InputFileError, match="'year=2023/year=2024' names a column twice"):
        find_input("e")
