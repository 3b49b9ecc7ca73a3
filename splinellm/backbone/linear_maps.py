"""What a module computes, where that is a linear map: read where it is certain, asked elsewhere.

A module's ``weight`` need not be the map that it computes: an adapter adds to it, a patched
``forward`` or a hook changes it, a packed format hides it. So it is read only of a module of which
it is certain that it computes ``x W^T + b``. Any other is asked: its answers to the unit vectors
are the columns of its map.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from splinellm.backbone.calls import ask_aside, seen_call
from splinellm.errors import ConfigurationError

_PROBE_ROWS = 512
_LINEARITY_TOLERANCE = 1e-3
_PACKED_TOLERANCE = 0.05  # half precision and quantised inputs round
_SAME_ROWS = 8
_SAME_TOLERANCE = 2e-5
_LARGEST_UNIT = 2.0**12


def n_outputs(module: nn.Module) -> int:
    """Outputs K of a linear map, also of one inside wrappers such as PEFT's."""
    found: Any = module
    while isinstance(found, nn.Module):
        for name in ("out_features", "nf"):  # Conv1D calls them nf
            if isinstance(n := getattr(found, name, None), int):
                return n
        found = getattr(found, "base_layer", None)
    raise ConfigurationError(
        f"{type(module).__name__} does not say how many outputs it has",
        hint="give it an attribute out_features",
    )


def innermost(module: nn.Module) -> nn.Module:
    """Module inside PEFT's wrappers, which is called while their adapters are in its weights."""
    while isinstance(inner := getattr(module, "base_layer", None), nn.Module):
        module = inner
    return module


def dense_rows(module: nn.Module, n_inputs: int) -> Tensor | None:
    """Rows of a linear map, if its weight is dense, at hand, and certain to be what it computes.

    Certain are torch's ``Linear`` and transformers' ``Conv1D`` and their subclasses without a
    ``forward`` of their own, also parametrised ones, whose weight is made anew when it is read.
    accelerate's dispatcher may stand around them.

    Parameters
    ----------
    module : Module
        A map from D inputs to K outputs.
    n_inputs : int
        D.

    Returns
    -------
    Tensor, shape (K, D), or None
        None where the module has to be asked.
    """
    if not _computes_its_weight(module):
        return None
    weight = whole(module.weight)
    if type(weight) not in (Tensor, nn.Parameter) or not is_dense(weight):
        return None
    if isinstance(module, Conv1D):  # GPT-2's linear map keeps (D, K)
        return weight.T if weight.shape == (n_inputs, module.nf) else None
    return weight if weight.shape == (getattr(module, "out_features", -1), n_inputs) else None


def is_dense(weight: Tensor) -> bool:
    """Whether a tensor's numbers are those of the map: not packed, not scaled, not absent."""
    return (
        weight.is_floating_point()
        and weight.element_size() > 1  # float8 weights have scales elsewhere
        and not weight.is_meta
    )


def whole(weight: Any) -> Any:
    """Gather a tensor that is sharded over processes; any other is given back as it is."""
    return weight.full_tensor() if hasattr(weight, "full_tensor") else weight


def _computes_its_weight(module: nn.Module) -> bool:
    forward = vars(module).get("forward")
    if forward is not None:
        original = vars(module).get("_old_forward")
        if (
            type(vars(module).get("_hf_hook")) is not AlignDevicesHook
            or not isinstance(original, types.MethodType)
            or original.__func__ is not type(module).forward
        ):
            return False
    plain = (nn.Linear.forward, Conv1D.forward)
    if type(module).forward not in plain or type(module).__call__ is not nn.Module.__call__:
        return False
    seen = seen_call(module)
    return seen is None or not seen.is_changed(module)


