"""Where regions are enumerated: a box or a bounded polytope, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from splinellm.errors import ConfigurationError
from splinellm.regions.polytopes import TOLERANCE, Polytope, box_polytope

_SMALLEST, _LARGEST = 1e-50, 1e50
"""Sizes of domains: beyond them squares of what is computed do not fit float64."""


@dataclass(frozen=True)
class Frame:
    """Coordinates z' in which a domain lies around 0 and is about 2 wide: z = centre + unit z'.

    In these all is computed: tolerances of HiGHS and Qhull, and what HiGHS takes for infinite, do
    not depend on where and how large the domain is.

    Parameters
    ----------
    centre : ndarray, shape (D,)
    unit : float
        A power of two, by which numbers are multiplied exactly.
    """

    centre: np.ndarray
    unit: float

    def inwards(self, polytope: Polytope) -> Polytope:
        """A polytope of the user's coordinates in these."""
        bounds = (polytope.bounds - polytope.rows @ self.centre) / self.unit
        return Polytope(polytope.rows, bounds, polytope.labels)

    def outwards(self, polytope: Polytope) -> Polytope:
        """A polytope of these coordinates in the user's."""
        bounds = polytope.bounds * self.unit + polytope.rows @ self.centre
        return Polytope(polytope.rows, bounds, polytope.labels)


@dataclass(frozen=True)
class Domain:
    """A bounded polytope with an interior.

    Parameters
    ----------
    polytope : Polytope
        Labelled -1 - i for its i-th inequality.
    centre : ndarray, shape (D,)
        Of a largest ball inside.
    radius : float
        Of that ball.
    size : float
        Longest side of the box around it; the scale of tolerances.
    """

    polytope: Polytope
    centre: np.ndarray
    radius: float
    size: float

    @classmethod
    def of(cls, box: object, constraints: tuple[object, object] | None, n_dims: int) -> Domain:
        """Read a box (low, high), or constraints (C, c).

        Raises
        ------
        ConfigurationError
            Both or neither was given; or it is empty, flat, unbounded, not of D dimensions, or
            beyond float64's precision.
        """
        if (box is None) == (constraints is None):
            raise ConfigurationError(
                "a domain is a box or constraints, and one of them was not given"
                if box is None
                else "a domain is a box or constraints, and both were given",
                hint="pass enumerate_regions a box, such as (-1.0, 1.0)",
            )
        if constraints is None:
            low, high = _read_box(box, n_dims)
            centre, radius = (low + high) / 2, float((high - low).min()) / 2
            domain = cls(box_polytope(low, high), centre, radius, float((high - low).max()))
        else:
            polytope = _read_constraints(constraints, n_dims)
            domain = cls(polytope, *_measured(polytope))
        domain._require_precision()
        return domain

    def _require_precision(self) -> None:
        """Refuse what float64 or the tolerance cannot tell apart."""
        if self.radius <= self.slack:
            raise ConfigurationError(
                f"the domain is flat: its largest ball has the radius {self.radius:g}, and it is "
                f"{self.size:g} wide",
                hint=f"the one may be {1 / TOLERANCE:g} times the other",
            )
        if not _SMALLEST < self.size < _LARGEST:
            raise ConfigurationError(
                f"the domain is {self.size:g} wide", hint="scale the inputs to a size nearer to 1"
            )
        distance = float(np.linalg.norm(self.centre))
        if distance * float(np.finfo(np.float64).eps) > self.slack:
            raise ConfigurationError(
                f"the domain is {self.size:g} wide and {distance:g} away from 0, where float64 "
                "cannot tell its points apart",
                hint="shift the inputs, or take a larger domain",
            )

    def framed(self) -> tuple[Frame, Domain]:
        """Coordinates of its own, and the domain in them."""
        frame = Frame(self.centre, 2.0 ** math.floor(math.log2(self.size / 2)))
        centre = np.zeros_like(self.centre)
        polytope = frame.inwards(self.polytope)
        return frame, Domain(polytope, centre, self.radius / frame.unit, self.size / frame.unit)

    @property
    def slack(self) -> float:
        """Distance that is taken for zero."""
        return TOLERANCE * self.size


def _read_box(box: object, n_dims: int) -> tuple[np.ndarray, np.ndarray]:
    hint = f"give (low, high), two numbers or two vectors of {n_dims}"
    try:
        low, high = (np.asarray(side, dtype=np.float64).ravel() for side in box)  # type: ignore[attr-defined]
        low, high = (np.broadcast_to(side, (n_dims,)) for side in (low, high))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the box does not fit a network of {n_dims} inputs", hint=hint
        ) from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ConfigurationError("the box is empty, flat or unbounded", hint=hint)
    return low, high


def _read_constraints(constraints: tuple[object, object], n_dims: int) -> Polytope:
    try:
        rows, bounds = (np.asarray(it, dtype=np.float64) for it in constraints)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            "constraints are a pair (C, c), of which C z <= c", hint="give two arrays"
        ) from error
    if rows.ndim != 2 or rows.shape[1] != n_dims or bounds.shape != rows.shape[:1]:
        raise ConfigurationError(
            f"constraints of shapes {rows.shape} and {bounds.shape} do not fit a network of "
            f"{n_dims} inputs",
            hint=f"C has the shape (m, {n_dims}) and c the shape (m,)",
        )
    if not (np.isfinite(rows).all() and np.isfinite(bounds).all()):
        raise ConfigurationError("the constraints are not finite")
    lengths = np.linalg.norm(rows, axis=1)
    if (bounds[lengths == 0] < 0).any():
        raise ConfigurationError("the constraints leave nothing: one of them is 0 <= c < 0")
    kept = lengths > 0
    labels = -1 - np.flatnonzero(kept)
    return Polytope(rows[kept] / lengths[kept, None], bounds[kept] / lengths[kept], labels)


def _measured(polytope: Polytope) -> tuple[np.ndarray, float, float]:
    """Centre, radius and size of a domain."""
    ball = polytope.centre()
    if ball is None:
        raise ConfigurationError("the constraints leave nothing")
    sides = []
    for axis in np.eye(polytope.n_dims):
        ends = [polytope.farthest(sign * axis) for sign in (1.0, -1.0)]
        if ends[0] is None or ends[1] is None:
            raise ConfigurationError(
                "the constraints leave an unbounded domain", hint="bound every input"
            )
        sides.append(float(axis @ (ends[0] - ends[1])))
    if ball[1] <= TOLERANCE * max(sides):
        raise ConfigurationError("the constraints leave a flat domain, or nothing")
    return ball[0], ball[1], max(sides)
