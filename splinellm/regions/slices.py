"""The exact partition of a plane: polygons, cut step by step as the network cuts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from splinellm.errors import ConfigurationError
from splinellm.regions.polygons import (
    RELATIVE_TOLERANCE,
    Polygons,
    Units,
    area,
    cut,
    window_polygon,
)

if TYPE_CHECKING:
    from splinellm.regions.network import PiecewiseAffine


class HasMaps(Protocol):
    """What knows the affine map of a region."""

    def affine_map(self, x: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """A and b on the region of a point."""


@dataclass(frozen=True)
class SliceRegion:
    """A polygon of a plane on which the network is one affine map.

    Parameters
    ----------
    polygon : ndarray, shape (V, 2)
        Vertices in (s, t), counterclockwise.
    code : ndarray, shape (U,), int8
        Sign code, as of :meth:`splinellm.regions.PiecewiseAffine.sign_code`.
    point : ndarray, shape (D...)
        A point inside, in the network's input space.
    maps_of : optional
        The network, if it has an affine map here.
    """

    polygon: np.ndarray
    code: np.ndarray
    point: np.ndarray
    maps_of: HasMaps | None = field(repr=False, default=None)

    @property
    def area(self) -> float:
        """Area of the polygon, in units of s and t."""
        return area(self.polygon)

    @property
    def centre(self) -> np.ndarray:
        """The point inside, in (s, t)."""
        centre: np.ndarray = self.polygon.mean(axis=0)
        return centre

    def affine_map(self) -> tuple[np.ndarray, np.ndarray]:
        """A (n_out, D) and b (n_out,) of the network on the region, computed now.

        Raises
        ------
        ConfigurationError
            The partition is that of a gated layer, which is affine on no region.
        """
        if self.maps_of is None:
            raise ConfigurationError(
                "a gated layer is affine on no region", hint="ask for its jacobian at a point"
            )
        return self.maps_of.affine_map(self.point)


@dataclass(frozen=True)
class SlicePartition(Sequence[SliceRegion]):
    """All polygons of a window of a plane; they tile it.

    Parameters
    ----------
    origin, u, v : ndarray, shape (D...)
        The plane is x(s, t) = origin + s u + t v.
    window : ndarray, shape (4, 2)
        Corners in (s, t).
    polygons : tuple of ndarray
        Vertices (V, 2) of each, counterclockwise.
    codes : ndarray, shape (N, U), int8
        Their sign codes.
    maps_of : optional
        The network, whose maps the regions have.
    """

    origin: np.ndarray = field(repr=False)
    u: np.ndarray = field(repr=False)
    v: np.ndarray = field(repr=False)
    window: np.ndarray
    polygons: tuple[np.ndarray, ...] = field(repr=False)
    codes: np.ndarray = field(repr=False)
    maps_of: HasMaps | None = field(repr=False, default=None)

    def __len__(self) -> int:
        """Number of polygons."""
        return len(self.polygons)

    def __getitem__(self, index: Any) -> Any:
        """One region, or several as a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        polygon = self.polygons[index]
        point = self.at(polygon.mean(axis=0))
        return SliceRegion(polygon, self.codes[index], point, self.maps_of)

    def __iter__(self) -> Iterator[SliceRegion]:
        """Go through the regions."""
        return (self[i] for i in range(len(self)))

    @property
    def areas(self) -> np.ndarray:
        """Area of each polygon, (N,)."""
        return np.array([area(polygon) for polygon in self.polygons])

    def at(self, st: np.ndarray) -> np.ndarray:
        """Points of the input space, (D...) or (N, D...), at (s, t), (2,) or (N, 2)."""
        st = np.asarray(st, dtype=np.float64)
        shape = *st.shape[:-1], *[1] * self.origin.ndim
        s, t = st[..., 0].reshape(shape), st[..., 1].reshape(shape)
        found: np.ndarray = self.origin + s * self.u + t * self.v
        return found

    def where(self, points: Tensor | np.ndarray) -> np.ndarray:
        """Coordinates (s, t) of points, (2,) or (N, 2); of such beside it, of the nearest ones."""
        given = np.asarray(points, dtype=np.float64)
        is_single = given.ndim == self.origin.ndim
        rows = np.atleast_2d((given - self.origin).reshape(-1, self.origin.size))
        basis = np.stack([self.u.ravel(), self.v.ravel()], axis=1)
        found: np.ndarray = np.linalg.lstsq(basis, rows.T, rcond=None)[0].T
        return found[0] if is_single else found