class AskedMap:
    """A linear map that is found by asking a module for its answers.

    Hooks of others are not called, unless they change what is seen of the running forward pass.
    Random numbers, gradients and autocast are left alone.

    Parameters
    ----------
    module : Module
        A map from D inputs to K outputs.
    n_inputs : int
        D.
    device : device
        Where inputs are made.

    Raises
    ------
    ConfigurationError
        There is not one map: it changes from call to call, or from row to row.
    """

    def __init__(self, module: nn.Module, n_inputs: int, device: torch.device) -> None:
        self._module, self._n_inputs, self._device = module, n_inputs, device
        self._dtype = _input_dtype(module)
        self._is_exact = _is_exact(module)
        seen = seen_call(module)
        if seen is not None and seen.kwargs:
            raise ConfigurationError(
                f"{type(module).__name__} is called with {', '.join(sorted(seen.kwargs))}, so that "
                "rows of the batch meet different hyperplanes",
                hint="run the rows of each adapter on their own, after set_adapter, or ask for "
                "features without distances",
            )
        self._is_hooked = seen is not None and seen.is_changed(module)

    def answer(self) -> Tensor:
        """Answer to one fixed random vector, shape (K,): it changes whenever the map does."""
        with _asking(self._module):
            return self._ask(self._mixture()[None].expand(_SAME_ROWS, -1))[0]

    def norms(self) -> Tensor:
        """Norms of the rows, shape (K,), float32."""
        squares: Tensor | float = 0.0
        for columns in self.columns():
            squares = squares + columns.square().sum(dim=0)
        norms: Tensor = torch.as_tensor(squares).sqrt().float()
        return norms

    def rows_and_bias(self) -> tuple[Tensor, Tensor]:
        """Rows (K, D) and biases (K,)."""
        rows = torch.cat([*self.columns()]).T
        return rows, self._offset

    def columns(self) -> Iterator[Tensor]:
        """Columns of the map in pieces, (n, K); raises ValueError if it is no linear map."""
        with _asking(self._module):
            mixture = self._mixture()
            answers = self._ask(mixture[None].expand(_SAME_ROWS, -1))
            self._offset = self._ask(torch.zeros(1, self._n_inputs))[0]
            answer = answers[0] - self._offset
            self._require_one_map(answers)
            unit = self._unit(answer)
            expected, total = torch.zeros_like(answer), torch.zeros((), device=answer.device)
            for start in range(0, self._n_inputs, _PROBE_ROWS):
                size = min(_PROBE_ROWS, self._n_inputs - start)
                inputs = torch.zeros(size, self._n_inputs)
                inputs[:, start:].fill_diagonal_(unit)
                columns = (self._ask(inputs) - self._offset) / unit
                expected += mixture[start : start + size].to(columns) @ columns
                total = total + columns.square().sum()
                yield columns
            if not total.isfinite():
                raise ValueError("its answer to unit vectors is not finite")
            tolerance = _LINEARITY_TOLERANCE if self._is_exact else _PACKED_TOLERANCE
            # A sum of inputs must give the sum of the answers, or this is no linear map.
            if (answer - expected).norm() > tolerance * total.sqrt():
                raise ValueError("it is no linear map")

    def _mixture(self) -> Tensor:
        """A fixed vector with entries of about one, as a layer's input has after its norm."""
        mixture = torch.randn(self._n_inputs, generator=torch.Generator().manual_seed(1))
        return mixture.to(self._dtype)  # what is asked and what is expected are the same number

    def _unit(self, answer: Tensor) -> float:
        """Length of the vectors asked for, so that a large bias does not round columns away."""
        typical = float(answer.square().mean().sqrt()) / self._n_inputs**0.5
        largest = float(self._offset.abs().amax())
        if not typical > 0 or not largest > typical:
            return 1.0
        power = torch.tensor(largest / typical).log2().ceil()
        return float(torch.exp2(power).clamp(max=_LARGEST_UNIT))

    def _ask(self, inputs: Tensor) -> Tensor:
        """Answers (n, K) to inputs (n, D), in float32 or float64."""
        inputs = inputs.to(self._device, self._dtype)[None]
        if self._is_hooked:
            output = ask_aside(self._module, inputs)
        else:
            output = self._module.forward(inputs)
        if not isinstance(output, Tensor) or output.shape[:2] != inputs.shape[:2]:
            raise ValueError("it does not answer each input with one vector")
        return output[0].detach().to(torch.promote_types(output.dtype, torch.float32))

    def _require_one_map(self, answers: Tensor) -> None:
        """Equal inputs must get equal answers."""
        is_random = any(
            part.training and getattr(part, "p", 0)
            for part in self._module.modules()
            if "Dropout" in type(part).__name__
        )
        spread = (answers - answers[:1]).abs().amax()
        size = float((answers[0] - self._offset).abs().amax().nan_to_num())
        slack = _SAME_TOLERANCE if self._is_exact else _PACKED_TOLERANCE
        if spread > (0.0 if is_random else slack * size):
            raise ConfigurationError(
                f"{type(self._module).__name__} computes another map in every call, as dropout "
                "does in training mode, and has no hyperplanes of its own",
                hint="call eval() on the model, set the dropout to 0, or ask for features without "
                "distances",
            )


def _is_exact(module: nn.Module) -> bool:
    """Whether all of its numbers are float32 or float64, and none is packed."""
    parts = [*module.parameters(), *module.buffers()]
    sizes = {part.element_size() if part.is_floating_point() else 0 for part in parts}
    return bool(parts) and min(sizes) >= 4


def _is_packed(module: nn.Module) -> bool:
    """Whether its matrices are packed, so that inputs may be rounded with them."""
    matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    dense = [it.is_floating_point() and it.element_size() > 1 for it in matrices]
    return not (dense and all(dense))


def _input_dtype(module: nn.Module) -> torch.dtype:
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.element_size() > 1:
            return parameter.dtype
    return torch.float32


@contextmanager
def _asking(module: nn.Module) -> Iterator[None]:
    """Leave gradients, autocast, random numbers and buffers as they are."""
    devices = {part.device for part in module.parameters()}
    accelerators = [device for device in devices if device.type == "cuda"]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", *(device.type for device in devices)} - {"meta"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.random.fork_rng(accelerators))
        stack.enter_context(unmoved(module))
        yield


@contextmanager
def unmoved(module: nn.Module) -> Iterator[None]:
    """Put back buffers that a module moves on whenever it is used in training mode.

    Raises
    ------
    ConfigurationError
        There are such: the map of the pass is not the one that was found.
    """
    before = {buffer: buffer.clone() for buffer in module.buffers()} if module.training else {}
    yield
    moved = [(buffer, value) for buffer, value in before.items() if not torch.equal(buffer, value)]
    for buffer, value in moved:
        with torch.no_grad():
            buffer.copy_(value)
    if moved:
        raise ConfigurationError(
            f"the weight of {type(module).__name__} moves on whenever it is used in training mode",
            hint="call eval() on the model, or ask for features without distances",
        )


def rows_and_bias(
    module: nn.Module, n_inputs: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Rows (K, D) and biases (K,) of the map that a module computes.

    Raises
    ------
    ConfigurationError
        Its weights are packed: rows that rounded inputs show are no yardstick.
    """
    with align_module_device(module):
        if (rows := dense_rows(module, n_inputs)) is not None:
            bias = getattr(module, "bias", None)
            return rows.detach(), None if bias is None else whole(bias).detach()
    if _is_packed(module):
        raise ConfigurationError(
            f"the weights of {type(module).__name__} are packed and cannot be verified",
            hint="load the model dequantised",
        )
    return AskedMap(module, n_inputs, device).rows_and_bias()
