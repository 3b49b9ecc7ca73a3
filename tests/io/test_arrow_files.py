"""What is Arrow's own about ``.arrow``; the rest is tested with the other formats."""

from __future__ import annotations

import io
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from splinellm.errors import OutputError
from splinellm.io.feature_files import read_features, write_features
from splinellm.io.feature_reader import open_features
from splinellm.io.readers import open_source
from tests.io.files import read_chunks, read_good, run
from tests.tables import check_equal, make


def stream_of(table: pa.Table, **options: int) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, **options)
    return bytes(sink.getvalue().to_pybytes())


def test_types_survive(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([1, 2], pa.timestamp("ns", "UTC")),
            "text": pa.array(["a", "b"], pa.large_string()),
            "view": pa.array(["x", None], pa.string_view()),
            "span": pa.array([pa.scalar((1, 2, 3), pa.month_day_nano_interval()), None]),
            "tags": pa.array([["a"], None], pa.list_(pa.large_string())),
            "tree": pa.array([{"a": 1}, None]),
        }
    )
    pyarrow.feather.write_feather(table, tmp_path / "in.feather")
    run(tmp_path / "in.feather", tmp_path / "out.arrow")
    found = pyarrow.feather.read_table(tmp_path / "out.arrow").select(table.column_names)
    assert found.replace_schema_metadata().equals(table)
    with pytest.raises(OutputError, match=r"column 'span' is month_day_nano_interval.*--columns"):
        run(tmp_path / "in.feather", tmp_path / "out.parquet")
    run(tmp_path / "in.feather", tmp_path / "out.parquet", columns=["tags"])
    assert pq.read_table(tmp_path / "out.parquet")["tags"].to_pylist() == [["a"], None]


def test_dictionaries_that_change_become_plain(tmp_path: Path) -> None:
    parts = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["c", "a"])]
    table = pa.table({"text": ["1", "2", "3", "4"], "kind": pa.chunked_array(parts)})
    (tmp_path / "in.arrow").write_bytes(stream_of(table))
    run(tmp_path / "in.arrow", tmp_path / "out.arrow", chunk_rows=1)
    found = pyarrow.feather.read_table(tmp_path / "out.arrow")["kind"]
    assert (found.type, found.to_pylist()) == (pa.string(), ["a", "b", "c", "a"])


@pytest.mark.parametrize("told", [True, False])
def test_streams_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    table = pa.table({"n": list(range(10)), "text": [f"text {i}" for i in range(10)]})
    data = stream_of(table, max_chunksize=3)
    if told:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert read_good("-", format="arrow") == table.to_pylist()
        return
    (tmp_path / "in.arrow").write_bytes(data)
    assert read_good(tmp_path / "in.arrow", columns=[]) == table.select(["text"]).to_pylist()
    assert max(map(len, read_chunks(tmp_path / "in.arrow", chunk_rows=2))) == 2
    with closing(open_source(str(tmp_path / "in.arrow"))) as source:
        assert source.progress() is None


@pytest.mark.parametrize("n_rows", [0, 1, 5])
def test_table_round_trip(tmp_path: Path, n_rows: int) -> None:
    write_features(make(n_rows), tmp_path / "t.arrow")
    check_equal(read_features(tmp_path / "t.arrow"), make(n_rows))
    assert [path.name for path in tmp_path.iterdir()] == ["t.arrow"]  # the provenance is inside
    features = open_features(str(tmp_path / "t.arrow"))
    assert features is not None
    with closing(features):
        assert sum(len(chunk.features) for chunk in features.chunks()) == n_rows