def read_plane(u: np.ndarray, v: np.ndarray, extent: float | Sequence[float]) -> np.ndarray:
    """Window of a plane.

    Raises
    ------
    ConfigurationError
        u and v are collinear, or the window is empty.
    """
    sides = np.linalg.svd(np.stack([u.ravel(), v.ravel()]), compute_uv=False)
    if len(sides) < 2 or not sides[1] > 1e-10 * sides[0]:  # one input has no plane
        raise ConfigurationError(
            "u and v are collinear: they span no plane", hint="choose two that are not"
        )
    try:
        numbers = np.asarray(extent, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.size == 1:
        numbers = np.array([-numbers[0], numbers[0]] * 2)
    is_window = numbers.size == 4 and bool(np.isfinite(numbers).all())
    if not (is_window and numbers[0] < numbers[1] and numbers[2] < numbers[3]):
        raise ConfigurationError(
            f"extent {str(extent)[:80]} is no window",
            hint="give a positive number, or (s_low, s_high, t_low, t_high)",
        )
    return window_polygon(*numbers.tolist())


def plane_points(network: PiecewiseAffine, *points: object) -> list[Tensor]:
    """Origin and directions of a plane, all of one shape."""
    names = ("the origin", "u", "v")
    found = [network.points.read_one(it, name) for it, name in zip(points, names, strict=True)]
    if len({tuple(it.shape) for it in found}) != 1:
        raise ConfigurationError("origin, u and v differ in their shapes")
    return found


def cut_network(
    network: PiecewiseAffine, origin: object, u: object, v: object, extent: float | Sequence[float]
) -> SlicePartition:
    """See :meth:`splinellm.regions.PiecewiseAffine.slice_partition`."""
    plane = plane_points(network, origin, u, v)
    window = read_plane(plane[1].numpy(), plane[2].numpy(), extent)
    with torch.no_grad():
        network.run(plane[0][None])  # which finds out whether the shape fits
        polygons, codes = _cut(network, torch.stack(plane)[None], window)
    x, along_s, along_t = (it.numpy() for it in plane)
    return SlicePartition(x, along_s, along_t, window, tuple(polygons), codes, network)


def _cut(
    network: PiecewiseAffine, forms: Tensor, window: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    program = network.program
    polygons, codes = Polygons(window[None], np.array([4])), np.zeros((1, 0), np.int8)
    front = program.begin(forms)
    while not program.is_done(front):
        found: list[tuple[Polygons, np.ndarray, np.ndarray]] = []
        size = max(1, _UNITS_AT_ONCE // max(1, program.n_units(front)))
        for start in range(0, len(polygons), size):
            rows = np.arange(start, min(start + size, len(polygons)))
            some = program.select(front, torch.from_numpy(rows))
            parts, of, code = cut_by_step(polygons[rows], program.contending(some).numpy(), window)
            found.append((parts, rows[of], code))
        polygons = Polygons.joined([it for it, _, _ in found])
        parents = _stacked([it for _, it, _ in found])
        step_codes = _stacked([it for _, _, it in found])
        codes = np.concatenate([codes[parents], step_codes], axis=1) if codes.size else step_codes
        if program.is_last(front):  # what follows cuts nothing
            break
        front = program.go_on(front, torch.from_numpy(step_codes), torch.from_numpy(parents))
    return polygons.split(), codes


_UNITS_AT_ONCE = 2**19
_NUMBERS_AT_ONCE = 2**21


def cut_by_step(
    polygons: Polygons, contending: np.ndarray, window: np.ndarray
) -> tuple[Polygons, np.ndarray, np.ndarray]:
    """Cut polygons by the units of one step.

    Parameters
    ----------
    polygons : Polygons
        P of them.
    contending : ndarray, shape (P, U, W, 3)
        Forms in (s, t) of what decides.
    window : ndarray, shape (4, 2)
        Sets the scale of the tolerance.

    Returns
    -------
    Polygons, ndarray of shape (P',), ndarray of shape (P', U)
        The parts, of which polygon each is one, and its code.
    """
    n_units, n_contenders = contending.shape[1:3]
    tolerance = RELATIVE_TOLERANCE * float(np.linalg.norm(window[2] - window[0]))
    units = Units.of(contending.reshape(-1, n_contenders, 3), window)
    parts, of = cut(polygons, units, np.repeat(np.arange(len(polygons)), n_units), tolerance)
    return parts, of, _codes_at(parts.centres, contending, of)


def _codes_at(centres: np.ndarray, contending: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Codes (P', U) at centres (P', 2) of parts, each of one of the polygons (P, U, W, 3)."""
    n_units, n_contenders = contending.shape[1:3]
    points = np.pad(centres, ((0, 0), (1, 0)), constant_values=1.0)
    code = np.empty((len(points), n_units), np.int8)
    gaps = contending[:, :, -1] - contending[:, :, 0]
    size = max(1, _NUMBERS_AT_ONCE // (n_units * n_contenders * 3))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        if n_contenders > 2:
            values = np.einsum("ruwm,rm->ruw", contending[of[rows]], points[rows])
            code[rows] = values.argmax(axis=-1)  # of equal ones the first
        elif len(gaps) == 1:
            np.greater(points[rows] @ gaps[0].T, 0, out=code[rows].view(np.bool_))
        else:
            code[rows] = np.einsum("rum,rm->ru", gaps[of[rows]], points[rows]) > 0
    return code


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
