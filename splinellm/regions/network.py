"""A piecewise-affine network, and what is exact about it: codes, affine maps, partitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from splinellm.errors import ConfigurationError, VerificationError
from splinellm.parameters import whole_from
from splinellm.regions.directions import orthonormal_directions, require_radius
from splinellm.regions.points import Array, PointKind, in_kind
from splinellm.regions.program import Program
from splinellm.regions.tracing import read_program

if TYPE_CHECKING:
    from splinellm.regions.enumeration import Region
    from splinellm.regions.slices import SlicePartition

_FORMS_AT_ONCE = 2**24
"""Numbers of a batch of forms; 128 MB."""


class PiecewiseAffine:
    """A network that is affine on each region of a partition of its input space.

    Everything is computed in float64, on the CPU, from a copy of the weights. What is given as a
    NumPy array is answered with arrays, a tensor with tensors. Made by :meth:`of`.

    Parameters
    ----------
    program : Program
        The network as steps.
    input_shape : tuple of int, optional
        Shape of a single point.
    name : str
        What to call it in messages.
    reference : callable
        The module itself, on points (N, ...), which the steps are compared with once.

    Examples
    --------
    >>> net = PiecewiseAffine.of(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)))
    >>> A, b = net.affine_map(torch.zeros(2))
    >>> A.shape, b.shape
    (torch.Size([1, 2]), torch.Size([1]))
    """

    def __init__(
        self,
        program: Program,
        input_shape: tuple[int, ...] | None,
        name: str,
        reference: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._program = program
        self._points = PointKind(name, input_shape, program.rank, program.size)
        self._name = name
        self._reference = reference

    @classmethod
    def of(cls, module: nn.Module, *, input_shape: Sequence[int] | None = None) -> PiecewiseAffine:
        """Read a PyTorch module.

        Parameters
        ----------
        module : Module
            Of linear layers, convolutions, batch norm in evaluation mode, average and max pooling,
            ReLU, LeakyReLU, PReLU, ``abs``, flattening and sums, in any order: sequences, residual
            blocks, classes of one's own whose ``forward`` does not branch.
        input_shape : sequence of int, optional
            Shape of a single point. Needed where neither the first layer nor a point itself tells,
            and by what is given no point, such as :meth:`enumerate_regions` of a convolution.

        Raises
        ------
        UnsupportedArchitectureError
            A part is not known to be piecewise affine, such as GELU or SwiGLU; it is named.
        ConfigurationError
            It is no module, its weights are not finite, or `input_shape` is no shape.
        """
        if not isinstance(module, nn.Module):
            raise ConfigurationError(f"a {type(module).__name__} is no PyTorch module")
        for name, weight in module.named_parameters():
            if not bool(weight.isfinite().all()):
                raise ConfigurationError(f"the weights '{name}' are not finite")
        shape = None if input_shape is None else _read_shape(input_shape)
        program, reference = read_program(module)
        return cls(program, shape, type(module).__name__, reference)

    def __call__(self, x: Array) -> Array:
        """Value of the network at a point or at N points."""
        return self._answer(x, lambda points: self.run(points)[0])

    def sign_code(self, x: Array) -> Array:
        """Which region a point is in.

        Parameters
        ----------
        x : Tensor or ndarray, shape (D...) or (N, D...)
            A point, or several.

        Returns
        -------
        Tensor or ndarray, shape (U,) or (N, U), int8
            Of each unit, in the order in which they are computed: 1 where its pre-activation is
            positive and 0 elsewhere; of a pooling window, the place of its largest entry.
        """
        return self._answer(x, lambda points: torch.cat(self.run(points)[1], dim=1))

    def affine_map(self, x: Array) -> tuple[Array, Array]:
        """The map that the network is on the region of a point: f(z) = A z + b.

        Parameters
        ----------
        x : Tensor or ndarray, shape (D...) or (N, D...)
            A point, or several. At a boundary, the region is the one of :meth:`sign_code`.

        Returns
        -------
        A : Tensor or ndarray, shape (n_out, D) or (N, n_out, D)
            Inputs and outputs of more than one dimension are flattened.
        b : Tensor or ndarray, shape (n_out,) or (N, n_out)
        """

        def maps(points: Tensor) -> Tensor:
            return self.maps(points, torch.cat(self.run(points)[1], dim=1))

        forms = self._answer(x, maps)
        return forms[..., 1:], forms[..., 0]

    def jacobian(self, x: Array) -> Array:
        """Derivative at a point: A of :meth:`affine_map`."""
        return self.affine_map(x)[0]

    def map_of(self, code: Array) -> tuple[Array, Array]:
        """The map on the region of a sign code, whether or not there is such a region.

        Parameters
        ----------
        code : Tensor or ndarray, shape (U,)
            As :meth:`sign_code` gives it.
        """
        origin = torch.zeros(1, *self._points.known_shape(), dtype=torch.float64)
        with torch.no_grad():
            forms = self.maps(origin, torch.as_tensor(code).reshape(1, -1))[0]
        found = in_kind(forms, code)
        return found[:, 1:], found[:, 0]

    def local_complexity(
        self, points: Array, radius: float, n_directions: int | None = None, seed: int = 0
    ) -> Array:
        """Count the units whose sign changes around points (arXiv 2402.15555).

        The neighbourhood of a point x are the 2 P vertices x ± r v_p of a cross-polytope, whose
        directions are random, orthonormal and the same for all points. A unit counts if its sign
        is not the same at all vertices, on whatever layer it is. For the units of the first layer
        that is exact: they count exactly if their hyperplane meets the cross-polytope. For later
        ones, which are bent inside of it, it is a sample.

        Parameters
        ----------
        points : Tensor or ndarray, shape (D...) or (N, D...)
            Centres.
        radius : float
            r > 0.
        n_directions : int, optional
            P, from 1 to D; D by default, up to 32.
        seed : int
            Of the directions.

        Returns
        -------
        Tensor or ndarray, shape () or (N,), int64
        """
        require_radius(radius)

        def count(centres: Tensor) -> Tensor:
            size = math.prod(centres.shape[1:])
            n = min(size, 32) if n_directions is None else n_directions
            directions = orthonormal_directions(size, n, seed).reshape(n, *centres.shape[1:])
            steps = radius * torch.cat([directions, -directions])
            found = torch.zeros(len(centres), dtype=torch.int64)
            for i, centre in enumerate(centres):
                code = torch.cat(self.run(centre + steps)[1], dim=1)
                found[i] = (code != code[:1]).any(dim=0).sum()
            return found

        return self._answer(points, count)

    def slice_partition(
        self,
        origin: Tensor | np.ndarray,
        u: Tensor | np.ndarray,
        v: Tensor | np.ndarray,
        extent: float | Sequence[float] = 1.0,
    ) -> SlicePartition:
        """Cut a plane into the polygons on which the network is affine, exactly.

        Parameters
        ----------
        origin, u, v : Tensor or ndarray, shape (D...)
            The plane is x(s, t) = origin + s u + t v.
        extent : float or four floats
            The window: -extent to extent for s and t, or (s_low, s_high, t_low, t_high).

        Returns
        -------
        SlicePartition
            Polygons in (s, t), their codes and maps.

        Raises
        ------
        ConfigurationError
            u and v are collinear, the window is empty, or sizes do not match.
        """
        from splinellm.regions.slices import cut_network

        return cut_network(self, origin, u, v, extent)

    def enumerate_regions(
        self,
        box: object = None,
        *,
        constraints: tuple[object, object] | None = None,
        n_jobs: int = 1,
        limit: int = 100_000,
    ) -> Iterator[Region]:
        """Find every region inside a box or polytope, one by one.

        Parameters
        ----------
        box : pair (low, high)
            Two numbers, or two vectors of size D.
        constraints : pair (C, c), optional
            Instead of a box, the bounded polytope C z <= c.
        n_jobs : int
            Processes; -1 for one of each core.
        limit : int
            Most regions to give.

        Yields
        ------
        Region
            In an order that depends on `n_jobs`.

        Raises
        ------
        ConfigurationError
            The domain is empty, flat or unbounded, or of another dimension than the network.
        RegionLimitError
            There are more regions than `limit`; raised behind the last one that is given, so that
            a part is never taken for all.
        """
        from splinellm.regions.domains import Domain
        from splinellm.regions.enumeration import enumerate_regions

        n_dims = math.prod(self._points.known_shape())
        domain = Domain.of(box, constraints, n_dims)
        with torch.no_grad():
            self.run(torch.from_numpy(domain.centre).reshape(1, *self._points.known_shape()))
        return enumerate_regions(self, domain, n_jobs=n_jobs, limit=limit)

    # What the partitions are made with.

    @property
    def program(self) -> Program:
        """The network as steps."""
        return self._program

    @property
    def points(self) -> PointKind:
        """What a point of it is."""
        return self._points

    def run(self, points: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Values and codes at points (N, ...); the first time they are compared with the module's.

        Raises
        ------
        ConfigurationError
            A layer does not take points of this shape.
        VerificationError
            The module computes something else, so that nothing here would be true of it.
        """
        try:
            values, codes = self._program.run(points)
            expected = None if self._reference is None else self._reference(points)
        except (RuntimeError, IndexError) as error:
            raise ConfigurationError(
                f"points of shape {tuple(points.shape[1:])} do not fit this {self._name}: "
                f"{str(error).splitlines()[0][:200]}"
            ) from error
        if expected is not None and len(points):
            slack = 1e-9 * max(1.0, float(expected.abs().max()))
            if values.shape != expected.shape or float((values - expected).abs().max()) > slack:
                raise VerificationError(f"the {self._name} does not compute what its layers do")
            self._reference = None
        if not codes:
            codes = [torch.empty(len(points), 0, dtype=torch.int8)]
        return values, codes

    def maps(self, points: Tensor, codes: Tensor) -> Tensor:
        """Maps (N, n_out, 1 + D) on the regions `codes` (N, U): b, and the columns of A."""
        shape = tuple(points.shape[1:])
        size = math.prod(shape)
        rows = torch.cat([torch.zeros(1, size, dtype=torch.float64), torch.eye(size).double()])
        forms = rows.reshape(1, 1 + size, *shape)
        chunk = max(1, _FORMS_AT_ONCE // (forms.numel() * 8))
        found = [self._maps_of(forms, part) for part in codes.split(chunk)]
        return torch.cat(found) if found else torch.empty(0, 0, 1 + size, dtype=torch.float64)

    def _maps_of(self, forms: Tensor, codes: Tensor) -> Tensor:
        front = self._program.begin(forms)
        used, everyone = 0, torch.zeros(len(codes), dtype=torch.int64)
        while not self._program.is_done(front):
            n_units = self._program.contending(front).shape[1]
            code = codes[:, used : used + n_units]
            if code.shape[1] != n_units:
                break
            # The regions are the same until the first step that tells them apart.
            front = self._program.go_on(front, code, everyone if used == 0 else None)
            used += n_units
        if not self._program.is_done(front) or used != codes.shape[1]:
            raise ConfigurationError(f"a code of {codes.shape[1]} units is not of this network")
        found = self._program.result(front).flatten(2).movedim(1, -1)
        return found if used else found.expand(len(codes), -1, -1)

    def _answer(self, x: Array, function: Callable[[Tensor], Tensor]) -> Array:
        """Apply a function of points (N, ...) to what was given, and answer in kind."""
        points, is_single = self._points.read(x)
        with torch.no_grad():
            found = function(points)
        return in_kind(found[0] if is_single else found, x)

    def __getstate__(self) -> dict[str, object]:
        # Other processes need the steps alone; the module may be of a class that they cannot have.
        return {**vars(self), "_reference": None}


def _read_shape(given: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(whole_from(1, "a size in input_shape", size) for size in given)
    except TypeError:
        raise ConfigurationError(
            f"input_shape {str(given)[:40]} is no shape", hint="give a tuple, such as (1, 8, 8)"
        ) from None
