"""The dimension at every token, a few rows of the attention matrix at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from splinellm.geometry import (
    Attended,
    DimensionRule,
    attention,
    intrinsic_dimension,
    last_row_scores,
    of_every_token,
)

N_TOKENS = 13
SCALING = 0.7
RULES = [DimensionRule(), DimensionRule(0.1, "absolute")]
MASKS = ["none", "window", "additive window", "per head", "one for all prompts"]


def dimensions(attended: Attended, rule: DimensionRule = RULES[0]) -> Tensor:
    return of_every_token(attended, lambda scores: intrinsic_dimension(scores, rule))


def queries_and_keys(n_tokens: int = N_TOKENS, n_earlier: int = 0) -> tuple[Tensor, Tensor]:
    """Of 2 prompts, 4 heads and 2 of keys."""
    generator = torch.Generator().manual_seed(n_tokens)
    query = torch.randn(2, 4, n_tokens, 8, generator=generator)
    return query, torch.randn(2, 2, n_earlier + n_tokens, 8, generator=generator)


def mask_of(kind: str, n_earlier: int = 0) -> Tensor | None:
    """Masks of shape (1 or B, 1 or H, T, S)."""
    rows = torch.arange(n_earlier, n_earlier + N_TOKENS)[:, None]
    columns = torch.arange(n_earlier + N_TOKENS)
    window = (rows - columns < 4) & (rows >= columns)
    masks = {
        "none": None,
        "window": window.expand(2, 1, -1, -1),
        "additive window": torch.zeros(window.shape)
        .masked_fill(~window, torch.finfo().min)
        .expand(2, 1, -1, -1),
        "per head": torch.stack([window, rows >= columns, window, rows - 2 >= columns])
        .logical_or(rows == columns)
        .expand(2, -1, -1, -1),
        "one for all prompts": window[None, None],
    }
    return masks[kind]


@pytest.mark.parametrize("max_scores", [1, 300, 1 << 22], ids=["a row", "some rows", "all rows"])
@pytest.mark.parametrize("n_earlier", [0, 5])
@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_equals_the_last_row_of_every_prefix(
    rule: DimensionRule,
    softcap: float | None,
    mask_kind: str,
    n_earlier: int,
    max_scores: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_MAX_SCORES", max_scores)
    query, key = queries_and_keys(n_earlier=n_earlier)
    mask = mask_of(mask_kind, n_earlier)
    found = dimensions(Attended(query, key, SCALING, mask, softcap), rule)
    assert (found.shape, found.dtype) == ((2, N_TOKENS), torch.float32)
    for k in range(1, N_TOKENS + 1):
        part = None if mask is None else mask[:, :, :k, : n_earlier + k]
        prefix = Attended(query[:, :, :k], key[:, :, : n_earlier + k], SCALING, part, softcap)
        scores = last_row_scores(prefix, torch.tensor([k - 1, k - 1]))
        assert torch.equal(found[:, k - 1], intrinsic_dimension(scores, rule))
    assert len(found.unique()) > 4


def test_padding_is_seen_by_no_real_token() -> None:
    query, key = queries_and_keys()
    expected = dimensions(Attended(query, key, SCALING))
    query[:, :, 9:], key[:, :, 9:] = torch.nan, torch.nan
    found = dimensions(Attended(query, key, SCALING))
    assert torch.equal(found[:, :9], expected[:, :9])


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that anything makes."""

    n_numbers = 0

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.n_numbers = max([self.n_numbers, *sizes])
        return made


def test_never_holds_the_whole_attention_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    n_tokens, limit = 600, 40_000
    monkeypatch.setattr(attention, "_MAX_SCORES", limit)
    query, key = queries_and_keys(n_tokens)
    with LargestTensor() as largest:
        dimensions(Attended(query, key, SCALING))
    assert limit / 2 < largest.n_numbers <= limit
    assert largest.n_numbers < 2 * 4 * n_tokens * n_tokens / 50
