"""Polytopes as inequalities, and the linear programmes that are asked of them (HiGHS).

A polytope is C z <= c with rows of length 1, so that c - C z are distances. HiGHS meets constraints
to 1e-10 here; distances below :data:`TOLERANCE` times the domain's size are taken for zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from splinellm.errors import ConfigurationError

TOLERANCE = 1e-8
"""Of the domain's size. Regions thinner than that are taken for parts of their neighbours."""

_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@dataclass(frozen=True)
class Polytope:
    """C z <= c in D dimensions.

    Parameters
    ----------
    rows : ndarray, shape (m, D)
        C, of length 1 each.
    bounds : ndarray, shape (m,)
        c.
    labels : ndarray, shape (m,), int64
        What each inequality is of; kept for whoever asks.
    """

    rows: np.ndarray
    bounds: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of inequalities."""
        return len(self.bounds)

    @property
    def n_dims(self) -> int:
        """D."""
        return int(self.rows.shape[1])

    def __getitem__(self, kept: np.ndarray) -> Polytope:
        """Keep some of the inequalities."""
        return Polytope(self.rows[kept], self.bounds[kept], self.labels[kept])

    def cut(self, rows: np.ndarray, bounds: np.ndarray, label: int) -> Polytope:
        """The part where further inequalities hold."""
        labels = np.full(len(bounds), label, np.int64)
        return Polytope(
            np.concatenate([self.rows, rows]),
            np.concatenate([self.bounds, bounds]),
            np.concatenate([self.labels, labels]),
        )

    def farthest(self, direction: np.ndarray) -> np.ndarray | None:
        """A point with the largest value of direction . z; None if it is unbounded or empty."""
        found = linprog(
            -direction,
            A_ub=self.rows,
            b_ub=self.bounds,
            bounds=(None, None),
            method="highs",
            options=_OPTIONS,
        )
        if found.status in (2, 3, 4):
            return None
        if found.status != 0:
            raise ConfigurationError(f"a linear programme was not solved: {found.message[:200]}")
        point: np.ndarray = found.x
        return point

    def centre(self) -> tuple[np.ndarray, float] | None:
        """Centre and radius of a largest ball inside; None if the polytope is empty."""
        one = np.ones((len(self), 1))
        lifted = Polytope(np.concatenate([self.rows, one], axis=1), self.bounds, self.labels)
        # With a radius above 0 and, for an unbounded polytope, no larger than anything sensible.
        limits = np.zeros((2, self.n_dims + 1))
        limits[0, -1], limits[1, -1] = -1.0, 1.0
        largest = float(np.abs(self.bounds).max(initial=1.0)) * 1e3 + 1.0
        lifted = lifted.cut(limits, np.array([0.0, largest]), -1)
        found = lifted.farthest(np.eye(self.n_dims + 1)[-1])
        return None if found is None else (found[:-1], float(found[-1]))

    def is_needed(self, index: int, slack: float) -> bool:
        """Whether an inequality cuts off anything, by more than `slack`."""
        others = self[np.arange(len(self)) != index]
        found = others.farthest(self.rows[index])
        return found is None or float(self.rows[index] @ found) > self.bounds[index] + slack

    def facets(self, slack: float) -> Polytope:
        """The same polytope by the inequalities that are needed, one after the other."""
        found, index = self, 0
        while index < len(found):
            if found.is_needed(index, slack):
                index += 1
            else:
                found = found[np.arange(len(found)) != index]
        return found


def box_polytope(low: np.ndarray, high: np.ndarray) -> Polytope:
    """The polytope low <= z <= high; labelled -1 - i for its i-th inequality."""
    eye = np.eye(len(low))
    bounds = np.concatenate([high, -low])
    return Polytope(np.concatenate([eye, -eye]), bounds, -1 - np.arange(2 * len(low)))
