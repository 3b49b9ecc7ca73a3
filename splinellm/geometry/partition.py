"""Spline features of one MLP layer (arXiv 2312.01648, section 4).

The first linear map of the layer's MLP has rows w_k and biases b_k, k = 1..K, and for the input
x_t of token t gives h_{t,k} = w_k . x_t + b_k. The hyperplanes h_{t,k} = 0 cut the layer's input
space into the regions on which the layer is affine. For each token,

* the sign fraction      s_t = (1/K) sum_k 1[h_{t,k} > 0]  says on which side of them it lies,
* the hyperplane distance d_t = min_k |h_{t,k}| / ||w_k||_2  how close it is to the nearest.

A prompt's features are mean, minimum, maximum and sample standard deviation of these over its
tokens. Prompts are padded on the right; no function lets padding into a result.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def real_tokens(lengths: Tensor, n_positions: int) -> Tensor:
    """Mark the real tokens of right-padded prompts.

    Parameters
    ----------
    lengths : Tensor, shape (B,), integer
        Number of real tokens of each prompt, at least 1.
    n_positions : int
        Padded length T.

    Returns
    -------
    Tensor, shape (B, T), bool
        True at real tokens.
    """
    return torch.arange(n_positions, device=lengths.device) < lengths[:, None]


def row_norms(weight: Tensor) -> Tensor:
    """Euclidean norm of each hyperplane's normal.

    Parameters
    ----------
    weight : Tensor, shape (K, D)
        Rows w_k in any floating dtype; dequantised, not packed.

    Returns
    -------
    Tensor, shape (K,), float32
        ``||w_k||_2``, computed in float32.
    """
    norms: Tensor = torch.linalg.vector_norm(weight, dim=-1, dtype=torch.float32)
    return norms


def sign_fraction(h: Tensor) -> Tensor:
    """Share of hyperplanes on whose positive side each token lies.

    Parameters
    ----------
    h : Tensor, shape (B, T, K)
        Pre-activations of the gate.

    Returns
    -------
    Tensor, shape (B, T), float32
        s_t in [0, 1].
    """
    return (h > 0).sum(dim=-1, dtype=torch.float32) / h.shape[-1]


def hyperplane_distance(h: Tensor, norms: Tensor) -> Tensor:
    """Distance from each token to the nearest hyperplane.

    Parameters
    ----------
    h : Tensor, shape (B, T, K)
        Pre-activations of the gate. Float32 for exact results: the minimum over K values is a
        near-cancellation, which half precision cannot resolve.
    norms : Tensor, shape (K,), float32
        ``||w_k||_2``. A row of norm 0 is no hyperplane and is left out.

    Returns
    -------
    Tensor, shape (B, T), float32
        d_t >= 0, in units of the layer's input; infinite if no row is a hyperplane.
    """
    is_hyperplane = norms > 0
    if not is_hyperplane.all():
        if not is_hyperplane.any():
            return h.new_full(h.shape[:-1], torch.inf, dtype=torch.float32)
        h, norms = h[..., is_hyperplane], norms[is_hyperplane]
    return h.abs().float().div_(norms).amin(dim=-1)


def summarise(values: Tensor, real: Tensor) -> Tensor:
    """Mean, minimum, maximum and sample standard deviation over each prompt's tokens.

    Parameters
    ----------
    values : Tensor, shape (B, T), float32
        One number per token, anything at padding.
    real : Tensor, shape (B, T), bool
        True at real tokens, at least one per prompt.

    Returns
    -------
    Tensor, shape (B, 4), float32
        Mean, min, max, std with ddof = 1. One token alone has standard deviation 0.0, where the
        definition has none.
    """
    count = real.sum(dim=-1, keepdim=True)
    mean = values.where(real, 0.0).sum(dim=-1, keepdim=True) / count
    # Two passes: subtracting two large sums of squares would cancel.
    squares = (values - mean).square().where(real, 0.0).sum(dim=-1, keepdim=True)
    return torch.cat(
        [
            mean,
            values.where(real, torch.inf).amin(dim=-1, keepdim=True),
            values.where(real, -torch.inf).amax(dim=-1, keepdim=True),
            (squares / (count - 1).clamp(min=1)).sqrt(),
        ],
        dim=-1,
    )


def block_bounds(n_hyperplanes: int, n_blocks: int) -> list[int]:
    """Cut K hyperplanes into B contiguous blocks whose sizes differ by at most one.

    Parameters
    ----------
    n_hyperplanes : int
        K.
    n_blocks : int
        B, from 1 to K.

    Returns
    -------
    list of int
        B + 1 bounds; block b holds the hyperplanes ``bounds[b] <= k < bounds[b + 1]``.
    """
    return [block * n_hyperplanes // n_blocks for block in range(n_blocks + 1)]


def sign_block_means(h: Tensor, real: Tensor, n_blocks: int) -> Tensor:
    """Mean over tokens of the share of positive signs inside each block of hyperplanes.

    Not in the paper: the same signs, summed in B places instead of one. B = 1 is the mean of
    :func:`sign_fraction`.

    Parameters
    ----------
    h : Tensor, shape (B, T, K)
        Pre-activations of the gate.
    real : Tensor, shape (B, T), bool
        True at real tokens, at least one per prompt.
    n_blocks : int
        Number of blocks, from 1 to K.

    Returns
    -------
    Tensor, shape (B, n_blocks), float32
        In [0, 1].
    """
    # Tokens first, as one matrix product per prompt; counts are whole numbers below 2**24, so
    # float32 holds them exactly.
    counts = real[:, None, :].float() @ (h > 0).float()  # (B, 1, K)
    bounds = block_bounds(h.shape[-1], n_blocks)
    sizes = [end - start for start, end in pairwise(bounds)]
    per_block = torch.stack([part.sum(dim=-1) for part in counts.squeeze(1).split(sizes, -1)], -1)
    n_signs = real.sum(dim=-1, keepdim=True) * torch.tensor(sizes, device=h.device)
    return per_block / n_signs
