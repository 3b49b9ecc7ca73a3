"""Statistics piece by piece equal statistics in one go."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splinellm.geometry import Moments, real_tokens, running_summary

FLOATS = st.floats(-1e4, 1e4, width=32)


def moments_of(values: list[float] | Tensor) -> Moments:
    n_tokens = len(values)
    row = torch.tensor([[*values, torch.nan]])  # padding: there may be no token at all
    return Moments.of(row, torch.arange(n_tokens + 1)[None] < n_tokens)


def exact(values: Tensor) -> list[float]:
    """Mean, min, max and standard deviation in two passes, in float64."""
    numbers = values.double()
    std = numbers.std(correction=1).item() if len(numbers) > 1 else 0.0
    return [numbers.mean().item(), numbers.min().item(), numbers.max().item(), std]


def check(found: Tensor, values: Tensor) -> None:
    # The spread is only as sharp as the digits that float32 keeps of the values, and there is none
    # of values so small (1e-19) that float32 has no number for their squares.
    scale = max(1e-13, values.abs().max().item())
    np.testing.assert_allclose(found.double(), exact(values), rtol=2e-6, atol=3e-6 * scale)


@given(st.lists(FLOATS, min_size=1, max_size=40), st.data())
@settings(max_examples=100, deadline=None)
def test_any_split_gives_the_same(values: list[float], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    pieces = [values[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
    joined = moments_of(pieces[0])
    for piece in pieces[1:]:  # some are of no token
        joined = joined.followed_by(moments_of(piece))
    assert joined.count.tolist() == [len(values)]
    check(joined.summary()[0], torch.tensor(values))


@pytest.mark.parametrize("value", [0.0, 0.3, -1e4, 3e15])
def test_constant_values_have_no_spread_however_they_are_cut(value: float) -> None:
    joined = moments_of([])
    for n_tokens in (1, 0, 300, 7):
        joined = joined.followed_by(moments_of([value] * n_tokens))
    mean, low, high, std = joined.summary()[0].tolist()
    assert low == high == torch.tensor(value).item()
    assert mean == pytest.approx(value, rel=1e-6)
    assert std <= 1e-6 * abs(value)


def test_no_token_is_neutral() -> None:
    some, none = moments_of([1.0, 4.0]), moments_of([])
    assert (none.count.tolist(), none.mean.tolist()) == ([0.0], [0.0])
    for joined in (some.followed_by(none), none.followed_by(some)):
        assert torch.equal(joined.summary(), some.summary())


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_stays_so(value: float) -> None:
    # Or an overflow in a shared beginning would pass for a number.
    odd, plain = moments_of([1.0, value]), moments_of([2.0, 3.0])
    for found in (odd, odd.followed_by(plain), plain.followed_by(odd)):
        mean, _, _, std = found.summary()[0].tolist()
        assert not math.isfinite(mean)
        assert not math.isfinite(std)


def test_one_past_before_many_continuations() -> None:
    generator = torch.Generator().manual_seed(0)
    past, rest = torch.randn(9, generator=generator), torch.randn(3, 5, generator=generator)
    lengths = torch.tensor([5, 1, 3])
    later = Moments.of(rest, real_tokens(lengths, 5))
    found = moments_of(past).followed_by(later).summary()
    for row, length in enumerate(lengths.tolist()):
        check(found[row], torch.cat([past, rest[row, :length]]))


@given(st.lists(FLOATS, min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_running_summary_is_that_of_every_prefix(values: list[float]) -> None:
    row = torch.tensor(values)
    found = running_summary(torch.stack([row, -row]))
    assert found.shape == (2, len(values), 4)
    assert found.dtype == torch.float32
    for k in range(1, len(values) + 1):
        check(found[0, k - 1], row[:k])
        check(found[1, k - 1], -row[:k])
        torch.testing.assert_close(
            found[0, k - 1], moments_of(row[:k]).summary()[0], rtol=1e-5, atol=2e-6 * 1e4
        )
    assert found[:, 0, 3].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("offset", "spread"), [(0.5, 0.01), (1e-4, 1e-5), (1000.0, 0.01)])
def test_running_summary_of_8192_tokens_equals_two_passes_in_float64(
    offset: float, spread: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    values = (offset + spread * torch.randn(8192, generator=generator)).float()
    values[0] = offset + 40 * spread  # the first token is an outlier in every real model
    found = running_summary(values[None])[0]
    for k in (1, 2, 3, 10, 100, 1000, 4096, 8191, 8192):
        np.testing.assert_allclose(found[k - 1].double(), exact(values[:k]), rtol=1e-6, atol=1e-12)


def test_padding_never_reaches_an_earlier_row() -> None:
    values = torch.tensor([[1.0, 2.0, math.nan], [3.0, 4.0, math.inf]])
    assert torch.equal(running_summary(values)[:, :2], running_summary(values[:, :2]))


def test_layers_are_worked_out_at_once() -> None:
    # Values (L, B, T) beside real tokens (B, T), and one past of every layer before many rows.
    values = torch.randn(3, 2, 7, generator=torch.Generator().manual_seed(1))
    real = real_tokens(torch.tensor([7, 4]), 7)
    found = Moments.of(values, real)
    past = Moments.of(values[:, :1], real[:1])
    joined = past.followed_by(found).summary()
    for layer in range(3):
        alone = Moments.of(values[layer], real)
        assert torch.equal(found.summary()[layer], alone.summary())
        assert torch.equal(running_summary(values)[layer], running_summary(values[layer]))
        for row, length in enumerate((7, 4)):
            check(joined[layer, row], torch.cat([values[layer, 0], values[layer, row, :length]]))
    picked = past.followed_by(found)[:, torch.tensor([1])]
    assert torch.equal(picked.summary(), joined[:, 1:])
