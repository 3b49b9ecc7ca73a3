"""Read a PyTorch module as a list of steps, each of which is affine or piecewise affine.

The module is traced symbolically (torch.fx), so that residual sums and blocks of one's own are
found wherever they are written. What is not known to be piecewise affine is refused by name.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from splinellm.errors import ConfigurationError, UnsupportedArchitectureError
from splinellm.regions.operations import Linear, MaxPool, Operation, Sum, TwoSlopes
from splinellm.regions.program import Program, Step


def read_program(module: nn.Module) -> tuple[Program, nn.Module]:
    """Read a module as steps, on copies of its weights in float64; gives the copy, too.

    Raises
    ------
    UnsupportedArchitectureError
        Names the first part that is not known to be piecewise affine.
    """
    module = copy.deepcopy(module).double().cpu().requires_grad_(requires_grad=False)
    if type(module).__module__.startswith("torch.nn.") and type(module) is not nn.Sequential:
        # A single layer, which the tracer would look into.
        module = nn.Sequential(module)
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:
        raise UnsupportedArchitectureError(
            f"{type(module).__name__} cannot be read as a piecewise-affine network: "
            f"{str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
            hint="its forward must not branch on values",
        ) from error
    return _Reader(module, graph).program(), module


_SUPPORTED = (
    "Linear, Conv1d to Conv3d, BatchNorm in evaluation mode, average and max pooling, ReLU, "
    "LeakyReLU, PReLU, abs, Flatten, Identity, Dropout in evaluation mode, padding, sums"
)


class _Reader:
    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self._module = module
        self._graph = graph
        self._steps: list[Step] = []
        self._places: dict[fx.Node, int] = {}

    def program(self) -> Program:
        """Translate the graph, node by node."""
        placeholders = [node for node in self._graph.nodes if node.op == "placeholder"]
        if len([node for node in placeholders if node.users]) != 1:
            raise _unsupported(f"a forward with {len(placeholders)} inputs")
        for node in self._graph.nodes:
            if node.op == "placeholder":
                self._places[node] = -1
            elif node.op == "output":
                return self._finished(node)
            else:
                self._read(node)
        raise _unsupported("a forward without a result")

    def _finished(self, node: fx.Node) -> Program:
        (result,) = node.args
        if not isinstance(result, fx.Node):
            raise _unsupported("a forward that gives more than one tensor")
        last = self._places[result]
        if last != len(self._steps) - 1 or not self._steps:
            self._steps.append(Step(Sum((1.0,)), (last,)))
        return Program(tuple(self._steps), *self._input_kind())

    def _read(self, node: fx.Node) -> None:
        if node.op == "call_module":
            part = self._module.get_submodule(str(node.target))
            operation, taken = _of_module(part, str(node.target)), node.args
            in_place = getattr(part, "inplace", False)
        elif node.op in ("call_function", "call_method"):
            operation, taken = _of_call(node)
            in_place = node.target in (operator.iadd, operator.isub)
            in_place = in_place or bool(node.kwargs.get("inplace"))
        else:
            raise _unsupported(f"the tensor '{node.target}' that is used by itself")
        inputs = [it for it in taken if isinstance(it, fx.Node)]
        if in_place and len(inputs[0].users) > 1:
            raise _unsupported(f"'{node.name}', which changes in place what is used elsewhere")
        if operation is None:
            self._places[node] = self._places[inputs[0]]
            return
        places = tuple(self._places[it] for it in inputs)
        self._places[node] = len(self._steps)
        self._steps.append(Step(operation, places))

    def _input_kind(self) -> tuple[int | None, int | None]:
        """Rank of a point, and how many numbers it has, as far as the layers tell."""
        (start,) = [it for it in self._graph.nodes if it.op == "placeholder" and it.users]
        seen, flattened, padded = start, False, False
        while seen.op != "output":
            part = None
            if seen.op == "call_module":
                part = self._module.get_submodule(str(seen.target))
            if isinstance(part, nn.Linear):
                return (None if flattened else 1), (None if padded else part.in_features)
            if isinstance(part, nn.Flatten) or seen.target in (torch.flatten, "flatten"):
                flattened = True
            elif not flattened and (rank := _spatial_rank(part)) is not None:
                return rank, None
            elif seen.op == "call_function" and _name_of(seen) == "pad":
                padded = True  # by how many numbers, the layer behind does not tell
            elif seen.op != "placeholder" and not _keeps_shape(part):
                break
            seen = next(iter(seen.users))
        return None, None


def _name_of(node: fx.Node) -> str:
    """Name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else node.target.__name__


