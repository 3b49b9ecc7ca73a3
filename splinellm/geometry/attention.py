"""Intrinsic dimension of the attention embeddings (arXiv 2312.01648, section 3).

A head's output for token i lies in the convex hull of the value vectors of the tokens j <= i, and
effectively in that of the few tokens it attends to. Counting those over all heads,

    ID_i = sum_heads #{ j <= i : a_{i,j} > eps * max_j a_{i,j} },

bounds the dimension of the layer's attention embedding. (Where tokens attend both ways, j is any
token of the text.) Softmax is monotone, so

    a_{i,j} > eps * max_j a_{i,j}   <=>   score_{i,j} > max_j score_{i,j} + ln(eps),

and one token's dimension needs one row of scores: neither a softmax nor the T x T matrix.
Where every row is wanted, they are made a few at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from splinellm.errors import ConfigurationError

_MAX_SCORES = 1 << 22
"""Scores (float32) held at a time where every row is wanted: 16 MB, and some copies."""


@dataclass(frozen=True)
class DimensionRule:
    """When an attention weight counts.

    Parameters
    ----------
    threshold : float
        eps, in (0, 1).
    kind : {"relative", "absolute"}
        ``relative``: ``a > eps * max a`` of the same head and row; ``absolute``: ``a > eps``, the
        wording of the paper.
    """

    threshold: float = 0.1
    kind: Literal["relative", "absolute"] = "relative"

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ConfigurationError(f"dimension threshold {self.threshold} is not between 0 and 1")
        if self.kind not in ("relative", "absolute"):
            raise ConfigurationError(
                f"unknown dimension rule '{self.kind}'", hint="use relative or absolute"
            )


@dataclass(frozen=True)
class Attended:
    """What a layer attends with, for B prompts of T tokens each.

    Parameters
    ----------
    query : Tensor, shape (B, H, T, D)
        Queries after the position embedding.
    key : Tensor, shape (B, H_kv, S, D)
        Keys after the position embedding, of S - T earlier tokens and then of these T; H is a
        multiple of H_kv (grouped heads).
    scaling : float
        Factor of the dot product.
    mask : Tensor, broadcastable to (B, H, T, S), optional
        The mask that the model's attention uses beyond causality: bool (True attends) or added to
        the scores. None is plain attention.
    softcap : float, optional
        Scores are bent to ``softcap * tanh(score / softcap)``, as in Gemma 2.
    is_causal : bool
        Whether a token attends to none after it. In encoders it attends to all that `mask` lets it.
    """

    query: Tensor
    key: Tensor
    scaling: float
    mask: Tensor | None = None
    softcap: float | None = None
    is_causal: bool = True

    @property
    def n_earlier(self) -> int:
        """Tokens S - T before these."""
        return self.key.shape[2] - self.query.shape[2]

    def detach(self) -> Attended:
        """The same outside of autograd."""
        return replace(self, query=self.query.detach(), key=self.key.detach())


def last_row_scores(attended: Attended, last: Tensor) -> Tensor:
    """Attention scores of one token of each prompt: its last, or in an encoder its first.

    Parameters
    ----------
    attended : Attended
        Queries and keys.
    last : Tensor, shape (B,), integer
        Index of each prompt's token among the T.

    Returns
    -------
    Tensor, shape (B, H, S), float32
        Scores before softmax; minus infinity where the token does not attend.
    """
    query, mask = attended.query, attended.mask
    if query.shape[2] == 1:  # one token of each prompt, as in `generate`: it sees all keys
        scores = _scores(attended)
        return (scores if mask is None else _by_mask(scores, mask)).squeeze(2)
    prompts = torch.arange(len(query), device=query.device)
    rows = query[prompts, :, last][:, :, None]  # (B, H, 1, D)
    if mask is not None:
        mask = mask.expand(len(query), -1, query.shape[2], -1)[prompts, :, last][:, :, None]
    scores = _scores(replace(attended, query=rows))
    positions = attended.n_earlier + last[:, None, None] if attended.is_causal else None
    return _masked(scores, positions, mask).squeeze(2)


def scores_of_tokens(attended: Attended, positions: Tensor) -> Tensor:
    """Attention scores of some tokens of each prompt.

    Parameters
    ----------
    attended : Attended
        Queries and keys.
    positions : Tensor, shape (B, R), integer
        Indices of each prompt's R tokens among the T.

    Returns
    -------
    Tensor, shape (B, R, H, S), float32
        As those of :func:`last_row_scores`.
    """
    query, mask = attended.query, attended.mask
    prompts = torch.arange(len(query), device=query.device)[:, None]
    rows = query.transpose(1, 2)[prompts, positions].transpose(1, 2)  # (B, H, R, D)
    if mask is not None:
        mask = mask.expand(len(query), -1, query.shape[2], -1).transpose(1, 2)
        mask = mask[prompts, positions].transpose(1, 2)
    scores = _scores(replace(attended, query=rows))
    columns = attended.n_earlier + positions[:, None] if attended.is_causal else None
    return _masked(scores, columns, mask).transpose(1, 2)


def of_every_token(attended: Attended, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute what is made of a token's scores, at each token of each prompt.

    Works through a few rows of the attention matrix at a time: beside the queries and keys it
    holds at most some `_MAX_SCORES` scores, or one row of all heads where that is more.

    Parameters
    ----------
    attended : Attended
        Queries and keys.
    kernel : callable
        Takes scores (B, R, H, S') of R tokens as those of :func:`last_row_scores`, gives (B, R).

    Returns
    -------
    Tensor, shape (B, T)
        Anything at padding.
    """
    query, key, mask = attended.query, attended.key, attended.mask
    n_prompts, n_heads, n_tokens, _ = query.shape
    if mask is not None:
        mask = mask.expand(-1, -1, n_tokens, -1)
    n_rows = max(1, _MAX_SCORES // (n_prompts * n_heads * key.shape[2]))
    parts = []
    # The longest rows first: what they leave free is large enough for all others. The other way
    # round, memory would go to pieces that are too small, several hundred MB of them.
    for start in reversed(range(0, n_tokens, n_rows)):
        end = min(start + n_rows, n_tokens)
        # Later keys are masked anyway, where attention is causal.
        n_keys = attended.n_earlier + end if attended.is_causal else key.shape[2]
        rows = replace(attended, query=query[:, :, start:end], key=key[:, :, :n_keys])
        part = None if mask is None else mask[:, :, start:end, :n_keys]
        positions = None
        if attended.is_causal:
            columns = torch.arange(attended.n_earlier + start, n_keys, device=query.device)
            positions = columns.expand(n_prompts, 1, -1)
        scores = _masked(_scores(rows), positions, part)
        parts.append(kernel(scores.transpose(1, 2)))
    return torch.cat(parts[::-1], dim=1)


def _scores(rows: Attended) -> Tensor:
    """Scores of some rows, (B, H, R, S), in float32, before the mask."""
    query, key = rows.query, rows.key
    n_prompts, n_heads, n_rows, size = query.shape
    # The heads of a group share their keys: one product for all, (B, H_kv, H / H_kv * R, D).
    groups = query.float().reshape(n_prompts, key.shape[1], -1, size)
    scores = (groups @ key.float().transpose(-1, -2)).view(n_prompts, n_heads, n_rows, -1)
    scores = scores * rows.scaling
    return scores if rows.softcap is None else (scores / rows.softcap).tanh() * rows.softcap


def _masked(scores: Tensor, positions: Tensor | None, mask: Tensor | None) -> Tensor:
    """Minus infinity where the tokens at `positions` (B, 1, R) do not attend; None sees all."""
    if mask is not None:
        scores = _by_mask(scores, mask)
    if positions is None:
        return scores
    attends = torch.arange(scores.shape[-1], device=scores.device) <= positions[..., None]
    return scores.where(attends, -torch.inf)


def _by_mask(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.where(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def intrinsic_dimension(scores: Tensor, rule: DimensionRule) -> Tensor:
    """Count the attended tokens of one row over all heads.

    Parameters
    ----------
    scores : Tensor, shape (..., H, T), float32
        Scores before softmax; minus infinity where the token does not attend.
    rule : DimensionRule
        Threshold, relative to the row's largest weight or absolute.

    Returns
    -------
    Tensor, shape (...), float32
        Whole numbers; with the relative rule at least H, at most H times the tokens attended.
    """
    if rule.kind == "relative":
        reference = scores.amax(dim=-1, keepdim=True)
    else:
        reference = scores.logsumexp(dim=-1, keepdim=True)
    return (scores > reference + math.log(rule.threshold)).sum(dim=(-2, -1), dtype=torch.float32)
