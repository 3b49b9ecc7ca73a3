"""Neighbourhoods of points: radii and directions."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from splinellm.errors import ConfigurationError
from splinellm.parameters import whole, whole_from


def require_radius(radius: Any) -> None:
    """Refuse what is no radius.

    Raises
    ------
    ConfigurationError
        It is not a positive number.
    """
    if isinstance(radius, bool) or not isinstance(radius, Real) or not float(radius) > 0:
        raise ConfigurationError(f"the radius is {str(radius)[:40]}; it must be a positive number")
    if not math.isfinite(radius):
        raise ConfigurationError("the radius is infinite; it must be a positive number")


def orthonormal_directions(size: int, n_directions: int, seed: int) -> Tensor:
    """Draw random orthonormal directions.

    Parameters
    ----------
    size : int
        D.
    n_directions : int
        P, from 1 to D. The first ones are the same, however many are drawn.
    seed : int
        What makes them the same again.

    Returns
    -------
    Tensor, shape (P, D), float64

    Raises
    ------
    ConfigurationError
        There are no so many of them, or a number is none.
    """
    n_directions = whole("n_directions", n_directions) or 0
    if not 1 <= n_directions <= size:
        raise ConfigurationError(
            f"{n_directions} orthonormal directions were asked for in {size} dimensions",
            hint=f"ask for 1 to {size}",
        )
    seed = whole_from(-(2**63), "seed", seed)
    if seed >= 2**64:
        raise ConfigurationError(f"seed is {seed}; it must be below 2**64")
    generator = torch.Generator().manual_seed(seed)
    # One by one: what torch draws at once depends on how much it is.
    drawn = torch.stack(
        [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(n_directions)]
    )
    # Of the transpose, whose first columns span what the first directions do.
    basis: Tensor = torch.linalg.qr(drawn.T).Q
    return basis.T.contiguous()
