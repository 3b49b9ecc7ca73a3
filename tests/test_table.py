"""What a table is, in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from splinellm import FeatureTable
from splinellm.errors import AlignmentWarning, SchemaError, TableFormatError
from tests.tables import check_equal, make


@pytest.mark.parametrize("n_rows", [0, 1, 5])
def test_round_trip_in_memory(n_rows: int) -> None:
    table = make(n_rows)
    check_equal(FeatureTable.from_arrow(table.to_arrow()), table)
    check_equal(FeatureTable.from_pandas(table.to_pandas()), table)
    check_equal(FeatureTable.from_pandas(pd.DataFrame(table.to_pandas()), table.provenance), table)


def test_other_columns_in_memory() -> None:
    frame = make().to_pandas()
    frame.insert(0, "text", list("abcde"))
    frame[("tuple", 1)] = 0  # type: ignore[index]
    check_equal(FeatureTable.from_pandas(frame, make().provenance), make())
    arrow = make().to_arrow().append_column("label", pa.array(list("abcde")))
    check_equal(FeatureTable.from_arrow(arrow), make())


@pytest.mark.parametrize(
    "change",
    [
        {"values": np.zeros((5, 3), np.float32)},
        {"values": np.zeros(80, np.float32)},
        {"values": np.zeros((5, 16), np.float64)},
        {"n_tokens": np.ones(4, np.int64)},
        {"truncated": np.ones(6, np.bool_)},
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    table = make()
    parts = {name: getattr(table, name) for name in ("values", "n_tokens", "truncated")}
    with pytest.raises(TableFormatError):
        FeatureTable(**(parts | change), provenance=table.provenance)


def test_table_without_provenance_is_refused() -> None:
    bare = make().to_arrow().replace_schema_metadata(None)
    with pytest.raises(TableFormatError, match="no splinellm provenance"):
        FeatureTable.from_arrow(bare)
    with pytest.raises(TableFormatError, match="no splinellm provenance"):
        FeatureTable.from_pandas(bare.to_pandas())


def test_concatenate() -> None:
    parts = [make(3)[:2], make(5)[2:], make(0)]
    check_equal(FeatureTable.concatenate(parts), make(5))
    check_equal(FeatureTable.concatenate([make(2)]), make(2))


def test_tables_that_are_not_comparable_are_not_concatenated() -> None:
    with pytest.raises(TableFormatError, match="dtype is bfloat16, not float32"):
        FeatureTable.concatenate([make(), make(), make(dtype="bfloat16", max_tokens=9)])
    with pytest.raises(TableFormatError, match="no table"):
        FeatureTable.concatenate([])


@pytest.mark.parametrize(
    "rows",
    [slice(1, 4), slice(None, None, -1), np.array([3, 0]), np.array([True, False] * 2 + [True])],
    ids=["slice", "reversed", "positions", "mask"],
)
def test_rows_are_selected_together(rows: Any) -> None:
    found = make()[rows]
    expected = list(range(5))[rows] if isinstance(rows, slice) else np.arange(5)[rows].tolist()
    assert (found.n_tokens - 1).tolist() == expected
    np.testing.assert_array_equal(found.values, make().values[expected])
    np.testing.assert_array_equal(found.truncated, make().truncated[expected])


def test_array_is_a_view_by_layer_and_feature() -> None:
    table = make()
    assert table.array.shape == (5, 2, 8)
    assert np.shares_memory(table.array, table.values)
    column = table.names.index("layer_02.distance_min")
    np.testing.assert_array_equal(table.array[:, 1, 4], table.values[:, column])


@pytest.mark.parametrize(
    ("layers", "features", "names"),
    [
        ([2], ["sign_std"], ("layer_02.sign_std",)),
        (
            [2, 0, 2],
            ["intrinsic_dimension", "sign_mean"],
            tuple(f"layer_0{i}.{f}" for i in (0, 2) for f in ("sign_mean", "intrinsic_dimension")),
        ),
    ],
)
def test_select(layers: list[int], features: list[str], names: tuple[str, ...]) -> None:
    found = make().select(layers, features)
    assert found.names == names
    columns = [make().names.index(name) for name in names]
    np.testing.assert_array_equal(found.values, make().values[:, columns])
    assert found.provenance.distance_precision == "none"
    assert found.array.shape == (5, len(set(layers)), len(features))


def test_the_distance_of_a_token_is_a_distance_too() -> None:
    table = make(features=("sign_fraction", "hyperplane_distance"))
    for name, precision in (("hyperplane_distance", "full"), ("sign_fraction", "none")):
        assert table.select(features=[name]).provenance.distance_precision == precision


def test_texts_before_conversations_hide_no_template() -> None:
    texts, chats, others = (make(chat_template_sha256=it) for it in ("", "a" * 64, "b" * 64))
    found = FeatureTable.concatenate([texts, chats, texts])
    assert found.provenance == chats.provenance
    with pytest.raises(TableFormatError, match=r"chat_template_sha256 is bb*, not aa*"):
        FeatureTable.concatenate([texts, chats, others])


@pytest.mark.parametrize(
    ("layers", "features"),
    [
        ("0,2", "sign_mean,sign_std"),
        (np.array([0, -1]), ("sign_std", "sign_mean")),
        ((layer for layer in (2, 0)), " sign_mean , sign_std"),
    ],
)
def test_select_reads_what_an_extractor_reads(layers: Any, features: Any) -> None:
    check_equal(make().select(layers, features), make().select([0, 2], ["sign_mean", "sign_std"]))


@pytest.mark.parametrize("features", [5, np.array(5), ["sign_mean", 5], np.array([["sign_mean"]])])
def test_select_reads_names_alone(features: Any) -> None:
    with pytest.raises(SchemaError, match="is of type"):
        make().select(features=features)


def test_select_one_or_none() -> None:
    check_equal(make().select(np.int64(2), "sign_mean"), make().select([2], ["sign_mean"]))
    check_equal(make().select(np.array(2), np.array("sign_mean")), make().select([2], "sign_mean"))
    assert make().select(layers=[]).array.shape == (5, 0, len(make().schema.features))
    with pytest.raises(SchemaError, match="layer 9 does not exist"):
        make().select(9)


def test_select_everything() -> None:
    check_equal(make().select(), make())


@pytest.mark.parametrize(("layers", "features"), [([1], None), (None, ["nope"]), ([0], ["a", "b"])])
def test_select_what_is_not_there(layers: Any, features: Any) -> None:
    with pytest.raises(TableFormatError, match="the table has no"):
        make().select(layers, features)


def test_one_row_and_several() -> None:
    table = make()
    assert len(table[0]) == 1
    np.testing.assert_array_equal(table[np.int64(-1)].values, table.values[4:])
    check_equal(table[1:3], table[[1, 2]])
    assert [row.n_tokens.tolist() for row in table] == [[1], [2], [3], [4], [5]]
    assert len(table[[]]) == 0
    for number in (5, -6):
        with pytest.raises(IndexError, match=f"row {number} of a table of 5"):
            table[number]
    with pytest.raises(TableFormatError, match="select"):
        table["sign_mean"]  # type: ignore[index]


def test_as_an_array() -> None:
    table = make()
    assert np.asarray(table) is table.values
    assert np.asarray(table, np.float64).dtype == np.float64
    copy = np.array(table)
    assert not np.shares_memory(copy, table.values)
    np.testing.assert_array_equal(copy, table.values)


def test_representations_are_short_and_escaped() -> None:
    table = make(500, model="<script>alert(1)</script>")
    assert repr(table) == (
        "FeatureTable(500 prompts, 2 layers x 8 features (sign_mean, sign_min, sign_max, sign_std "
        "and 4 more), <script>alert(1)</script> in float32)"
    )
    html = table._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") == 7
    assert len(html) < 3000
    assert make(0)._repr_html_().count("<tr>") == 1


def test_align() -> None:
    one = make(layers=(0, 1, 2), features=("sign_mean", "sign_min", "sign_block_00"))
    other = make(3, layers=(0, 2), features=("sign_min", "sign_block_00"), n_blocks=8, model="b")
    with pytest.warns(AlignmentWarning, match="layers 1 of the first"):
        aligned = one.align(other)
    mine, theirs = aligned
    check_equal(mine, one.select((0, 2), ("sign_min",)))
    check_equal(theirs, other.select((0, 2), ("sign_min",)))
    assert aligned.dropped == (
        "sign blocks, 32 here and 8 there",
        "layers 1 of the first",
        "sign_mean of the first",
    )
    same = make().align(make())
    assert same.dropped == ()
    check_equal(same.second, make())


def test_align_what_has_nothing_in_common() -> None:
    with pytest.raises(TableFormatError, match="no layer and feature in common"):
        make(layers=(0,)).align(make(layers=(1,)))
    with pytest.raises(TableFormatError, match="not list"):
        make().align([make()])  # type: ignore[arg-type]
