from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.engine import Plan
from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.learn.classifier import require_match
from splinellm.schema import FeatureSelection
from tests.fakes import fake_provenance

PLAN = Plan((0, 2), FeatureSelection.parse("sign_mean,blocks:8"), 64, "absolute", 0.2, True)


def test_a_plan_of_a_card_computes_what_the_card_describes(llama: Backbone) -> None:
    trained = SplineExtractor(llama, **PLAN.settings()).provenance
    assert Plan.of(trained) == PLAN


def test_a_plan_of_rows_of_tokens_computes_them_and_so_does_a_union(llama: Backbone) -> None:
    plans = [
        replace(PLAN, selection=FeatureSelection.parse(features), granularity="token")
        for features in ("distance_min,blocks:8", "sign_mean,blocks:8")
    ]
    tables = [
        SplineExtractor(llama, **plan.settings()).provenance_at(plan.granularity) for plan in plans
    ]
    union = Plan.of(tables[0]).union(Plan.of(tables[1]))
    given = SplineExtractor(llama, **union.settings()).provenance_at(union.granularity)
    for provenance in tables:
        require_match(provenance, given)
    assert given.features[:3] == ("sign_fraction", "hyperplane_distance", "sign_block_00")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("blocks", "blocks"),
        ("sign_mean", "paper"),
        ("sign_block_31", "distance_mean,sign_block_02"),
    ],
)
def test_a_union_serves_both(llama: Backbone, one: str, other: str) -> None:
    plans = [
        Plan((0, 1), FeatureSelection.parse(one.replace("sign_block_31", "blocks")), 64),
        Plan((2,), FeatureSelection.parse(f"{other},blocks"), 64),
    ]
    union = plans[0].union(plans[1])
    assert union.layers == (0, 1, 2)
    given = SplineExtractor(llama, **union.settings()).provenance
    for plan in plans:
        require_match(SplineExtractor(llama, **plan.settings()).provenance, given)
    assert FeatureSelection.parse(union.selection.names) == union.selection  # canonical order


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_tokens": 65}, "max_tokens"),
        ({"dimension_threshold": 0.3}, "dimension_threshold"),
        ({"allow_special_tokens": False}, "allow_special_tokens"),
        ({"granularity": "prefix"}, "granularity"),
        ({"selection": FeatureSelection.parse("blocks:16")}, "sign blocks"),
    ],
)
def test_plans_that_no_table_can_serve_have_no_union(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PLAN.union(replace(PLAN, **change))


def test_plans_of_equal_cards_share_batches() -> None:
    one, other = fake_provenance(), fake_provenance(model="elsewhere")
    assert len({Plan.of(one), Plan.of(other), Plan.of(fake_provenance(max_tokens=9))}) == 2
