"""What transformers' attention masks say about padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def real_by_mask(mask: Any, n_rows: int, n_cached: int, n_new: int, device: torch.device) -> Tensor:
    """Which of the tokens of a forward pass are no padding.

    Parameters
    ----------
    mask : Tensor, dict or None
        A model's ``attention_mask``: (B, S) with 1 at tokens that count; (B, 1, T, S), bool or
        added to the scores; or several of those by kind of layer, as `generate` prepares them for
        static caches. Without one, or with one of another kind, every token counts.
    n_rows, n_cached, n_new : int
        B, tokens in the cache, and T.
    device : torch.device
        Where the answer is wanted.

    Returns
    -------
    Tensor, shape (B, T), bool
    """
    if isinstance(mask, dict):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    real = torch.ones(n_rows, n_new, dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
        return real
    first = min(n_cached, mask.shape[-1] - n_new)  # a window has no columns for older tokens
    if mask.ndim == 2:
        return mask[:, first : first + n_new].to(device).bool()
    # A token that does not attend to itself is padding.
    attends = mask[:, 0].diagonal(offset=first, dim1=-2, dim2=-1).to(device)
    return real & (attends >= 0 if attends.is_floating_point() else attends.bool())
