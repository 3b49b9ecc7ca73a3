"""Columns of features take less room, and hold the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm import FeatureTable
from splinellm.io.binary_writers import ParquetWriter
from splinellm.io.feature_files import write_features
from splinellm.io.rows import RecordChunk, Row
from splinellm.precision import PRECISIONS, Precision
from tests.tables import check_equal
from tests.test_precision import shares


def uses(path: Path) -> dict[str, set[str]]:
    """Encodings of every column."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    return {column.path_in_schema: set(column.encodings) for column in columns}


@pytest.mark.parametrize("layout", ["columns", "list"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_smaller_way_and_the_same_bits(
    tmp_path: Path, precision: Precision, layout: str
) -> None:
    table = shares(2000, "sign_mean,intrinsic_dimension")
    dimension = table.names.index("layer_00.intrinsic_dimension")
    table.values[:, dimension::2] = np.random.default_rng(0).integers(7, size=(2000, 1))
    table = table.rounded(precision)
    write_features(table, tmp_path / "t.parquet", layout=layout)  # type: ignore[arg-type]
    check_equal(FeatureTable.from_parquet(tmp_path / "t.parquet"), table)
    plain = tmp_path / "plain.parquet"
    pq.write_table(pq.read_table(tmp_path / "t.parquet"), plain, compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 0.9 * plain.stat().st_size
    for path, encodings in uses(tmp_path / "t.parquet").items():
        if "sign_mean" in path:
            assert "RLE_DICTIONARY" not in encodings
            assert ("BYTE_STREAM_SPLIT" in encodings) == (precision == "float32")


def test_columns_of_the_users_stay_as_they_were(tmp_path: Path) -> None:
    """Nested ones, too, and numbers that look like features."""
    rows = [Row(i, {"n": float(i), "tree": {"a": [str(i % 3)], "b": i}}) for i in range(500)]
    added = shares(500).to_arrow()
    kinds = [("n", pa.float32()), ("tree", pa.struct([("a", pa.list_(pa.string())), ("b", "i8")]))]
    with open(tmp_path / "t.parquet", "wb") as file:
        writer = ParquetWriter(file, pa.schema(kinds), added.schema)
        writer.write(RecordChunk("", rows, None), added)
        writer.close()
    found = uses(tmp_path / "t.parquet")
    for name in ("n", "tree.a.list.element", "tree.b"):
        assert "RLE_DICTIONARY" in found[name]
    assert "BYTE_STREAM_SPLIT" in found["layer_00.sign_mean"]
    assert pq.read_table(tmp_path / "t.parquet")["tree"].to_pylist()[4] == {"a": ["1"], "b": 4}
