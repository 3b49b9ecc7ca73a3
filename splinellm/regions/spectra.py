"""How much a linear map stretches, and in how many directions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from splinellm.errors import ConfigurationError


def local_scaling(matrix: Tensor | np.ndarray, tolerance: float | None = None) -> float:
    """Logarithm of the volume that a map gives a unit cube, in the directions that it keeps.

    Parameters
    ----------
    matrix : Tensor or ndarray, shape (n_out, D)
        A of an affine map, or a Jacobian.
    tolerance : float, optional
        Singular values at or below it do not count; by default the largest one times
        ``max(n_out, D)`` times float64's precision.

    Returns
    -------
    float
        ``sum_i log s_i`` over ``s_i > tolerance``; 0.0 where there is none.
    """
    values = _singular_values(matrix)
    if tolerance is None:
        largest = float(values.max()) if len(values) else 0.0
        tolerance = largest * max(np.shape(matrix)) * float(np.finfo(np.float64).eps)
    return float(values[values > tolerance].log().sum())


def effective_rank(matrix: Tensor | np.ndarray) -> float:
    """Number of directions that a map uses: the exponential of its spectrum's entropy.

    Parameters
    ----------
    matrix : Tensor or ndarray, shape (n_out, D)
        A of an affine map, or a Jacobian.

    Returns
    -------
    float
        ``exp(-sum_i p_i log p_i)`` with ``p_i = s_i / sum s``, from 1 to the rank; 0.0 for a map
        that is zero.
    """
    values = _singular_values(matrix)
    if not float(values.sum()) > 0:
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp())


def _singular_values(matrix: Tensor | np.ndarray) -> Tensor:
    given = torch.as_tensor(matrix, dtype=torch.float64)
    if given.ndim != 2 or not bool(given.isfinite().all()):
        raise ConfigurationError(
            f"the spectrum of numbers of shape {tuple(given.shape)} is asked for",
            hint="give one matrix of two dimensions, all finite",
        )
    values: Tensor = torch.linalg.svdvals(given)
    return values
