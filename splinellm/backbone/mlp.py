"""A public view of one layer's MLP: its maps, its hyperplanes, its Jacobian, its partition.

A gated MLP, W_down (act(W_gate x) * W_up x), is a product of two functions of x and affine on no
region: what is exact of it is its value and its Jacobian at a point. Its partition is the one of
the gate's hyperplanes, as in the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from splinellm.backbone.gates import LinearGate
from splinellm.backbone.linear_maps import rows_and_bias
from splinellm.regions import PiecewiseAffine, SlicePartition, hyperplanes_met
from splinellm.regions.points import Array, PointKind, in_kind


class LinearMap(NamedTuple):
    """Rows (K, D) and biases (K,), float64."""

    rows: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Values (..., K) at x (..., D)."""
        return x @ self.rows.T + self.bias


@dataclass(frozen=True)
class MLP:
    """The MLP of one layer, on what its gate reads; made by :meth:`Decoder.layer`.

    Its maps are read when they are first needed, in float64, and kept. Points are single ones (D,)
    or several (N, D), as :meth:`splinellm.SplineExtractor.layer_inputs` gives them; arrays are
    answered with arrays, tensors with tensors.

    Parameters
    ----------
    parts : LinearGate
        Where the gate is.
    up_part : Module, optional
        The linear map that the activated gate is multiplied with, where it is a module of its own.
    down_part : Module
        The last linear map.
    activation : callable
        Applied to the gate.
    n_inputs : int
        D.
    """

    parts: LinearGate = field(repr=False)
    up_part: nn.Module | None = field(repr=False)
    down_part: nn.Module = field(repr=False)
    activation: Callable[[Tensor], Tensor]
    n_inputs: int = 0

    @property
    def is_gated(self) -> bool:
        """Whether there is an up projection."""
        return self.up_part is not None or self.parts.is_fused

    @property
    def n_hyperplanes(self) -> int:
        """K."""
        return self.parts.n_hyperplanes

    @cached_property
    def gate(self) -> LinearMap:
        """Rows w_k (K, D) and biases of the hyperplanes."""
        return LinearMap(*(it[: self.n_hyperplanes] for it in self._first))

    @cached_property
    def up(self) -> LinearMap | None:
        """Rows (K, D) and biases of the up projection; None where there is none."""
        if self.parts.is_fused:
            return LinearMap(*(it[self.n_hyperplanes :] for it in self._first))
        return None if self.up_part is None else _read(self.up_part, self.n_inputs)

    @cached_property
    def down(self) -> LinearMap:
        """Rows (D, K) and biases of the last map."""
        return _read(self.down_part, self.n_hyperplanes)

    @cached_property
    def norms(self) -> Tensor:
        """``||w_k||`` (K,), float64."""
        found: Tensor = torch.linalg.vector_norm(self.gate.rows, dim=1)
        return found

    @cached_property
    def _first(self) -> LinearMap:
        return _read(self.parts.entrance, self.n_inputs)

    def pre_activations(self, x: Array) -> Array:
        """h_k = w_k . x + b_k, shape (K,) or (N, K)."""
        return self._answer(x, lambda points: self.gate(points))

    def value(self, x: Array) -> Array:
        """What the MLP makes of x, without residual, shape (D,) or (N, D)."""

        def value(points: Tensor) -> Tensor:
            inner = self.activation(self.gate(points))
            return self.down(inner if self.up is None else inner * self.up(points))

        return self._answer(x, value)

    def jacobian(self, x: Array) -> Array:
        """Derivative of :meth:`value`, shape (D, D) or (N, D, D).

        W_down [diag(act'(g) u) W_gate + diag(act(g)) W_up] with g = W_gate x + b_gate and
        u = W_up x + b_up; without an up projection, W_down diag(act'(g)) W_gate.
        """
        return self._answer(x, lambda points: torch.stack([*map(self._jacobian, points)]))

    def _jacobian(self, point: Tensor) -> Tensor:
        g = self.gate(point)
        with torch.enable_grad():
            leaf = g.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self.activation(leaf).sum(), leaf)
        if self.up is None:
            return self.down.rows @ (slopes[:, None] * self.gate.rows)
        inner = (slopes * self.up(point))[:, None] * self.gate.rows
        inner = inner + self.activation(g)[:, None] * self.up.rows
        return self.down.rows @ inner

    def complexity(
        self, x: Array, radius: float, directions: Tensor | np.ndarray | None = None
    ) -> Array:
        """Share of the hyperplanes that meet a ball or cross-polytope around x, (,) or (N,).

        Exact; see :func:`splinellm.regions.hyperplanes_met`.

        Parameters
        ----------
        x : Tensor or ndarray, shape (D,) or (N, D)
            Centres.
        radius : float
            r, in units of x. The feature ``complexity:R`` has r = R ||x|| / sqrt(D).
        directions : Tensor or ndarray, shape (P, D), optional
            Orthonormal directions of the cross-polytope; without, a ball.
        """
        vectors = None if directions is None else torch.as_tensor(directions)

        def share(points: Tensor) -> Tensor:
            met = hyperplanes_met(*self.gate, points, radius, vectors)
            return met.double().mean(dim=-1)

        return self._answer(x, share)

    def slice_partition(
        self,
        origin: Tensor | np.ndarray,
        u: Tensor | np.ndarray,
        v: Tensor | np.ndarray,
        extent: float | Sequence[float] = 1.0,
    ) -> SlicePartition:
        """Cut a plane of the layer's input space by the gate's hyperplanes, exactly.

        See :meth:`splinellm.regions.PiecewiseAffine.slice_partition`. The polygons have sign codes,
        and no affine maps.
        """
        size, n_planes = self.n_inputs, self.n_hyperplanes
        linear = nn.Linear(size, n_planes, dtype=torch.float64, device="meta")
        linear.weight, linear.bias = (nn.Parameter(it, requires_grad=False) for it in self.gate)
        network = PiecewiseAffine.of(nn.Sequential(linear, nn.ReLU()))
        return replace(network.slice_partition(origin, u, v, extent), maps_of=None)

    def _answer(self, x: Array, function: Callable[[Tensor], Tensor]) -> Array:
        points, is_single = PointKind("layer", (self.n_inputs,)).read(x)
        with torch.no_grad():
            found = function(points)
        return in_kind(found[0] if is_single else found, x)


def _read(module: nn.Module, n_inputs: int) -> LinearMap:
    device: Any = next((it.device for it in module.parameters()), torch.device("cpu"))
    rows, bias = rows_and_bias(module, n_inputs, device)
    rows = rows.to("cpu", torch.float64)
    return LinearMap(
        rows, rows.new_zeros(len(rows)) if bias is None else bias.to("cpu", torch.float64)
    )
