"""Norms of a gate's hyperplanes, also where the weight is packed or offloaded."""

from __future__ import annotations

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.pytorch_utils import Conv1D

from splinellm.errors import ModelLoadError
from splinellm.geometry import row_norms

_PROBE_ROWS = 512
_LINEARITY_TOLERANCE = 0.05  # half precision and quantised inputs round


def hyperplane_norms(gate: nn.Module, n_inputs: int, device: torch.device) -> Tensor:
    """Norms of the rows of a linear map.

    A dense weight is read directly, also one that accelerate keeps elsewhere. Any other linear map
    (such as a quantised weight that is packed in blocks of its own) is asked instead: its answer to
    the unit vectors is the transposed weight as the forward pass uses it, so the norms are those of
    the dequantised rows.

    Parameters
    ----------
    gate : Module
        A linear map from D inputs to K outputs.
    n_inputs : int
        D.
    device : torch.device
        Where unit vectors are made, if they are needed.

    Returns
    -------
    Tensor, shape (K,), float32
        On the weight's device.

    Raises
    ------
    ModelLoadError
        The module does not answer like a linear map.
    """
    with align_module_device(gate):
        if (rows := dense_rows(gate, n_inputs)) is not None:
            return row_norms(rows.detach())
    try:
        return _probed_norms(gate, n_inputs, device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelLoadError(
            f"the norms of {type(gate).__name__} cannot be computed: {error}",
            hint="load the model dequantised",
        ) from error


def dense_rows(gate: nn.Module, n_inputs: int) -> Tensor | None:
    """Rows of a linear map, shape (K, D), if its weight is dense and at hand.

    Parameters
    ----------
    gate : Module
        A linear map from D inputs to K outputs.
    n_inputs : int
        D.

    Returns
    -------
    Tensor, shape (K, D), or None
        None where the weight is packed, scaled or not loaded.
    """
    weight = getattr(gate, "weight", None)
    if isinstance(weight, DTensor):
        weight = weight.full_tensor()  # FSDP's: all ranks attach, and each has all the rows
    if (
        not isinstance(weight, Tensor)
        or not weight.is_floating_point()
        or weight.element_size() == 1  # float8 weights have scales elsewhere
        or weight.is_meta
    ):
        return None
    if isinstance(gate, Conv1D):  # GPT-2's linear map keeps (D, K)
        return weight.T if weight.shape == (n_inputs, gate.nf) else None
    return weight if weight.shape == (getattr(gate, "out_features", -1), n_inputs) else None


@torch.inference_mode()
def _probed_norms(gate: nn.Module, n_inputs: int, device: torch.device) -> Tensor:
    parameter = next(gate.parameters(), None)
    dtype = torch.float32
    if parameter is not None and parameter.is_floating_point() and parameter.element_size() > 1:
        dtype = parameter.dtype
    offset = gate(torch.zeros(1, n_inputs, device=device, dtype=dtype)).float()
    squares = torch.zeros(offset.shape[-1], device=offset.device)
    # A sum of inputs must give the sum of the answers, or this is no linear map.
    mixture = torch.linspace(-1, 1, n_inputs, device=offset.device)
    expected = torch.zeros_like(offset)
    for start in range(0, n_inputs, _PROBE_ROWS):
        size = min(_PROBE_ROWS, n_inputs - start)
        unit = torch.zeros(size, n_inputs, device=device, dtype=dtype)
        unit[:, start:].fill_diagonal_(1)
        columns = gate(unit).float() - offset
        squares += columns.square().sum(dim=0)
        expected += mixture[start : start + size] @ columns
    if not squares.isfinite().all():
        raise ValueError("its answer to unit vectors is not finite")
    answer = gate(mixture.to(device, dtype)[None]).float() - offset
    if (answer - expected).norm() > _LINEARITY_TOLERANCE * squares.sum().sqrt():
        raise ValueError("it is no linear map")
    return squares.sqrt()
