"""Features that are kept rounded: what they become, and that every way back gives the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm import FeatureTable
from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.io.feature_files import read_features, write_features
from splinellm.io.feature_reader import open_features
from splinellm.precision import PRECISIONS, Precision, largest_error
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSelection
from splinellm.table import PROVENANCE_KEY
from tests.tables import check_equal, make

ROUNDED: tuple[Precision, ...] = ("float16", "uint8")


def shares(n_rows: int = 300, features: str = "paper,blocks:4") -> FeatureTable:
    """Sizes as they are: sign shares of 0 to 1, small distances, dimensions that are counted."""
    selection = FeatureSelection.parse(features)
    table = make(n_rows, features=selection.names, n_blocks=selection.n_blocks)
    values = np.random.default_rng(0).random(table.array.shape, np.float32)
    for place, name in enumerate(selection.names):
        if name.startswith("distance"):
            values[..., place] *= np.float32(1e-4)
        if name == "intrinsic_dimension":
            values[..., place] = np.round(values[..., place] * 2000)
    values[:1], values[1:2] = 0, 1
    return replace(table, values=values.reshape(n_rows, -1))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("suffix", "layout"),
    [("parquet", "columns"), ("parquet", "list"), ("arrow", "columns"), ("arrow", "list")],
)
def test_rounded_numbers_come_back(
    tmp_path: Path, suffix: str, layout: str, precision: Precision
) -> None:
    path = tmp_path / f"t.{suffix}"
    write_features(shares(), path, layout=layout, precision=precision)  # type: ignore[arg-type]
    expected = shares().rounded(precision)
    check_equal(read_features(path), expected)
    source = open_features(str(path))
    assert source is not None
    (chunk,) = source.chunks()
    check_equal(chunk.features, expected)
    source.close()
    write_features(read_features(path), tmp_path / f"again.{suffix}", layout=layout)  # type: ignore[arg-type]
    assert (tmp_path / f"again.{suffix}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("precision", "features"), [("float16", "paper,blocks:4"), ("uint8", "blocks:4")]
)
@pytest.mark.parametrize("layout", ["columns", "tensor"])
def test_archives(tmp_path: Path, precision: Precision, features: str, layout: str) -> None:
    path = tmp_path / "t.npz"
    write_features(shares(features=features), path, layout=layout, precision=precision)  # type: ignore[arg-type]
    check_equal(read_features(path), shares(features=features).rounded(precision))
    with np.load(path) as archive:
        assert archive["values"].dtype == precision


def test_an_archive_of_two_kinds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\.npz has one array"):
        write_features(shares(), tmp_path / "t.npz", precision="uint8")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_text_holds_the_rounded_numbers_themselves(tmp_path: Path, suffix: str) -> None:
    table = shares().rounded("uint8")
    write_features(table, tmp_path / f"t.{suffix}")
    check_equal(read_features(tmp_path / f"t.{suffix}"), table)
    source = open_features(str(tmp_path / f"t.{suffix}"))
    assert source is not None
    check_equal(FeatureTable.concatenate([chunk.features for chunk in source.chunks()]), table)
    source.close()
    with pytest.raises(ConfigurationError, match=r"precision 'uint8' is for \.parquet, \.arrow"):
        write_features(shares(), tmp_path / f"new.{suffix}", precision="uint8")
    assert not (tmp_path / f"new.{suffix}").exists()


def test_how_far_they_are() -> None:
    """No further than is said."""
    exact = shares()
    for precision in ROUNDED:
        gap = np.abs(exact.rounded(precision).array - exact.array)
        blocks = [name.startswith("sign_block") for name in exact.provenance.features]
        if precision == "uint8":
            assert 0.0019 < gap[..., blocks].max() < 0.00197
            assert "0.00197" in largest_error(precision)
            gap = gap[..., np.logical_not(blocks)]
            exact_values = exact.array[..., np.logical_not(blocks)]
        else:
            exact_values = exact.array
        assert (gap <= np.maximum(exact_values / 2048, 1e-7)).all()
    dimension = exact.select(features=["intrinsic_dimension"])
    np.testing.assert_array_equal(dimension.rounded("uint8").values, dimension.values)


def test_nothing_is_rounded_unasked() -> None:
    table = shares()
    assert table.rounded("float32").values is table.values
    assert table.to_arrow().schema.types[-1] == pa.float32()
    rounded = table.rounded("uint8")
    assert rounded.provenance.precision == "uint8"
    assert rounded.to_pandas().dtypes.iloc[-1] == np.float32  # in memory they stay numbers
    assert table.provenance.first_difference(rounded.provenance) is None  # classifiers take them


@pytest.mark.parametrize("precision", ["float64", None])
def test_an_unknown_precision_is_named(precision: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown precision '{precision}'.*float16"):
        shares().rounded(precision)


def test_what_other_readers_see(tmp_path: Path) -> None:
    shares().to_parquet(tmp_path / "plain.parquet")
    path = tmp_path / "t.parquet"
    write_features(shares(), path, precision="uint8")
    frame = pd.read_parquet(path)
    assert frame["layer_00.sign_mean"].dtype == np.float16
    assert frame["layer_00.sign_block_03"].dtype == np.uint8
    record = json.loads(pq.read_schema(path).metadata[b"splinellm.precision"])
    scale = record["uint8"]["scale"]
    exact = pd.read_parquet(tmp_path / "plain.parquet")["layer_00.sign_block_03"]
    assert (frame["layer_00.sign_block_03"] * scale - exact).abs().max() < 0.00197
    # What pandas read is a table again, and so are floats that somebody made of the numbers.
    provenance = shares().rounded("uint8").provenance
    check_equal(FeatureTable.from_pandas(frame, provenance), shares().rounded("uint8"))
    table = pq.read_table(path)
    names = [name for name in table.column_names if "block" in name]
    for name in names:
        floats = pa.array((table[name].to_numpy() * scale).astype(np.float32))
        table = table.set_column(table.schema.get_field_index(name), name, floats)
    pq.write_table(table, tmp_path / "floats.parquet")
    source = open_features(str(tmp_path / "floats.parquet"))
    assert source is not None
    (chunk,) = source.chunks()
    check_equal(chunk.features, shares().rounded("uint8"))
    source.close()


@pytest.mark.parametrize(
    ("precision", "name", "value"),
    [
        ("float16", "layer_02.intrinsic_dimension", 70_000),
        ("uint8", "layer_02.intrinsic_dimension", 70_000),
        ("uint8", "layer_02.sign_block_01", 1.01),
    ],
)
def test_numbers_beyond_it_are_refused(precision: Precision, name: str, value: float) -> None:
    table = shares(5)
    values = table.values.copy()
    values[3, table.names.index(name)] = value
    with pytest.raises(TableFormatError, match=f"{name} of row 3 is .*too large for {precision}"):
        replace(table, values=values).rounded(precision)


def test_rounded_numbers_do_not_become_exact() -> None:
    table = shares(3).rounded("uint8")
    for finer in ("float32", "float16"):
        with pytest.raises(TableFormatError, match=f"rounded to uint8, and cannot become {finer}"):
            table.rounded(finer)
    assert table.rounded("uint8").provenance == table.provenance


def test_one_table_has_one_precision(tmp_path: Path) -> None:
    with pytest.raises(TableFormatError, match="precision is uint8, not float32"):
        FeatureTable.concatenate([shares(3), shares(3).rounded("uint8")])
    write_features(shares(3), tmp_path / "a.parquet")
    write_features(shares(3), tmp_path / "b.parquet", precision="float16")
    for read in (read_features, lambda path: open_features(str(path))):
        with pytest.raises(TableFormatError, match="precision is float16, not float32"):
            read(tmp_path)  # type: ignore[operator]


def test_records_without_it_are_exact() -> None:
    record = json.loads(shares(1).provenance.to_json())
    del record["precision"]
    assert Provenance.from_json(json.dumps(record)).precision == "float32"
    with pytest.raises(TableFormatError, match="precision 'int4' is unknown"):
        Provenance.from_json(json.dumps(record | {"precision": "int4"}))


def test_the_record_is_that_of_the_table(tmp_path: Path) -> None:
    write_features(shares(3), tmp_path / "t.parquet", precision="float16")
    metadata = pq.read_schema(tmp_path / "t.parquet").metadata
    assert Provenance.from_json(metadata[PROVENANCE_KEY]).precision == "float16"
    plain = tmp_path / "p.parquet"
    shares(3).to_parquet(plain)
    assert b"splinellm.precision" not in pq.read_schema(plain).metadata
