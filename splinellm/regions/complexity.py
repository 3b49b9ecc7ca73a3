"""Local complexity of one layer, in closed form: hyperplanes that meet a neighbourhood."""

from __future__ import annotations

import torch
from torch import Tensor

from splinellm.errors import ConfigurationError
from splinellm.regions.directions import require_radius


def hyperplanes_met(
    rows: Tensor, bias: Tensor | None, x: Tensor, radius: float, directions: Tensor | None = None
) -> Tensor:
    """Which hyperplanes meet a neighbourhood of points, exactly.

    Hyperplane k meets the open ball of radius r around x exactly if ``|h_k| < r ||w_k||``, and the
    open cross-polytope with the vertices x ± r v_p exactly if ``|h_k| < r max_p |w_k . v_p|``.

    Parameters
    ----------
    rows : Tensor, shape (K, D)
        Normals w_k. One of zeros is no hyperplane and meets nothing.
    bias : Tensor, shape (K,), optional
        b_k.
    x : Tensor, shape (..., D)
        Centres.
    radius : float
        r > 0.
    directions : Tensor, shape (P, D), optional
        Orthonormal v_p; without, the neighbourhood is the ball.

    Returns
    -------
    Tensor, shape (..., K), bool

    Raises
    ------
    ConfigurationError
        The radius is not positive, or sizes do not match.
    """
    require_radius(radius)
    size = rows.shape[-1]
    for name, given in (("x", x), ("directions", directions)):
        if given is not None and given.shape[-1:] != (size,):
            raise ConfigurationError(
                f"{name} has {given.shape[-1] if given.ndim else 0} numbers, a hyperplane {size}"
            )
    rows, x = rows.double(), x.double()
    h = x @ rows.T
    if bias is not None:
        h = h + bias.double()
    if directions is None:
        reach: Tensor = torch.linalg.vector_norm(rows, dim=1)
    else:
        reach = (rows @ directions.double().T).abs().amax(dim=1)
    met: Tensor = h.abs() < radius * reach
    return met