def _spatial_rank(part: nn.Module | None) -> int | None:
    kinds = type(part).__name__ if part is not None else ""
    if kinds.startswith(
        ("Conv", "MaxPool", "AvgPool", "AdaptiveAvgPool", "ZeroPad", "ConstantPad")
    ):
        return int(kinds[-2]) + 1
    return {"BatchNorm2d": 3, "BatchNorm3d": 4}.get(kinds)


def _keeps_shape(part: nn.Module | None) -> bool:
    kept = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.Dropout, nn.BatchNorm1d)
    return part is None or isinstance(part, kept)


def _unsupported(what: str) -> UnsupportedArchitectureError:
    return UnsupportedArchitectureError(
        f"{what} is not known to be piecewise affine", hint=f"supported: {_SUPPORTED}"
    )


def _of_module(part: nn.Module, name: str) -> Operation | None:
    """The operation of a layer; None for one that changes nothing."""
    kind = type(part).__name__
    make = _FORWARDS.get(type(part).forward)
    if make is None:
        raise _unsupported(f"the layer '{name}' ({kind})")
    if part._forward_hooks or part._forward_pre_hooks:  # noqa: SLF001 - torch has no public name
        raise _unsupported(f"the layer '{name}' ({kind}) with hooks on it")
    try:
        return make(part)
    except ValueError as error:
        raise _unsupported(f"the layer '{name}' ({kind}{error})") from None


def _linear(part: Any) -> Operation:
    """A layer with a weight and maybe a bias."""
    homogeneous = copy.deepcopy(part)
    homogeneous.bias = None
    return Linear(part, homogeneous)


def _batch_norm(part: Any) -> Operation:
    if part.training:
        raise ValueError(" in training mode; call eval()")
    if part.running_mean is None:
        raise ValueError(" without running statistics")
    homogeneous = copy.deepcopy(part)
    homogeneous.running_mean.zero_()
    homogeneous.bias = None
    return Linear(part, homogeneous)


class _Pad(nn.Module):
    """Padding with a number, as torch spells it: two places of each dimension, the last first."""

    def __init__(self, places: Sequence[int], value: float) -> None:
        super().__init__()
        self._places, self._value = list(places), value

    def forward(self, points: Tensor) -> Tensor:
        """Pad points (N, ...), and never their number."""
        if len(self._places) > 2 * (points.ndim - 1):
            raise ConfigurationError(
                f"padding of {len(self._places) // 2} dimensions does not fit points of shape "
                f"{tuple(points.shape[1:])}"
            )
        return nn.functional.pad(points, self._places, value=self._value)


def _pad(places: Sequence[int], value: float) -> Operation:
    return Linear(_Pad(places, value), _Pad(places, 0.0))


def _dropout(part: Any) -> None:
    if part.training and part.p > 0:
        raise ValueError(" in training mode; call eval()")


def _flatten(part: Any) -> Operation:
    if part.start_dim != 1 or part.end_dim != -1:
        raise ValueError(f" from {part.start_dim} to {part.end_dim}")
    return Linear(part, part)


def _max_pool(part: Any) -> Operation:
    n_dims = int(type(part).__name__[-2])
    if part.ceil_mode or part.return_indices:
        raise ValueError(" with ceil_mode or return_indices")
    if part.stride in ((), []):
        part.stride = part.kernel_size
    settings = (part.kernel_size, part.stride, part.padding, part.dilation)
    return MaxPool(*(_spread(it, n_dims) for it in settings))


