from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splinellm.errors import ConfigurationError
from splinellm.geometry import (
    Attended,
    DimensionRule,
    intrinsic_dimension,
    last_row_scores,
    real_tokens,
)

RELATIVE, ABSOLUTE = DimensionRule(), DimensionRule(kind="absolute")


def scores_of(*rows: list[float]) -> Tensor:
    """Scores whose softmax is the given rows; one head each."""
    return torch.tensor([rows]).log()


def qkv(n_prompts: int, n_positions: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random queries of 4 heads and keys of 2, spread enough that dimensions vary."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(n_prompts, 4, n_positions, 8, generator=generator)
    return query, torch.randn(n_prompts, 2, n_positions, 8, generator=generator)


def plain_weights(query: Tensor, key: Tensor, length: int, allowed: Tensor) -> Tensor:
    """Softmax weights of the last real token of one prompt, (H, T), head by head, in float64."""
    rows = []
    for head in range(query.shape[0]):
        keys = key[head // (query.shape[0] // key.shape[0]), :length].double()
        scores = keys @ query[head, length - 1].double() * 0.5
        rows.append(scores.where(allowed[:length], -torch.inf).softmax(-1))
    return torch.stack(rows)


def test_hand_worked_example() -> None:
    scores = scores_of([0.5, 0.3, 0.04, 0.16])
    # 0.1 of the largest is 0.05: three weights are above.
    assert intrinsic_dimension(scores, RELATIVE).tolist() == [3.0]
    assert intrinsic_dimension(scores, DimensionRule(0.35)).tolist() == [2.0]
    assert intrinsic_dimension(scores, DimensionRule(0.35, "absolute")).tolist() == [1.0]


def test_relative_and_absolute_part_ways_where_attention_is_spread() -> None:
    uniform = torch.zeros(1, 3, 20)  # 3 heads, every weight 1/20
    assert intrinsic_dimension(uniform, RELATIVE).tolist() == [60.0]
    assert intrinsic_dimension(uniform, ABSOLUTE).tolist() == [0.0]


def test_threshold_itself_does_not_count() -> None:
    scores = torch.tensor([[[0.0, math.log(0.1)]]])
    assert intrinsic_dimension(scores, RELATIVE).item() == 1.0


def test_heads_are_summed_and_prompts_are_not() -> None:
    scores = torch.stack([scores_of([0.9, 0.05, 0.05], [0.4, 0.3, 0.3])[0], torch.zeros(2, 3)])
    assert intrinsic_dimension(scores, RELATIVE).tolist() == [4.0, 6.0]


def test_one_token_counts_once_per_head() -> None:
    query, key = qkv(1, 1)
    scores = last_row_scores(Attended(query, key, 0.5), torch.tensor([0]))
    for rule in (RELATIVE, ABSOLUTE):
        assert intrinsic_dimension(scores, rule).item() == 4.0


@pytest.mark.parametrize("rule", [RELATIVE, ABSOLUTE])
def test_scores_beyond_the_range_of_exp(rule: DimensionRule) -> None:
    scores = torch.tensor([[[5000.0, 4999.0, 4990.0, -5000.0, -torch.inf]]])
    assert intrinsic_dimension(scores, rule).item() == 2.0  # e^-1 is above 0.1, e^-10 is not


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.integers(0, 2**31),
    st.sampled_from(["none", "bool", "additive", "per head"]),
)
@settings(max_examples=80, deadline=None)
def test_counts_equal_the_softmax_weights(lengths: list[int], seed: int, mask_kind: str) -> None:
    # A sliding window of 3 stands for any mask beyond causality; padding is poisoned.
    n_positions = max(lengths) + 1
    query, key = qkv(len(lengths), n_positions, seed)
    padding = ~real_tokens(torch.tensor(lengths), n_positions)[:, None, :, None]
    query, key = query.masked_fill(padding, torch.nan), key.masked_fill(padding, torch.nan)
    positions = torch.arange(n_positions)
    window = (positions[:, None] - positions < 3) & (positions[:, None] >= positions)
    mask = {
        "none": None,
        "bool": window[None, None],
        "additive": torch.zeros(window.shape).masked_fill(~window, torch.finfo().min)[None, None],
        "per head": window.expand(len(lengths), 4, -1, -1),
    }[mask_kind]
    scores = last_row_scores(Attended(query, key, 0.5, mask), torch.tensor(lengths) - 1)
    assert not scores.isnan().any()
    for rule in (RELATIVE, ABSOLUTE):
        found = intrinsic_dimension(scores, rule)
        for row, length in enumerate(lengths):
            allowed = torch.ones(n_positions, dtype=torch.bool)
            if mask is not None:
                allowed = window[length - 1]
            weights = plain_weights(query[row], key[row], length, allowed)
            limit = rule.threshold * (weights.amax(-1, True) if rule is RELATIVE else 1.0)
            if ((weights - limit).abs() > 1e-6).all():  # else float32 may see it otherwise
                assert found[row].item() == (weights > limit).sum().item()


def test_additive_mask_that_is_no_switch_shifts_the_scores() -> None:
    # ALiBi and the like add finite biases.
    query, key = qkv(1, 4)
    bias = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    last = torch.tensor([3])
    plain = last_row_scores(Attended(query, key, 0.5), last)
    found = last_row_scores(Attended(query, key, 0.5, bias), last)
    torch.testing.assert_close(found, plain + bias[:, :, 3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_are_computed_in_float32(dtype: torch.dtype) -> None:
    query = torch.full((1, 1, 2, 64), 100.0, dtype=dtype)
    key = torch.stack([torch.full((64,), 100.0), torch.full((64,), 99.5)])[None, None].to(dtype)
    scores = last_row_scores(Attended(query, key, 1.0), torch.tensor([1]))
    # 640000 overflows float16; bfloat16 would round both scores to the same number.
    assert scores.dtype == torch.float32
    assert scores[0, 0].tolist() == [640000.0, 636800.0]


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        DimensionRule(threshold)


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="relative or absolute"):
        DimensionRule(kind="softmax")  # type: ignore[arg-type]
