"""What is made of a layer's values, without a model around it."""

from __future__ import annotations

import pytest
import torch

from splinellm.backbone.reduction import PromptReduction, Reduction, TokenReduction
from splinellm.geometry import Attended, DimensionRule, real_tokens
from splinellm.schema import FeatureSchema, FeatureSelection

LENGTHS = torch.tensor([2, 4])


def begin(reduction: Reduction, lengths: torch.Tensor, n_positions: int) -> None:
    reduction.begin(real_tokens(lengths, n_positions), lengths - 1)


def reduction_of(features: str) -> PromptReduction:
    schema = FeatureSchema((0,), FeatureSelection.parse(features), 1)
    reduction = PromptReduction(schema, lambda _layer: torch.ones(6), DimensionRule())
    reduction.prepare()
    begin(reduction, LENGTHS, 4)
    return reduction


@pytest.mark.parametrize("features", ["spline", "blocks:2", "sign_max"])
def test_a_nan_spoils_its_own_prompt_and_only_where_it_is_real(features: str) -> None:
    h = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    h[0, 2:] = torch.nan  # padding
    reduction = reduction_of(features)
    reduction.on_gate(0, h)
    assert reduction.result().isfinite().all()

    h[1, 3, 5] = torch.nan  # one number of the last token
    begin(reduction, LENGTHS, 4)
    reduction.on_gate(0, h)
    assert reduction.result()[0].isfinite().all()
    assert reduction.result()[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_infinities_are_no_nan(dtype: torch.dtype) -> None:
    h = torch.ones(2, 4, 6, dtype=dtype)
    h[0, 0, :2] = torch.tensor([torch.inf, -torch.inf])
    h[0, 1] = torch.finfo(dtype).max  # whose squares are infinite
    reduction = reduction_of("sign_mean")
    reduction.on_gate(0, h)
    assert reduction.result().flatten().tolist() == pytest.approx([11 / 12, 1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("n_positions", [1, 4])  # one token is kept, and reduced in the end
@pytest.mark.parametrize("width", [1, 7, 33, 1536])  # less and more than what a core adds at once
def test_a_nan_is_told_from_what_is_infinite_or_has_infinite_squares(
    dtype: torch.dtype, n_positions: int, width: int
) -> None:
    largest = torch.finfo(dtype).max
    among = [1.0, largest, -largest, torch.finfo(dtype).tiny, torch.inf, -torch.inf]
    rows = [torch.full((width,), value, dtype=dtype) for value in among]
    rows.append(torch.tensor([torch.inf, -largest, largest, -torch.inf], dtype=dtype))
    rows[-1] = rows[-1].repeat(width)[:width]
    n_clean = len(rows)
    for row in rows[:n_clean]:
        for place in {0, width // 2, width - 1}:
            rows.append(row.clone())
            rows[-1][place] = torch.nan
    h = torch.ones(len(rows), n_positions, width, dtype=dtype)
    h[:, -1] = torch.stack(rows)
    schema = FeatureSchema((0,), FeatureSelection.parse("sign_mean"), 1)
    reduction = PromptReduction(schema, lambda _layer: torch.ones(width), DimensionRule())
    for seen in (h, h.transpose(1, 2).contiguous().transpose(1, 2)):
        begin(reduction, torch.full((len(rows),), n_positions), n_positions)
        reduction.on_gate(0, seen)
        found = reduction.result().flatten()
        assert found[:n_clean].isfinite().all()
        assert found[n_clean:].isnan().all()


def test_signs_of_single_hyperplanes_are_their_shares() -> None:
    h = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    schema = FeatureSchema((0,), FeatureSelection.parse("blocks:6"), 1).at("token")
    reduction = TokenReduction(schema, lambda _layer: torch.ones(6), DimensionRule())
    begin(reduction, LENGTHS, 4)
    reduction.on_gate(0, h)
    found = reduction.result()
    assert found.dtype == torch.float32
    assert torch.equal(found[:, :, 0], (h > 0).float())


def test_a_nan_in_keys_spoils_the_prompt_whose_last_token_sees_it() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 2, 2, 4, 8, generator=generator)
    reduction = reduction_of("intrinsic_dimension")
    key[0, :, 2:] = torch.nan  # padding
    reduction.on_attention(0, Attended(query, key, 1.0))
    assert reduction.result().isfinite().all()
    key[1, 1, 0] = torch.nan
    begin(reduction, LENGTHS, 4)
    reduction.on_attention(0, Attended(query, key, 1.0))
    assert reduction.result().isnan().flatten().tolist() == [False, True]


def test_a_batch_begins_clean() -> None:
    reduction = reduction_of("sign_mean")
    reduction.on_gate(0, torch.full((2, 4, 6), torch.nan))
    assert reduction.result().isnan().all()
    begin(reduction, torch.tensor([1]), 1)
    reduction.on_gate(0, torch.ones(1, 1, 6))
    assert reduction.result().tolist() == [[[1.0]]]


def test_norms_are_asked_for_before_and_only_if_a_distance_is_wanted() -> None:
    asked: list[int] = []

    def norms(layer: int) -> torch.Tensor:
        asked.append(layer)
        return torch.ones(6)

    for features, expected in (("blocks,intrinsic_dimension", []), ("distance_std", [1, 4])):
        schema = FeatureSchema((1, 4), FeatureSelection.parse(features), 6)
        PromptReduction(schema, norms, DimensionRule()).prepare()
        assert asked == expected
