"""Layouts: the same table in columns, in lists by layer, and as one array."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm import FeatureTable
from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.io.feature_files import read_features, write_features
from tests.tables import check_equal, make


@pytest.mark.parametrize("n_rows", [0, 1, 5])
@pytest.mark.parametrize("suffix", ["parquet", "arrow", "jsonl", "jsonl.gz"])
def test_lists_come_back_equal(tmp_path: Path, suffix: str, n_rows: int) -> None:
    path = tmp_path / f"t.{suffix}"
    write_features(make(n_rows), path, layout="list")
    if n_rows or "jsonl" not in suffix:
        check_equal(read_features(path), make(n_rows))


def test_list_of_a_feature_goes_by_layer(tmp_path: Path) -> None:
    make().to_parquet(tmp_path / "t.parquet", layout="list")
    found = pq.read_table(tmp_path / "t.parquet")
    features = make().provenance.features
    assert found.column_names == ["n_tokens", "truncated", *features]
    assert found.schema.field("sign_std").type.list_size == 2
    for name in features:
        expected = [make().values[:, make().names.index(f"layer_0{i}.{name}")] for i in (0, 2)]
        np.testing.assert_array_equal(np.array(found[name].to_pylist()), np.array(expected).T)
    make().to_jsonl(tmp_path / "t.jsonl", layout="list")
    line = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[1])
    assert np.float32(line["sign_min"]).tolist() == found["sign_min"][1].as_py()


def test_tensor(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    make().to_npz(path, layout="tensor")
    check_equal(FeatureTable.from_npz(path), make())
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["values"], make().array)
        assert archive["layers"].tolist() == [0, 2]
        assert tuple(archive["features"]) == make().provenance.features


@pytest.mark.parametrize(
    ("suffix", "layout"), [("csv", "list"), ("npz", "list"), ("parquet", "tensor")]
)
def test_format_without_the_layout(tmp_path: Path, suffix: str, layout: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"layout '{layout}' is for .*, not for .{suffix}"):
        write_features(make(), tmp_path / f"t.{suffix}", layout=layout)
    assert not list(tmp_path.iterdir())


def test_lists_in_memory() -> None:
    arrow = make().to_arrow("list")
    check_equal(FeatureTable.from_arrow(arrow), make())
    check_equal(FeatureTable.from_arrow(pa.concat_tables([arrow[:2], arrow[2:]])), make())
    check_equal(FeatureTable.from_pandas(arrow.to_pandas(), make().provenance), make())


def _with(column: Any) -> pa.Table:
    arrow = make().to_arrow("list")
    return arrow.set_column(3, "sign_min", column)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[0.5]] * 5), "lists of other layers than 2"),
        (pa.array([[0.5, None]] * 5), "missing values"),
        (pa.array([[0.5, 1.0]] * 4 + [None]), "missing values"),
        (pa.array([0.5] * 5), "holds no lists"),
        (pa.array([["a", "b"]] * 5), "wrong type"),
        (pa.array([[0.5, float("nan")]] * 5), "not finite"),
    ],
)
def test_lists_that_are_none_are_refused(column: Any, message: str) -> None:
    with pytest.raises(TableFormatError, match=message):
        FeatureTable.from_arrow(_with(column))
