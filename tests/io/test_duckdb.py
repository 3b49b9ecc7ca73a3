"""Feature files in DuckDB, which has a Parquet reader of its own: the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from splinellm.io.feature_files import write_features
from splinellm.io.shares import Share
from splinellm.precision import PRECISIONS, Precision
from tests.io.files import run, write_input
from tests.io.test_parquet_encoding import uses
from tests.test_precision import shares

duckdb: Any = pytest.importorskip("duckdb", reason="the package duckdb is not installed")


@pytest.fixture
def database() -> Any:
    with duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False}) as opened:
        yield opened


@pytest.mark.parametrize("precision", PRECISIONS)
def test_columns_are_the_same_bits(tmp_path: Path, precision: Precision, database: Any) -> None:
    table = shares(2000, "sign_mean,intrinsic_dimension,blocks:4")
    table = table.rounded(precision)
    path = tmp_path / "t.parquet"
    write_features(table, path)
    encodings = set().union(*uses(path).values())
    assert "RLE_DICTIONARY" in encodings
    assert ("BYTE_STREAM_SPLIT" in encodings) == (precision == "float32")
    read = database.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchnumpy()
    stored = pq.read_table(path)
    assert set(table.names) <= set(read) == set(stored.column_names)
    for name in table.names:
        expected = stored[name].to_numpy()
        found = np.asarray(read[name])
        # DuckDB has no float16: it reads FLOAT, which holds each of them exactly.
        assert found.dtype == (np.float32 if expected.dtype == np.float16 else expected.dtype)
        np.testing.assert_array_equal(found, expected.astype(found.dtype), err_msg=name)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_lists_are_the_same_bits(tmp_path: Path, precision: Precision, database: Any) -> None:
    table = shares(500, "sign_mean,blocks:4").rounded(precision)
    path = tmp_path / "t.parquet"
    write_features(table, path, layout="list")
    read = database.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchdf()
    for place, feature in enumerate(table.provenance.features):
        found = np.array([list(of_layers) for of_layers in read[feature]], np.float32)
        np.testing.assert_array_equal(found, table.array[:, :, place], err_msg=feature)


def test_conditions_find_their_rows(tmp_path: Path, database: Any) -> None:
    """Statistics of the columns, by which whole groups are left out, are right, too."""
    table = shares(3000, "sign_mean")
    path = tmp_path / "t.parquet"
    write_features(table, path)
    bound = float(np.quantile(table.values[:, 0], 0.999))
    query = f'SELECT count(*) FROM read_parquet(?) WHERE "{table.names[0]}" > ?'
    (found,) = database.execute(query, [str(path), bound]).fetchone()
    assert found == int((table.values[:, 0] > np.float32(bound)).sum()) > 0


def test_folder_of_shares_is_one_table(tmp_path: Path, database: Any) -> None:
    """And the user's own columns are beside the features."""
    rows = [{"id": i, "text": "ab" * (1 + i % 7)} for i in range(30)]
    source = write_input(tmp_path / "in.jsonl", rows)
    for number in (1, 2):
        extractor = run(source, f"{tmp_path}/out/", share=Share(number, 2), chunk_rows=10)
    query = "SELECT * FROM read_parquet(?) ORDER BY id"
    read = database.execute(query, [f"{tmp_path}/out/part-*.parquet"]).fetchnumpy()
    assert list(read["id"]) == list(range(30))
    expected = extractor.table([row["text"] for row in rows])
    for place, name in enumerate(expected.names):
        np.testing.assert_array_equal(np.asarray(read[name]), expected.values[:, place])
