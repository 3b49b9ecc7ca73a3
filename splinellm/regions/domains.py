"""Where regions are enumerated: a box or a bounded polytope, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splinellm.errors import ConfigurationError
from splinellm.regions.polytopes import TOLERANCE, Polytope, box_polytope


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
            Both or neither was given; or it is empty, flat, unbounded, or not of D dimensions.
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
            return cls(box_polytope(low, high), centre, radius, float((high - low).max()))
        polytope = _read_constraints(constraints, n_dims)
        return cls(polytope, *_measured(polytope))

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
