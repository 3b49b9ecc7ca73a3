from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splinellm.geometry import (
    Moments,
    block_bounds,
    block_sizes,
    complexity,
    hyperplane_distance,
    real_tokens,
    root_mean_square,
    row_norms,
    sign_counts,
    sign_entropy,
    sign_fraction,
)

GARBAGE = [math.nan, math.inf, -math.inf, 1e30]


def summary(values: Tensor, real: Tensor) -> Tensor:
    """Mean, min, max and standard deviation over the real tokens."""
    return Moments.of(values, real).summary()


def block_means(h: Tensor, real: Tensor, n_blocks: int) -> Tensor:
    """Mean share of positive signs in each block, shape (B, n_blocks)."""
    counts = sign_counts(h, n_blocks).where(real[..., None], 0.0).sum(dim=1)
    sizes = torch.tensor(block_sizes(h.shape[-1], n_blocks))
    return counts / (real.sum(dim=1, keepdim=True) * sizes)


def every_statistic(h: Tensor, norms: Tensor, lengths: Tensor, n_blocks: int = 2) -> Tensor:
    """All that the module computes of a batch, shape (B, 8 + n_blocks)."""
    real = real_tokens(lengths, h.shape[1])
    return torch.cat(
        [
            summary(sign_fraction(h), real),
            summary(hyperplane_distance(h, norms), real),
            block_means(h, real, n_blocks),
        ],
        dim=-1,
    )


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Pre-activations (B, T, K), norms (K,) and lengths (B,) with padding."""
    n_prompts, n_positions = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    n_hyperplanes = draw(st.integers(2, 40))
    lengths = draw(st.lists(st.integers(1, n_positions), min_size=n_prompts, max_size=n_prompts))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    h = torch.randn(n_prompts, n_positions, n_hyperplanes, generator=generator)
    return h, torch.rand(n_hyperplanes, generator=generator) + 0.1, torch.tensor(lengths)


def test_hand_worked_example() -> None:
    # Hyperplanes w_1 = (3, 4), w_2 = (1, 0), w_3 = (0, 2), no bias; norms 5, 1, 2.
    # Token (1, -1/2): h = 3 - 2 = 1, 1, -1     signs + + -   distances 1/5, 1, 1/2
    # Token (2, 1):    h = 6 + 4 = 10, 2, 2     signs + + +   distances 2, 2, 1
    weight = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    tokens = torch.tensor([[[1.0, -0.5], [2.0, 1.0]]])
    h, norms = tokens @ weight.T, row_norms(weight)
    real = real_tokens(torch.tensor([2]), 2)

    assert norms.tolist() == [5.0, 1.0, 2.0]
    signs, distances = sign_fraction(h), hyperplane_distance(h, norms)
    torch.testing.assert_close(signs, torch.tensor([[2 / 3, 1.0]]))
    torch.testing.assert_close(distances, torch.tensor([[0.2, 1.0]]))
    # Two values a, b have sample standard deviation |a - b| / sqrt(2).
    root = math.sqrt(2)
    torch.testing.assert_close(
        summary(signs, real), torch.tensor([[5 / 6, 2 / 3, 1.0, 1 / 3 / root]])
    )
    torch.testing.assert_close(
        summary(distances, real), torch.tensor([[0.6, 0.2, 1.0, 0.8 / root]])
    )
    # Two blocks {1}, {2, 3}: 2 of 2 signs positive, 3 of 4.
    torch.testing.assert_close(block_means(h, real, 2), torch.tensor([[1.0, 0.75]]))


def test_zero_is_not_a_positive_side() -> None:
    h = torch.tensor([[[0.0, -0.0, 1.0, -1.0]]])
    assert sign_fraction(h).item() == 0.25
    assert block_means(h, real_tokens(torch.tensor([1]), 1), 2).tolist() == [[0.0, 0.5]]


@pytest.mark.parametrize(
    ("dtype", "tiny"),
    [(torch.float32, 1e-45), (torch.bfloat16, 1e-40), (torch.float16, 6e-8)],
)
def test_the_smallest_number_is_positive_and_no_zero_is(dtype: torch.dtype, tiny: float) -> None:
    h = torch.tensor([0.0, -0.0, tiny, -tiny, math.inf, -math.inf, math.nan, 1.0]).to(dtype)
    assert h[2] > 0
    assert sign_counts(h).tolist() == [3.0]
    assert sign_counts(h, 4).tolist() == [0.0, 1.0, 1.0, 1.0]


def test_one_token_has_standard_deviation_zero() -> None:
    # Beside a longer prompt, so that padding is there to tempt.
    h = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    found = every_statistic(h, torch.ones(7), torch.tensor([1, 5]))
    assert found[0, [3, 7]].tolist() == [0.0, 0.0]
    assert (found[1, [3, 7]] > 0).all()


@given(batches(), st.sampled_from(GARBAGE))
@settings(max_examples=60, deadline=None)
def test_padding_never_matters(batch: tuple[Tensor, Tensor, Tensor], garbage: float) -> None:
    h, norms, lengths = batch
    real = real_tokens(lengths, h.shape[1])
    zeros, dirty = h.where(real[..., None], 0.0), h.where(real[..., None], garbage)
    assert torch.equal(
        every_statistic(dirty, norms, lengths), every_statistic(zeros, norms, lengths)
    )


@given(batches())
@settings(max_examples=60, deadline=None)
def test_row_of_a_batch_equals_the_prompt_alone(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    h, norms, lengths = batch
    found = every_statistic(h, norms, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = every_statistic(h[row : row + 1, :length], norms, lengths[row : row + 1])
        torch.testing.assert_close(found[row], alone[0], rtol=1e-6, atol=1e-7)


@given(batches())
@settings(max_examples=60, deadline=None)
def test_blocks_average_to_the_sign_mean(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    h, _, lengths = batch
    real = real_tokens(lengths, h.shape[1])
    sign_mean = summary(sign_fraction(h), real)[:, :1]
    n_hyperplanes = h.shape[-1]
    torch.testing.assert_close(block_means(h, real, 1), sign_mean)
    for n_blocks in {2, min(3, n_hyperplanes), n_hyperplanes}:
        bounds = torch.tensor(block_bounds(n_hyperplanes, n_blocks), dtype=torch.float32)
        weighted = block_means(h, real, n_blocks) * bounds.diff() / n_hyperplanes
        torch.testing.assert_close(weighted.sum(dim=-1, keepdim=True), sign_mean)


@given(st.integers(1, 5000), st.data())
@settings(max_examples=60, deadline=None)
def test_blocks_are_contiguous_and_nearly_equal(n_hyperplanes: int, data: st.DataObject) -> None:
    n_blocks = data.draw(st.integers(1, min(n_hyperplanes, 64)))
    bounds = block_bounds(n_hyperplanes, n_blocks)
    sizes = {end - start for start, end in pairwise(bounds)}
    assert (bounds[0], bounds[-1], len(bounds)) == (0, n_hyperplanes, n_blocks + 1)
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_block_holds_the_hyperplanes_between_its_bounds() -> None:
    # 7 hyperplanes in 3 blocks: 0-1, 2-3, 4-6. One positive sign at a time shows where it goes.
    h = torch.eye(7)[:, None, :]
    found = block_means(h, real_tokens(torch.ones(7, dtype=torch.int64), 1), 3)
    assert found.argmax(dim=-1).tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert found.amax(dim=-1).tolist() == pytest.approx([0.5] * 4 + [1 / 3] * 3)


def slow_counts(h: Tensor, n_blocks: int) -> Tensor:
    """One comparison after the other."""
    bounds = block_bounds(h.shape[-1], n_blocks)
    signs = (h > 0).long()
    return torch.stack([signs[..., a:b].sum(dim=-1) for a, b in pairwise(bounds)], dim=-1).float()


# Eight signs are counted at a time where blocks are multiples of eight, one at a time elsewhere.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("n_hyperplanes", "n_blocks"),
    [
        *[(1536, 1), (1536, 32), (1536, 48), (1536, 192), (1536, 1536)],
        *[(8, 1), (8, 8), (72, 32), (73, 1), (73, 9), (7, 3), (1, 1)],
        *[(14336, 1), (14336, 7), (14336, 32), (16, 2), (2056, 1), (8 * 509, 1)],
    ],
)
def test_sign_counts_equal_counting_one_by_one(
    n_hyperplanes: int, n_blocks: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(n_hyperplanes + n_blocks)
    h = torch.randn(2, 3, n_hyperplanes, generator=generator).to(dtype)
    h[0, 0], h[1, 2] = 1.0, 0.0  # all positive, none
    found = sign_counts(h, n_blocks)
    assert found.dtype == torch.float32
    assert found.shape == (2, 3, n_blocks)
    assert torch.equal(found, slow_counts(h, n_blocks))
    assert torch.equal(sign_fraction(h), found.sum(dim=-1) / n_hyperplanes)


@pytest.mark.parametrize("n_hyperplanes", [2040, 2048, 4096, 14336, 8 * 255, 8 * 256, 8 * 257])
def test_counts_of_all_positive_signs_do_not_wrap(n_hyperplanes: int) -> None:
    # In 8 lanes of a byte each, the 256th sign of a lane would carry into the next.
    assert sign_counts(torch.ones(1, 2, n_hyperplanes)).tolist() == [[[n_hyperplanes]] * 2]


def test_counts_of_a_slice_of_a_fused_map() -> None:
    fused = torch.randn(2, 5, 144, generator=torch.Generator().manual_seed(3))
    gates = fused[..., :72]
    assert not gates.is_contiguous()
    for h in (gates, gates.transpose(0, 1), fused[..., ::2], fused[:, ::2, 8:72]):
        for n_blocks in (1, 8, 9):
            assert torch.equal(sign_counts(h, n_blocks), slow_counts(h, n_blocks))


def test_row_of_norm_zero_is_no_hyperplane() -> None:
    # Pruned rows: h is the bias there, or exactly 0. Neither is a distance.
    h = torch.tensor([[[0.0, 3.0, -4.0], [1e-9, 8.0, 2.0]]])
    distances = hyperplane_distance(h, torch.tensor([0.0, 1.0, 2.0]))
    assert distances.tolist() == [[2.0, 1.0]]
    assert hyperplane_distance(h, torch.zeros(3)).isinf().all()


def test_distance_leaves_its_input_alone() -> None:
    h = torch.tensor([[[-2.0, 3.0]]])
    hyperplane_distance(h, torch.tensor([2.0, 2.0]))
    assert h.tolist() == [[[-2.0, 3.0]]]


def test_constant_values_have_no_spread() -> None:
    # One pass over squares would cancel: 1000.1**2 has no digits left for a variance.
    real = real_tokens(torch.tensor([400]), 400)
    spread = torch.linspace(-0.001, 0.001, 400)
    found = summary((1000.1 + spread)[None], real)[0, 3]
    assert found.item() == pytest.approx(spread.std(correction=1).item(), rel=0.05)
    assert summary(torch.full((1, 400), 0.3), real)[0, 3] < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
class TestHalfPrecisionIsReducedInFloat32:
    def test_row_norms(self, dtype: torch.dtype) -> None:
        weight = torch.full((1, 1000), 40.0, dtype=dtype)  # the squares' sum overflows float16
        norms = row_norms(weight)
        assert norms.dtype == torch.float32
        assert norms.item() == pytest.approx(40 * math.sqrt(1000), rel=1e-6)  # not 1264 or 1272

    def test_sign_counts(self, dtype: torch.dtype) -> None:
        h = torch.ones(1, 300, 4099, dtype=dtype)  # 4099 is no number of either dtype
        h[..., :2] = -1
        real = real_tokens(torch.tensor([300]), 300)
        fractions = sign_fraction(h)
        assert fractions.dtype == torch.float32
        assert fractions[0, 0].item() == pytest.approx(4097 / 4099, rel=1e-6)
        mean = block_means(h, real, 1)
        assert mean.dtype == torch.float32
        assert mean.item() == pytest.approx(4097 / 4099, rel=1e-6)

    def test_distance(self, dtype: torch.dtype) -> None:
        h = torch.full((1, 1, 2), 60000.0, dtype=dtype)
        distance = hyperplane_distance(h, torch.tensor([0.1, 0.3]))
        assert distance.dtype == torch.float32
        assert distance.item() == pytest.approx(h[0, 0, 0].item() / 0.3, rel=1e-6)


def test_sign_entropy_by_hand() -> None:
    h = torch.tensor([[-1.0, -1, -1, -1], [1, -1, -1, -1], [1, 1, -1, -1], [1, 1, 1, 1]])
    found = sign_entropy(sign_fraction(h))
    # Of a quarter: 1/4 * 2 bits + 3/4 * log2(4/3).
    expected = [0.0, 0.5 + 0.75 * (2 - math.log2(3)), 1.0, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert [math.copysign(1.0, value) for value in found] == [1.0] * 4  # no -0.0


def test_sign_entropy_is_symmetric_and_at_most_one_bit() -> None:
    share = torch.arange(1537) / 1536
    found = sign_entropy(share)
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(found, found.flip(0), rtol=0, atol=1e-6)
    assert (found[:769].diff() > 0).all()


def test_complexity_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])  # of size 5 / sqrt(2) in a coordinate
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.6, -0.8], [0.0, 0.0]])
    h = x @ rows.T  # distances 3, 4, 1.4; the last is no hyperplane
    rms = root_mean_square(x)
    torch.testing.assert_close(rms, torch.tensor([5 / math.sqrt(2), 0.0]))
    norms = row_norms(rows)
    shares = [complexity(h, norms, rms, r * math.sqrt(2) / 5) for r in (1.3, 1.5, 3.1, 4.1)]
    assert torch.stack(shares)[:, 0].tolist() == [0.0, 0.25, 0.5, 0.75]
    assert torch.stack(shares)[:, 1].tolist() == [0.0] * 4  # a ball of radius 0 is empty