def _spread(value: int | Sequence[int], n_dims: int) -> tuple[int, ...]:
    return (value,) * n_dims if isinstance(value, int) else tuple(value)


def _two_slopes(negative: float | Tensor, positive: float = 1.0) -> Operation:
    found = torch.as_tensor(negative, dtype=torch.float64).detach()
    if found.ndim == 1 and len(found) == 1:
        found = found[0]
    return TwoSlopes(found, positive)


_FORWARDS: dict[Callable[..., Any], Callable[[Any], Operation | None]] = {
    **{
        kind.forward: _linear
        for kind in (
            *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
            *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        )
    },
    nn.BatchNorm1d.forward: _batch_norm,  # which 2d and 3d share
    **{
        kind.forward: lambda part: Linear(part, part)
        for kind in (
            *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d),
            *(nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        )
    },
    nn.ConstantPad1d.forward: lambda part: _pad(
        part.padding, part.value
    ),  # which 2d and 3d share, and ZeroPad
    nn.Flatten.forward: _flatten,
    nn.Identity.forward: lambda _: None,
    **{kind.forward: _dropout for kind in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)},
    **{kind.forward: _max_pool for kind in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)},
    nn.ReLU.forward: lambda _: _two_slopes(0.0),
    nn.LeakyReLU.forward: lambda part: _two_slopes(part.negative_slope),
    nn.PReLU.forward: lambda part: _two_slopes(part.weight),
}


def _of_call(node: fx.Node) -> tuple[Operation | None, tuple[Any, ...]]:
    """The operation of a function or method, and what it is applied to."""
    name = _name_of(node)
    args, options = node.args, {k: v for k, v in node.kwargs.items() if k != "inplace"}
    if name in ("relu", "relu_") and len(args) == 1 and not options:
        return _two_slopes(0.0), args
    if name in ("leaky_relu", "leaky_relu_"):
        slope = args[1] if len(args) > 1 else options.get("negative_slope", 0.01)
        if isinstance(slope, int | float):
            return _two_slopes(float(slope)), args[:1]
    if name in ("abs", "absolute") and not options:
        return _two_slopes(-1.0), args
    if name == "flatten" and (args[1:], options) in (((1,), {}), ((), {"start_dim": 1})):
        flatten = nn.Flatten()
        return Linear(flatten, flatten), args[:1]
    if name == "pad" and (padding := _padding(*args[1:], **options)) is not None:
        return padding, args[:1]
    if not options and (found := _arithmetic(name, args)) is not None:
        return found, args
    raise _unsupported(f"the call '{name}' ({node.name})")


def _padding(
    pad: Any = None, mode: Any = "constant", value: Any = None, **others: Any
) -> Operation | None:
    """That of torch's function with a number; None of a kind that is not known."""
    numbers = [] if not isinstance(pad, list | tuple) else list(pad)
    is_known = numbers and len(numbers) % 2 == 0 and all(type(it) is int for it in numbers)
    if others or mode != "constant" or not is_known:
        return None
    if value is not None and not isinstance(value, int | float):
        return None
    return _pad(numbers, 0.0 if value is None else float(value))


def _arithmetic(name: str, args: tuple[Any, ...]) -> Operation | None:
    """Sums, and products with numbers."""
    if name == "neg" and len(args) == 1:
        return Sum((-1.0,))
    if len(args) != 2:
        return None
    signs = {"add": 1.0, "iadd": 1.0, "sub": -1.0, "isub": -1.0}
    is_node = [isinstance(it, fx.Node) for it in args]
    numbers = [it for it in args if isinstance(it, int | float) and math.isfinite(it)]
    if name in signs:
        if all(is_node):
            return Sum((1.0, signs[name]))
        if is_node[0] and numbers:
            return Sum((1.0,), signs[name] * numbers[0])
        if is_node[1] and numbers:
            return Sum((signs[name],), numbers[0])
    if name == "mul" and numbers and any(is_node):
        return Sum((float(numbers[0]),))
    if name == "truediv" and is_node[0] and numbers and numbers[0] != 0:
        return Sum((1.0 / numbers[0],))
    return None
