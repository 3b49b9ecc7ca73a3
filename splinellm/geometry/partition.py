"""Spline features of one MLP layer (arXiv 2312.01648, section 4).

The first linear map of the layer's MLP has rows w_k and biases b_k, k = 1..K, and for the input
x_t of token t gives h_{t,k} = w_k . x_t + b_k. The hyperplanes h_{t,k} = 0 cut the layer's input
space into the regions on which the layer is affine. For each token,

* the sign fraction      s_t = (1/K) sum_k 1[h_{t,k} > 0]  says on which side of them it lies,
* the hyperplane distance d_t = min_k |h_{t,k}| / ||w_k||_2  how close it is to the nearest.

A prompt's features are mean, minimum, maximum and sample standard deviation of these over its
tokens (:mod:`splinellm.geometry.moments`). The sign blocks, which are not in the paper, are the
same signs counted in B places instead of one; the sign entropy is that of s_t; the complexity is
the share of hyperplanes that come nearer than a radius.
"""

from __future__ import annotations

import math
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
        ``||w_k||_2``, computed in float32, or in float64 where the weight is.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    norms: Tensor = torch.linalg.vector_norm(weight, dim=-1, dtype=dtype)
    return norms.float()


def sign_counts(h: Tensor, n_blocks: int = 1) -> Tensor:
    """Count the hyperplanes on whose positive side each token lies, block by block.

    Parameters
    ----------
    h : Tensor, shape (..., K)
        Pre-activations of the gate.
    n_blocks : int
        Number of blocks, from 1 to K; see :func:`block_bounds`.

    Returns
    -------
    Tensor, shape (..., n_blocks), float32
        Whole numbers; with one block, K times the paper's sign fraction s_t.
    """
    # The truth values are made as numbers of h's own dtype: comparing and adding those is several
    # times as fast on a CPU as with booleans. Sums in float32 are exact up to 2^24.
    positive = torch.gt(h, 0, out=torch.empty_like(h))
    n_hyperplanes = h.shape[-1]
    if n_hyperplanes == n_blocks:  # each is a block, and counted already
        return positive.float()
    if n_hyperplanes % n_blocks == 0:
        counts: Tensor = positive.unflatten(-1, (n_blocks, -1)).sum(dim=-1, dtype=torch.float32)
        return counts
    parts = positive.split(block_sizes(n_hyperplanes, n_blocks), dim=-1)
    return torch.stack([part.sum(dim=-1, dtype=torch.float32) for part in parts], dim=-1)


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
    return sign_counts(h).squeeze(-1) / h.shape[-1]


def sign_entropy(fraction: Tensor) -> Tensor:
    """Entropy of the side of a hyperplane, were it drawn at random.

    Parameters
    ----------
    fraction : Tensor, shape (...), float32
        s_t, from :func:`sign_fraction`.

    Returns
    -------
    Tensor, shape (...), float32
        ``-s log2 s - (1 - s) log2 (1 - s)`` in bits, from 0 to 1; 0 where s is 0 or 1.
    """
    nats: Tensor = torch.special.entr(fraction) + torch.special.entr(1 - fraction)
    return nats / math.log(2)


def hyperplane_distance(h: Tensor, norms: Tensor) -> Tensor:
    """Distance from each token to the nearest hyperplane.

    Parameters
    ----------
    h : Tensor, shape (..., K)
        Pre-activations of the gate. Float32 for exact results: the minimum over K values is a
        near-cancellation, which half precision cannot resolve.
    norms : Tensor, broadcastable to h, float32
        ``||w_k||_2``. A row of norm 0 is no hyperplane and is left out.

    Returns
    -------
    Tensor, shape (...), float32
        d_t >= 0, in units of the layer's input; infinite if no row is a hyperplane.
    """
    quotients = h.float().div(norms).abs_()
    if not norms.all():
        quotients.masked_fill_(norms == 0, torch.inf)
    return quotients.amin(dim=-1)


def root_mean_square(x: Tensor) -> Tensor:
    """Size of each token, as the layer reads it, in one of its D coordinates.

    Parameters
    ----------
    x : Tensor, shape (..., D)
        Inputs of the gate, in any floating dtype.

    Returns
    -------
    Tensor, shape (...), float32
        ``||x_t||_2 / sqrt(D)``.
    """
    lengths: Tensor = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32)
    return lengths / math.sqrt(x.shape[-1])


def complexity(h: Tensor, norms: Tensor, rms: Tensor, radius: float) -> Tensor:
    """Share of the hyperplanes that meet a ball around each token.

    Hyperplane k meets the open ball of radius r around x_t exactly if its distance
    ``|h_{t,k}| / ||w_k||_2`` is below r. Here ``r = R ||x_t||_2 / sqrt(D)``.

    Parameters
    ----------
    h : Tensor, shape (..., K)
        Pre-activations of the gate.
    norms : Tensor, broadcastable to h, float32
        ``||w_k||_2``. A row of norm 0 is no hyperplane and meets nothing.
    rms : Tensor, shape (...), float32
        Of :func:`root_mean_square`.
    radius : float
        R > 0.

    Returns
    -------
    Tensor, shape (...), float32
        From 0 to 1.
    """
    bounds = norms * (radius * rms)[..., None]
    # As in sign_counts: truth values as numbers, for the sake of a CPU.
    torch.gt(bounds, h.abs(), out=bounds)
    return bounds.sum(dim=-1) / h.shape[-1]


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


def block_sizes(n_hyperplanes: int, n_blocks: int) -> list[int]:
    """Number of hyperplanes in each block of :func:`block_bounds`."""
    bounds = block_bounds(n_hyperplanes, n_blocks)
    return [end - start for start, end in pairwise(bounds)]
