from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from service.engine import EngineLimits, Plan, SilentListener
from service.models import ServedModel
from splinellm import SplineExtractor, attach
from splinellm.backbone.decoder import Decoder
from splinellm.backbone.loading import Backbone
from splinellm.errors import (
    AttentionUnavailableError,
    ConfigurationError,
    PrecisionWarning,
    SchemaError,
)
from splinellm.learn.handed import require_match
from splinellm.schema import FeatureSelection
from tests.architectures import case_backbone
from tests.fakes import fake_provenance
from tests.tiny import (
    MAX_POSITIONS,
    N_HYPERPLANES,
    N_LAYERS,
    tiny_backbone,
    tiny_model,
    tiny_tokenizer,
)

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


Refuser = Callable[[Backbone, dict[str, Any]], object]


def by_extractor(backbone: Backbone, settings: dict[str, Any]) -> object:
    return SplineExtractor(backbone, **settings)


def by_attach(backbone: Backbone, settings: dict[str, Any]) -> object:
    return attach(backbone.model, **settings)


def by_engine(backbone: Backbone, settings: dict[str, Any]) -> object:
    model = ServedModel(
        "tiny", backbone, limits=EngineLimits(), listener=SilentListener(), max_tokens=1024
    )
    if "dimension_threshold" in settings or "dimension_rule" in settings:  # of a classifier's card
        return model.extractor(replace(model.plan(), **settings))
    return model.plan(**settings)


@pytest.mark.parametrize("door", [by_extractor, by_attach, by_engine])
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"layers": str(N_LAYERS)}, SchemaError, f"layer {N_LAYERS} does not exist"),
        ({"layers": [-N_LAYERS - 1]}, SchemaError, "does not exist"),
        ({"layers": ""}, SchemaError, "cannot read layer list"),
        ({"layers": []}, SchemaError, "no layer"),
        ({"features": "sign_men"}, SchemaError, "unknown feature"),
        ({"features": f"blocks:{N_HYPERPLANES + 1}"}, SchemaError, f"{N_HYPERPLANES} hyperplanes"),
        ({"dimension_threshold": 0.0}, ConfigurationError, "between 0 and 1"),
        ({"dimension_threshold": float("nan")}, ConfigurationError, "between 0 and 1"),
        ({"dimension_rule": "median"}, ConfigurationError, "median"),
    ],
    ids=str,
)
def test_every_door_refuses_what_the_model_cannot_do(
    llama: Backbone, door: Refuser, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        door(llama, settings)


@pytest.mark.parametrize("door", [by_extractor, by_attach, by_engine])
def test_every_door_refuses_the_dimension_of_attention_that_does_not_show(door: Refuser) -> None:
    backbone = case_backbone("falcon")
    with pytest.raises(AttentionUnavailableError, match="without intrinsic_dimension"):
        door(backbone, {"features": "paper"})
    door(backbone, {"features": "spline"})


@pytest.mark.parametrize(
    ("max_tokens", "message"),
    [(0, "at least 1"), (-3, "at least 1"), (MAX_POSITIONS + 1, f"{MAX_POSITIONS} positions")],
)
def test_a_plan_of_another_model_may_not_fit(
    llama: Backbone, max_tokens: int, message: str
) -> None:
    plan = replace(PLAN, max_tokens=max_tokens)
    with pytest.raises(ConfigurationError, match=message):
        plan.checked(llama)


def test_layers_that_were_not_loaded_are_refused(llama: Backbone) -> None:
    part = Backbone(
        tiny_model(num_hidden_layers=2), llama.tokenizer, "tiny", n_layers_of_checkpoint=N_LAYERS
    )
    with pytest.raises(SchemaError, match="layer 2 was not loaded"):
        Plan.resolve(part)
    assert Plan.resolve(part, layers="0-1").layers == (0, 1)


def test_options_have_a_meaning_with_a_model(llama: Backbone) -> None:
    plan = Plan.resolve(llama, layers=[-1, 0, 0], features="blocks:8,sign_max")
    assert plan.layers == (0, N_LAYERS - 1)
    assert plan.selection == FeatureSelection.parse("sign_max,blocks:8")
    assert plan.max_tokens == MAX_POSITIONS  # the model's, which is below 1024
    assert plan.checked(llama) == plan
    assert replace(plan, layers=(2, 0)).checked(llama) == plan


@pytest.mark.parametrize(
    ("positions", "wanted", "limit"), [(8192, None, 1024), (None, None, 1024), (None, 5000, 5000)]
)
def test_token_limits(
    monkeypatch: pytest.MonkeyPatch, positions: int | None, wanted: int | None, limit: int
) -> None:
    monkeypatch.setattr(Decoder, "max_positions", positions)
    assert Plan.resolve(Decoder(tiny_model()), max_tokens=wanted).max_tokens == limit


def test_attaching_with_more_blocks_than_hyperplanes_is_refused() -> None:
    """It used to end in NaN, and in the claim that the forward pass had overflowed."""
    with pytest.raises(SchemaError) as attached:
        attach(tiny_model(), features="blocks:5000")
    with pytest.raises(SchemaError) as extracted:
        SplineExtractor(tiny_backbone(), features="blocks:5000")
    assert str(attached.value) == str(extracted.value)


@pytest.mark.parametrize("door", [by_extractor, by_attach, by_engine])
def test_blocks_that_nobody_asked_for_are_no_hindrance(door: Refuser) -> None:
    few = Backbone(tiny_model(intermediate_size=16), tiny_tokenizer(), "few")
    door(few, {"features": "paper"})
    door(few, {"features": "sign_mean,blocks:16"})
    with pytest.raises(SchemaError, match="32 sign blocks cannot be cut from 16 hyperplanes"):
        door(few, {"features": "sign_block_03"})
    assert SplineExtractor(few).verify().passed


def test_a_loaded_model_warns_where_the_user_is(monkeypatch: pytest.MonkeyPatch) -> None:
    half = tiny_backbone(dtype=torch.bfloat16)
    monkeypatch.setattr("splinellm.extraction.extractor.load_backbone", lambda *_, **__: half)
    with pytest.warns(PrecisionWarning) as caught:
        SplineExtractor.from_pretrained("half")
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("door", [by_extractor, by_attach])
def test_distances_in_half_precision_warn_once_where_the_user_is(door: Refuser) -> None:
    backbone = tiny_backbone(dtype=torch.bfloat16)
    with pytest.warns(PrecisionWarning, match="bfloat16 are mostly rounding noise") as caught:
        door(backbone, {})
    assert [warning.filename for warning in caught] == [__file__]
    door(backbone, {"features": "blocks,intrinsic_dimension"})  # warnings are errors here


def test_a_plan_says_where_its_tables_come_from(llama: Backbone) -> None:
    plan = replace(Plan.resolve(llama, layers="1"), granularity="token")
    extractor = SplineExtractor(llama, layers="1")
    facts = {
        "model": llama.spec,
        "attention": "sdpa",
        "weights_sha256": llama.weights_sha256,
        "tokenizer_probe": llama.tokenizer_probe,
    }
    assert plan.provenance(llama, **facts) == extractor.provenance_at("token")
    assert (
        plan.provenance(llama, **facts) == extractor.extract(["ab"], granularity="token").provenance
    )
    assert plan.schema(N_LAYERS) == extractor.schema.at("token")
