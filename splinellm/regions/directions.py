"""Neighbourhoods of points: radii and directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from splinellm.errors import ConfigurationError


def require_radius(radius: float) -> None:
    """Refuse what is no radius.

    Raises
    ------
    ConfigurationError
        It is not a positive number.
    """
    if isinstance(radius, bool) or not isinstance(radius, int | float) or not radius > 0:
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
        There are no so many of them.
    """
    if not 1 <= n_directions <= size:
        raise ConfigurationError(
            f"{n_directions} orthonormal directions were asked for in {size} dimensions",
            hint=f"ask for 1 to {size}",
        )
    generator = torch.Generator().manual_seed(seed)
    # One by one: what torch draws at once depends on how much it is.
    drawn = torch.stack(
        [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(n_directions)]
    )
    # Of the transpose, whose first columns span what the first directions do.
    basis: Tensor = torch.linalg.qr(drawn.T).Q
    return basis.T.contiguous()
