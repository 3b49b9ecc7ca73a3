"""The parts of a piecewise-affine network, on points and on affine forms.

An affine form z -> A z + b of d variables is kept as 1 + d rows: b, and the columns of A. Forms of
N regions are a tensor (N, 1 + d, ...), and a linear map acts on each of their rows as it acts on a
point, so that convolutions stay convolutions. What adds a constant adds it to the first row alone.

A piecewise operation consists of units. Each has contenders, which are linear in its input, and the
largest one decides which piece the unit is on: 0 and h for ReLU and its kin, the entries of its
window for max pooling. The first wins a draw, so that a sign is 1 exactly if h > 0.

Shape letters: N points or regions, M = 1 + d rows of a form, U units, W contenders of a unit, C
channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor, nn

from splinellm.errors import ConfigurationError


class Operation(ABC):
    """One step of a network."""

    @abstractmethod
    def on_points(self, *inputs: Tensor) -> Tensor:
        """Result (N, ...) of inputs (N, ...)."""


class Affine(Operation):
    """A step that is the same affine map everywhere."""

    @abstractmethod
    def on_forms(self, *inputs: Tensor) -> Tensor:
        """Forms (N, M, ...) of the result, from those of the inputs."""


class Linear(Affine):
    """An affine map that a module computes.

    Parameters
    ----------
    module : Module
        The whole map.
    homogeneous : Module
        The same map without what it adds.
    """

    def __init__(self, module: nn.Module, homogeneous: nn.Module) -> None:
        self._module = module
        self._homogeneous = homogeneous

    def on_points(self, *inputs: Tensor) -> Tensor:
        """Result of one input."""
        found: Tensor = self._module(*inputs)
        return found

    def on_forms(self, *inputs: Tensor) -> Tensor:
        """Forms of the result of one input."""
        (forms,) = inputs
        mapped: Tensor = self._homogeneous(forms.flatten(0, 1))
        found = mapped.unflatten(0, forms.shape[:2])
        constant = self._module(torch.zeros_like(forms[:1, 0]))
        return torch.cat([found[:, :1] + constant, found[:, 1:]], dim=1)


@dataclass
class Sum(Affine):
    """A weighted sum of inputs, and a constant.

    Parameters
    ----------
    weights : tuple of float
        One of each input.
    constant : float
        Added to it.
    """

    weights: tuple[float, ...]
    constant: float = 0.0

    def on_points(self, *inputs: Tensor) -> Tensor:
        """Sum of the inputs."""
        return self._weighted(inputs) + self.constant

    def on_forms(self, *inputs: Tensor) -> Tensor:
        """Forms of the sum."""
        found = self._weighted(inputs)
        return torch.cat([found[:, :1] + self.constant, found[:, 1:]], dim=1)

    def _weighted(self, inputs: tuple[Tensor, ...]) -> Tensor:
        total = self.weights[0] * inputs[0]
        for weight, value in zip(self.weights[1:], inputs[1:], strict=True):
            total = total + weight * value
        return total


class Piecewise(Operation):
    """Units that are on one of several pieces each."""

    @abstractmethod
    def contenders(self, points: Tensor) -> Tensor:
        """What decides, (N, U, W), of inputs (N, ...); linear in them."""

    @abstractmethod
    def on_piece(self, forms: Tensor, code: Tensor) -> Tensor:
        """Forms (N, M, ...) of the result, for those of the input, on the pieces `code` (N, U)."""

    def code(self, points: Tensor) -> Tensor:
        """Pieces that units are on, (N, U), int8: the first of the largest contenders."""
        return first_largest(self.contenders(points))

    def contending_forms(self, forms: Tensor) -> Tensor:
        """Forms of the contenders, (N, U, W, M), from those of the input (N, M, ...)."""
        found: Tensor = self.contenders(forms.flatten(0, 1)).unflatten(0, forms.shape[:2])
        return found.movedim(1, -1)


def first_largest(contenders: Tensor) -> Tensor:
    """Index of the largest along the last dimension, int8; of equal ones, the first."""
    # torch names any of equal ones, NumPy the first.
    return torch.from_numpy(contenders.numpy().argmax(axis=-1)).to(torch.int8)


class TwoSlopes(Piecewise):
    """ReLU, leaky ReLU, absolute value: one slope where h > 0, another one elsewhere.

    Parameters
    ----------
    negative : Tensor, shape () or (C,)
        Slope where h <= 0, the same for all or one of each channel.
    positive : float
        Slope where h > 0.
    """

    def __init__(self, negative: Tensor, positive: float = 1.0) -> None:
        self._negative = negative
        self._positive = torch.tensor(positive, dtype=negative.dtype)

    def on_points(self, *inputs: Tensor) -> Tensor:
        """Result of one input."""
        (h,) = inputs
        return h * self._slopes(h > 0)

    def contenders(self, points: Tensor) -> Tensor:
        """Zero, and the pre-activation h."""
        h = points.flatten(1)
        return torch.stack([torch.zeros_like(h), h], dim=-1)

    def on_piece(self, forms: Tensor, code: Tensor) -> Tensor:
        """Multiply by the slopes."""
        is_positive = code.reshape(len(forms), *forms.shape[2:]) > 0
        return forms * self._slopes(is_positive)[:, None]

    def _slopes(self, is_positive: Tensor) -> Tensor:
        negative = self._negative
        if negative.ndim:
            negative = negative.reshape(-1, *[1] * (is_positive.ndim - 2))
        return torch.where(is_positive, self._positive, negative)


@dataclass
class MaxPool(Piecewise):
    """The largest entry of each window, channel by channel.

    Parameters
    ----------
    kernel, stride, padding, dilation : tuple of int
        As those of torch, one number of each spatial dimension.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def on_points(self, *inputs: Tensor) -> Tensor:
        """Result of one input."""
        (points,) = inputs
        largest: Tensor = self.contenders(points).amax(dim=-1)
        return largest.reshape(len(points), *self._shape(points))

    def contenders(self, points: Tensor) -> Tensor:
        """Entries of the windows; for one that is padding, another of the same window."""
        table, _ = self._windows(points)
        return points.flatten(2)[:, :, table].flatten(1, 2)

    def on_piece(self, forms: Tensor, code: Tensor) -> Tensor:
        """Pick the winners."""
        contending = self.contending_forms(forms)  # (N, U, W, M)
        index = code.long()[..., None, None].expand(*code.shape, 1, contending.shape[-1])
        winners = contending.gather(2, index).squeeze(2).movedim(-1, 1)  # (N, M, U)
        return winners.reshape(*forms.shape[:2], *self._shape(forms[:, 0]))

    def _shape(self, points: Tensor) -> tuple[int, ...]:
        return points.shape[1], *self._windows(points)[1]

    def _windows(self, points: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        sizes = tuple(points.shape[2:])
        if len(sizes) != len(self.kernel):
            raise ConfigurationError(
                f"max pooling of {len(self.kernel)} dimensions does not fit points of shape "
                f"{tuple(points.shape[1:])}",
                hint="a point has its channels first, and then these dimensions",
            )
        return _windows(sizes, self.kernel, self.stride, self.padding, self.dilation)


@lru_cache(maxsize=64)
def _windows(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[Tensor, tuple[int, ...]]:
    """Flat indices of each window's entries, (windows, W), and how many there are a dimension."""
    along = []
    for size, k, step, pad, gap in zip(sizes, kernel, stride, padding, dilation, strict=True):
        count = (size + 2 * pad - gap * (k - 1) - 1) // step + 1
        along.append([[place * step - pad + gap * i for i in range(k)] for place in range(count)])
    table = []
    for window in product(*along):
        inside = [
            sum(index * stride_of for index, stride_of in zip(entry, _strides(sizes), strict=True))
            for entry in product(*window)
            if all(0 <= index < size for index, size in zip(entry, sizes, strict=True))
        ]
        n_entries = len([*product(*window)])
        table.append(inside + inside[:1] * (n_entries - len(inside)))
    return torch.tensor(table), tuple(map(len, along))


def _strides(sizes: tuple[int, ...]) -> list[int]:
    strides = [1]
    for size in sizes[:0:-1]:
        strides.insert(0, strides[0] * size)
    return strides
