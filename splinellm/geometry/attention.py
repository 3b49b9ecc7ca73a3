"""Intrinsic dimension of the attention embeddings (arXiv 2312.01648, section 3).

A head's output for token i lies in the convex hull of the value vectors of the tokens j <= i, and
effectively in that of the few tokens it attends to. Counting those over all heads,

    ID_i = sum_heads #{ j <= i : a_{i,j} > eps * max_j a_{i,j} },

bounds the dimension of the layer's attention embedding. Softmax is monotone, so

    a_{i,j} > eps * max_j a_{i,j}   <=>   score_{i,j} > max_j score_{i,j} + ln(eps),

and the last token's dimension needs one row of scores: neither a softmax nor the T x T matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from splinellm.errors import ConfigurationError


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


def last_row_scores(
    query: Tensor,
    key: Tensor,
    lengths: Tensor,
    scaling: float,
    mask: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention scores of each prompt's last real token.

    Parameters
    ----------
    query : Tensor, shape (B, H, T, D)
        Queries after the position embedding.
    key : Tensor, shape (B, H_kv, T, D)
        Keys after the position embedding; H is a multiple of H_kv (grouped heads).
    lengths : Tensor, shape (B,), integer
        Number of real tokens of each right-padded prompt.
    scaling : float
        Factor of the dot product.
    mask : Tensor, broadcastable to (B, H, T, T), optional
        The mask that the model's attention uses beyond causality: bool (True attends) or added to
        the scores. None is plain causal attention.
    softcap : float, optional
        c, if the model softens its scores to ``c tanh(score / c)`` before masking (Gemma 2).

    Returns
    -------
    Tensor, shape (B, H, T), float32
        Scores before softmax; minus infinity where the token does not attend.
    """
    n_prompts, n_heads, n_positions, _ = query.shape
    prompts = torch.arange(n_prompts, device=query.device)
    last = lengths - 1
    rows = query[prompts, :, last].float()  # (B, H, D)
    groups = rows.view(n_prompts, key.shape[1], -1, rows.shape[-1])  # (B, H_kv, H / H_kv, D)
    scores = (groups @ key.float().transpose(-1, -2)).view(n_prompts, n_heads, n_positions)
    scores = scores * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    attends = torch.arange(n_positions, device=query.device) <= last[:, None, None]  # (B, 1, T)
    if mask is not None:
        row = mask.expand(n_prompts, -1, -1, -1)[prompts, :, last]  # (B, H or 1, T)
        if row.dtype == torch.bool:
            attends = attends & row
        else:
            scores = scores + row
    return scores.where(attends, -torch.inf)


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
