"""Folders as outputs, and shares of an input that make one together."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from splinellm.errors import ConfigurationError, InputFileError, OutputError, ResumeError
from splinellm.io.feature_reader import open_features
from splinellm.io.features import FeatureAnnotator
from splinellm.io.parquet_reader import ParquetSource
from splinellm.io.pipeline import annotate_rows
from splinellm.io.readers import open_source
from splinellm.io.shares import Share
from splinellm.io.sink import open_sink
from splinellm.io.token_rows import TextlessSource
from splinellm.table import FeatureTable
from tests.fakes import FakeExtractor
from tests.io.files import read_chunks, run, set_chunk_rows, write_input
from tests.io.killed import forked, share_slowly
from tests.tables import make

TEXTS = [f"text {i}" * (1 + i % 4) for i in range(23)]


def write_texts(path: Path) -> Path:
    rows = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
    if path.suffix == ".parquet":  # row groups that are no multiple of a chunk
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=5)
        return path
    if path.suffix == ".arrow":
        pyarrow.feather.write_feather(pa.Table.from_pylist(rows), path, chunksize=5)
        return path
    return write_input(path, rows)


def rows_of(folder: Path) -> list[dict[str, object]]:
    """What pandas makes of a folder."""
    rows: list[dict[str, object]] = pd.read_parquet(folder).to_dict("records")
    return rows


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl.gz", "txt"])
@pytest.mark.parametrize("of", [1, 2, 3, 11, 40])
def test_shares_together_are_the_whole(
    tmp_path: Path, suffix: str, of: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    source = write_texts(tmp_path / f"in.{suffix}")
    whole = [chunk.texts() for chunk in read_chunks(source)]
    found: list[list[str]] = []
    lengths = []
    for number in range(1, of + 1):
        with closing(open_source(str(source), share=Share(number, of))) as share:
            n_before = sum(map(len, found))
            for chunk in share.chunks():
                if suffix == "txt":
                    assert chunk.number(0) == sum(map(len, found)) + 1
                found.append(chunk.texts())
            if found and share.n_read:
                assert share.n_before == n_before
            lengths.append(share.n_read)
    assert found == whole  # the same chunks, so the same batches
    assert sum(lengths) == len(TEXTS)
    assert max(lengths) - min(lengths) <= 4


def test_rows_of_parquet_before_the_share_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_texts(tmp_path / "in.parquet")
    read = []
    iter_batches = pq.ParquetFile.iter_batches

    def noting(self: object, *given: object, row_groups: list[int], **options: object) -> object:
        read.extend(row_groups)
        return iter_batches(self, *given, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noting)
    (chunk,) = read_chunks(source, share=Share(4, 5))
    assert (read, chunk.texts(), chunk.number(0)) == ([3], TEXTS[15:20], 16)


def test_folder_of_files_is_shared_through(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        write_input(folder / f"{i}.parquet", [{"text": f"{i}a"}, {"text": f"{i}b"}])
    found = [
        (Path(chunk.source).name, chunk.number(0), chunk.texts())
        for number in (1, 2)
        for chunk in read_chunks(folder, chunk_rows=1, share=Share(number, 2))
    ]
    assert found == [(f"{i}.parquet", n + 1, [f"{i}{'ab'[n]}"]) for i in range(3) for n in range(2)]


def test_four_processes_at_once_make_what_one_makes(tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.csv")
    with source.open("a") as file:
        file.write('99,""\n98,NAN\n')
    run(source, tmp_path / "plain.parquet", on_error="skip", chunk_rows=3)
    processes = [
        forked.Process(target=share_slowly, args=(str(source), f"{tmp_path}/out/", number, 4))
        for number in (4, 2, 3, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    folder = tmp_path / "out"
    plain = FeatureTable.from_parquet(tmp_path / "plain.parquet")
    found = FeatureTable.from_parquet(folder)
    np.testing.assert_array_equal(found.values, plain.values)
    assert found.provenance == plain.provenance
    assert rows_of(folder) == rows_of(tmp_path / "plain.parquet")
    names = [f"part-0000{i}-of-00004.parquet" for i in (1, 2, 3, 4)]
    assert sorted(path.name for path in folder.iterdir()) == ["_rejects", *names]
    for name in names:
        assert FeatureTable.from_parquet(folder / name).provenance == plain.provenance
    (rejects,) = (folder / "_rejects").iterdir()
    told = (tmp_path / "plain.parquet.rejects.jsonl").read_text()
    assert (rejects.name, rejects.read_text()) == ("part-00004-of-00004.jsonl", told)
    features = open_features(str(folder))
    assert features is not None
    with closing(features):
        assert sum(len(chunk) for chunk in features.chunks()) == len(TEXTS)


def test_killed_share_goes_on(tmp_path: Path) -> None:
    source, folder = write_texts(tmp_path / "in.csv"), f"{tmp_path}/out/"
    run(source, tmp_path / "plain.parquet", chunk_rows=3)
    (tmp_path / "out").mkdir()
    for number in range(40):
        for share in (1, 2):
            process = forked.Process(
                target=share_slowly,
                args=(str(source), folder, share, 2),
                kwargs={"dies_at": number if share == 1 else None},
            )
            process.start()
            process.join()
            assert process.exitcode in ((0, -9) if share == 1 else (0,))
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "plain.parquet")


def test_second_run_of_a_share_is_refused(tmp_path: Path) -> None:
    source, folder = write_texts(tmp_path / "in.csv"), f"{tmp_path}/out/"
    first = open_sink(folder, str(source), share=Share(1, 2))
    with pytest.raises(ResumeError, match=r"another process is writing .*part-00001-of-00002"):
        run(source, folder, share=Share(1, 2), resume=True)
    run(source, folder, share=Share(2, 2))
    first.abandon()
    with pytest.raises(InputFileError, match="has 1 of 2 shares: part-00001-of-00002 is missing"):
        open_source(folder)
    run(source, folder, share=Share(1, 2))
    assert len(rows_of(Path(folder))) == len(TEXTS)


def test_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    source, folder = write_texts(tmp_path / "in.csv"), tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.doc").write_text("all of it")
    with pytest.raises(OutputError, match=r"it holds 'thesis\.doc', which is none of its parts"):
        run(source, folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.doc"]
    (folder / "thesis.doc").unlink()
    run(source, folder)
    with pytest.raises(OutputError, match="it holds a share of 1, and this is one of 3"):
        run(source, folder, share=Share(2, 3))
    run(source, folder)  # the same output again
    assert [path.name for path in folder.iterdir()] == ["part-00001-of-00001.parquet"]


def test_output_that_is_the_input_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_texts(folder / "part-00001-of-00001.parquet")
    with pytest.raises(ConfigurationError, match="lies in the input folder"):
        run(folder, folder)
    with pytest.raises(ConfigurationError, match="would replace the input"):
        run(folder / "part-00001-of-00001.parquet", folder)


def test_tokens_are_of_rows_of_the_whole_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 3)
    source = write_texts(tmp_path / "in.parquet")
    found: list[int] = []
    for number in (1, 2, 3):
        share = Share(number, 3)
        rows = TextlessSource(open_source(str(source), share=share), "text")
        with closing(rows):
            sink = open_sink(f"{tmp_path}/out/", str(source), share=share)
            annotate_rows(rows, sink, FeatureAnnotator(FakeExtractor(), "token"))
        tokens = FeatureTable.from_parquet(sink.places.final).tokens  # type: ignore[union-attr]
        assert tokens is not None
        found += tokens.row.tolist()
    assert found == sorted(found)
    assert sorted(set(found)) == list(range(len(TEXTS)))


def test_schema_of_a_share_is_that_of_the_whole(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    rows = [{"text": "a", "n": 1}, {"text": "b", "n": 2.5}, {"text": "c", "late": "x"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number in (1, 2, 3, 4):
        run(source, f"{tmp_path}/out/", share=Share(number, 4), chunk_rows=1)
    schemas = [pq.read_schema(path) for path in sorted((tmp_path / "out").iterdir())]
    assert schemas == [schemas[0]] * 4
    assert [row["n"] for row in rows_of(tmp_path / "out")][:2] == [1.0, 2.5]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/4/2", "-1/4", "1/100000"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no share"):
        Share.parse(text)


def test_share_needs_a_folder_and_a_file(tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.csv")
    with pytest.raises(ConfigurationError, match="goes into a folder"):
        open_sink(str(tmp_path / "out.csv"), str(source), share=Share(1, 2))
    with pytest.raises(ConfigurationError, match="standard input has no shares"):
        open_source("-", share=Share(1, 2))


def test_features_of_a_folder_must_agree(tmp_path: Path) -> None:
    table = make()
    table.to_parquet(tmp_path / "part-00001-of-00002.parquet")
    table.to_parquet(tmp_path / "part-00002-of-00002.parquet")
    both = FeatureTable.from_parquet(tmp_path)
    np.testing.assert_array_equal(both.values, np.concatenate([table.values] * 2))


def test_parts_of_other_programs_count_from_zero(tmp_path: Path) -> None:
    for number in (0, 2):
        write_input(tmp_path / f"part-0000{number}-of-00009.parquet", [{"text": "x"}])
    with closing(open_source(str(tmp_path))) as source:
        assert isinstance(source, ParquetSource)
        assert source.n_chunks() == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipe_by_name_has_no_shares(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in.csv")
    with pytest.raises(ConfigurationError, match=r"in\.csv' is a pipe and has no shares"):
        open_source(str(tmp_path / "in.csv"), share=Share(1, 2))


def test_table_is_not_written_over_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        make().to_parquet(tmp_path)
