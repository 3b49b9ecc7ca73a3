"""The entries agree with what is made of them: kernels, merges, names, documents."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from splinellm import geometry, schema
from splinellm.errors import SchemaError
from splinellm.schema import FEATURE_PATTERN, KNOWN_FEATURES, FeatureSelection
from splinellm.statistics import ENTRIES, SIGN_BLOCKS, Family, Statistic, Tolerance
from tests.statistics_table import PATH, render

STATISTICS = [e.make(e.default) if isinstance(e, Family) else e for e in ENTRIES]


def test_page_is_up_to_date() -> None:
    assert PATH.read_text() == render(), "run: python -m tests.statistics_table"


IMPOSSIBLE = (
    *(f"complexity:{radius}" for radius in ("0", "0.0", "-1", "nan", "inf", "", "1e9", "1e-9")),
    *("complexity:1x", "complexity:1_0", "complexity:\u0661", "complexity:0.1234567"),
)


@pytest.mark.parametrize("item", IMPOSSIBLE)
def test_impossible_radii_are_refused(item: str) -> None:
    with pytest.raises(SchemaError, match="impossible radius"):
        FeatureSelection.parse([item])


def test_a_radius_has_one_name() -> None:
    found = FeatureSelection.parse("complexity:1.0,complexity:.050,complexity:5e-2,complexity")
    radii = ("0.05", "1")
    assert found.names == tuple(f"complexity_{r}_{of}" for r in radii for of in ("mean", "std"))
    assert found.at("token").names == ("complexity_0.05", "complexity_1")
    assert FeatureSelection.parse("complexity_1_std").at("token").names == ("complexity_1",)
    for item in ("complexity_0.050_mean", "complexity_0.05", "complexity_0_mean"):
        with pytest.raises(SchemaError, match="unknown feature"):
            FeatureSelection.parse(item)


def test_radii_by_the_thousand_are_refused() -> None:
    with pytest.raises(SchemaError, match="statistics were asked for at once"):
        FeatureSelection.parse([f"complexity:{radius}" for radius in range(1, 900)])


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda it: it.name)
def test_entry_has_a_kernel_and_merges_that_go_together(statistic: Statistic) -> None:
    kernel = getattr(geometry, statistic.kernel or statistic.name)
    inspect.signature(kernel).bind(*statistic.made_of, *statistic.parameters)
    names = {entry.name for entry in STATISTICS}
    known = {"scores", "rule"} if statistic.is_of_attention else {"h", "norms", "rms"} | names
    assert known.issuperset(statistic.made_of)
    merges = set(statistic.columns.values())
    assert ("last" in merges) is statistic.is_of_attention
    for alone in ({"last"}, {"share"}):
        assert merges == alone or merges.isdisjoint(alone)


def test_no_column_belongs_to_two() -> None:
    columns = [name for it in STATISTICS for name in {*it.columns, *it.token_columns}]
    assert len(columns) == len(set(columns))
    assert [columns.count(it.name) for it in STATISTICS if it.kernel == ""] == [1] * (
        len(STATISTICS) - 2
    )


def test_what_is_documented_can_be_read() -> None:
    for item in KNOWN_FEATURES:
        item = item.replace(":B", ":7").replace("NN", "03")
        item = item.replace(":R", ":0.2").replace("_R_", "_0.2_")
        assert re.fullmatch(FEATURE_PATTERN, item)
        assert FeatureSelection.parse(item).statistics
    for item in (
        "blocks:0",
        "blocks:01",
        "sign_fraction",
        "paper,blocks",
        "sign_block_1",
        "sign_block_32",  # of the default's 32 it is none
        "",
        *IMPOSSIBLE,
    ):
        assert not re.fullmatch(FEATURE_PATTERN, item)


def test_union_is_in_canonical_order_whatever_the_rows_stand_for() -> None:
    a, b = (FeatureSelection.parse(it) for it in ("blocks:3,sign_max", "paper,blocks:3"))
    for kind in schema.GRANULARITIES:
        assert a.at(kind).union(b.at(kind)) == b.at(kind).union(a.at(kind)) == b.at(kind)
    single = [FeatureSelection.parse(["blocks:3", "sign_mean"]).at("token")]
    assert single[0].at("token") == single[0]
    with pytest.raises(ValueError, match="number of sign blocks"):
        a.union(FeatureSelection.parse("sign_mean"))


def test_half_precision_leaves_the_distances_out() -> None:
    found = FeatureSelection.parse("paper,blocks:2").in_half_precision()
    assert found == FeatureSelection.parse(
        [*schema.SIGN_FEATURES, "intrinsic_dimension", "blocks:2"]
    )


def test_names_cost_no_torch() -> None:
    program = "import sys, splinellm.schema; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"set()"]


def test_statistics_whose_columns_carry_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def powers(number: str) -> Statistic:
        return Statistic(
            f"power_{number}",
            made_of=("sign_fraction",),
            columns={f"power_{number}_mean": "mean", f"power_{number}_max": "max"},
            token_columns=(f"power_{number}",),
            slow=lambda h, _norms: (h > 0).mean(axis=1) ** float(number),
            meaning="a power",
            values="0 to 1",
            tolerance=Tolerance("sign", 1e-3),
            kernel="power",
            parameters=(float(number),),
        )

    family = Family(
        "power",
        number=r"[0-9]+\.[0-9]+",
        default="0.5",
        column=r"power_(?P<number>[0-9]+\.[0-9]+)(_mean|_max)?",
        items=(r"power(:[0-9]+\.[0-9]+)?",),
        sets=("power", "power:P"),
        singles=("power_P_mean", "power_P_max"),
        make=powers,
    )
    monkeypatch.setattr(schema, "ENTRIES", (*ENTRIES, family))
    monkeypatch.setattr(geometry, "power", lambda s, p: s**p, raising=False)
    found = FeatureSelection.parse("power:2.0,power_0.5_max,power:1.5,sign_mean,blocks:2")
    of_powers = [f"power_{number}_{of}" for number in ("1.5", "2.0") for of in ("mean", "max")]
    names = ("sign_mean", "sign_block_00", "sign_block_01", "power_0.5_max", *of_powers)
    assert found.names == names
    assert found.at("token").names[-3:] == ("power_0.5", "power_1.5", "power_2.0")
    assert FeatureSelection.parse(found.names[:1] + found.names[3:]).names == names[:1] + names[3:]
    check_verified(found)


def check_verified(selection: FeatureSelection) -> None:
    """All granularities agree with each other, and prompts with the slow formulas."""
    from splinellm import SplineExtractor
    from tests.tiny import random_prompts, tiny_backbone

    extractor = SplineExtractor(tiny_backbone(), features=selection)
    report = extractor.verify()
    assert report.passed
    assert report.sign < 1e-6
    prompts = random_prompts(1, 9, 2)
    tables: dict[Any, np.ndarray] = {}
    for kind in schema.GRANULARITIES:
        table = extractor.extract(prompts, granularity=kind)
        tables[kind] = table.array
        assert table.schema.features == selection.at(kind).names
    np.testing.assert_allclose(tables["prefix"][[0, 9, 11]], tables["prompt"], atol=2e-6)
    for name in ("power_0.5", "power_2.0"):
        of_tokens = tables["token"][:, :, selection.at("token").names.index(name)]
        highest = tables["prompt"][:, :, selection.names.index(f"{name}_max")]
        np.testing.assert_array_equal(of_tokens[1:10].max(axis=0), highest[1])


def test_a_billion_blocks_are_not_made() -> None:
    assert SIGN_BLOCKS.read("blocks:999999999") == ()
