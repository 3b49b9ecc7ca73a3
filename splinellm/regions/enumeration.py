"""All regions of a network inside a domain, by linear programmes, in any dimension.

The domain goes through the network step by step. At a step, a cell is an affine piece of all that
came before, so that each unit of the step is decided by hyperplanes. A unit that is undecided in a
cell splits it; the parts are asked about the units that were undecided in the cell, and no others.
That a unit is undecided mostly shows without a programme: at points of the cell that earlier ones
found, or inside of its largest ball. Cells do not depend on each other and are shared out.

The cost of a region is a number of programmes that the number of regions does not enter, each over
D variables and the inequalities of one cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.spatial import ConvexHull, HalfspaceIntersection

from splinellm.errors import ConfigurationError, RegionLimitError
from splinellm.parameters import whole, whole_from
from splinellm.regions.domains import Domain, Frame
from splinellm.regions.polytopes import Polytope

if TYPE_CHECKING:
    from splinellm.regions.network import PiecewiseAffine
    from splinellm.regions.program import Front

_VOLUME_DIMS = 4
_ROUNDING = 1e-13
_TASKS_PER_JOB = 8


@dataclass(frozen=True)
class Region:
    """A polytope on which a network is one affine map.

    Parameters
    ----------
    code : ndarray, shape (U,), int8
        Sign code, as of :meth:`splinellm.regions.PiecewiseAffine.sign_code`.
    point : ndarray, shape (D,)
        A point inside: the centre of a largest ball.
    radius : float
        Of that ball.
    A, b : ndarray, shapes (n_out, D) and (n_out,)
        The network there: f(z) = A z + b.
    """

    code: np.ndarray
    point: np.ndarray
    radius: float
    A: np.ndarray = field(repr=False)
    b: np.ndarray = field(repr=False)
    _polytope: Polytope = field(repr=False)
    _frame: Frame = field(repr=False)
    _slack: float = field(repr=False)

    @cached_property
    def facets(self) -> Polytope:
        """The region as C z <= c with a row of each facet.

        Labels name the unit of the code that changes behind a facet, or are -1 - i behind the i-th
        inequality of the domain.
        """
        return self._frame.outwards(self._polytope.facets(self._slack))

    @cached_property
    def volume(self) -> float | None:
        """Volume, in up to 4 dimensions; None in more, where it is not cheap."""
        n_dims = len(self.point)
        if n_dims > _VOLUME_DIMS:
            return None
        unit = self._frame.unit
        if n_dims == 1:
            ends = [self._polytope.farthest(np.array([sign])) for sign in (1.0, -1.0)]
            return float((ends[0] - ends[1])[0]) * unit if ends[0] is not None else None
        halfspaces = np.column_stack([self._polytope.rows, -self._polytope.bounds])
        inside = (self.point - self._frame.centre) / unit
        corners = HalfspaceIntersection(halfspaces, inside).intersections
        return float(ConvexHull(corners).volume) * unit**n_dims


@dataclass(frozen=True)
class _Cell:
    """A part of the domain on its way through a step.

    Parameters
    ----------
    polytope, point, radius
        The part, and its largest ball.
    found : ndarray, shape (n, D)
        Points of it that programmes gave.
    front : Front
        Its forms at the step.
    contending : ndarray, shape (U, W, 1 + D)
        Forms of what decides there.
    undecided : ndarray, int64
        Units that may split it.
    earlier : ndarray, int8
        Code of the steps before.
    """

    polytope: Polytope
    point: np.ndarray
    radius: float
    found: np.ndarray
    front: Front
    contending: np.ndarray
    undecided: np.ndarray
    earlier: np.ndarray


def enumerate_regions(
    network: PiecewiseAffine, domain: Domain, *, n_jobs: int = 1, limit: int = 100_000
) -> Iterator[Region]:
    """See :meth:`splinellm.regions.PiecewiseAffine.enumerate_regions`."""
    limit = whole_from(1, "limit", limit)
    n_jobs = whole("n_jobs", n_jobs) or 0
    if n_jobs == 0:
        raise ConfigurationError("n_jobs is 0; give 1, more, or -1 for one of each core")
    regions = _in_parallel if n_jobs != 1 else _in_turn
    return _up_to(limit, regions(_Enumeration(network, domain), n_jobs, limit))


def _up_to(limit: int, regions: Iterator[Region]) -> Iterator[Region]:
    yield from islice(regions, limit)
    if next(regions, None) is not None:
        raise RegionLimitError(
            f"there are more than {limit} regions, and only those were given",
            hint="raise the limit, or take a smaller domain",
        )


def _in_turn(enumeration: _Enumeration, _n_jobs: int, _limit: int) -> Iterator[Region]:
    return enumeration.finish(enumeration.start())


def _in_parallel(enumeration: _Enumeration, n_jobs: int, limit: int) -> Iterator[Region]:
    """Split breadth first until there is enough to share out."""
    to_do, done = enumeration.start(), list[Region]()
    pool = Parallel(n_jobs=n_jobs, return_as="generator")
    wanted = _TASKS_PER_JOB * pool._effective_n_jobs()  # noqa: SLF001 - joblib has no public name
    while to_do and len(to_do) < wanted:
        found = enumeration.go_on(to_do.pop(0))
        if isinstance(found, Region):
            done.append(found)
        else:
            to_do += found
    yield from done
    tasks = (delayed(_finished)(enumeration, cell, limit) for cell in to_do)
    for found in pool(tasks) if to_do else ():
        yield from found


def _finished(enumeration: _Enumeration, cell: _Cell, limit: int) -> list[Region]:
    return [*islice(enumeration.finish([cell]), limit + 1)]


class _Enumeration:
    def __init__(self, network: PiecewiseAffine, domain: Domain) -> None:
        self._program = network.program
        self._frame, self._domain = domain.framed()
        self._shape = network.points.known_shape()

    def start(self) -> list[_Cell]:
        """The whole domain, before the first step."""
        domain, size = self._domain, len(self._domain.centre)
        rows = torch.from_numpy(np.vstack([self._frame.centre, self._frame.unit * np.eye(size)]))
        front = self._program.begin(rows.reshape(1, 1 + size, *self._shape))
        nothing = np.empty((0, size)), np.empty(0, np.int8)
        cell = _Cell(
            domain.polytope,
            domain.centre,
            domain.radius,
            nothing[0],
            front,
            np.empty((0, 1, 1 + size)),
            np.empty(0, np.int64),
            nothing[1],
        )
        return [self._at_step(cell, front)]

    def finish(self, cells: Iterable[_Cell]) -> Iterator[Region]:
        """All regions in some cells, depth first."""
        to_do = list(cells)
        while to_do:
            found = self.go_on(to_do.pop())
            if isinstance(found, Region):
                yield found
            else:
                to_do += found

    def go_on(self, cell: _Cell) -> list[_Cell] | Region:
        """The parts of a cell, or the cell at the next step, or the region that it is."""
        if self._program.is_done(cell.front):
            return self._region(cell)
        cell, undecided = self._without_decided(cell)
        if undecided is not None:
            return self._parts(cell, undecided)
        code = self._code(cell)
        front = self._program.go_on(cell.front, torch.from_numpy(code)[None])
        return [self._at_step(replace(cell, earlier=np.append(cell.earlier, code)), front)]

    def _at_step(self, cell: _Cell, front: Front) -> _Cell:
        if self._program.is_done(front):
            return replace(cell, front=front)
        contending = self._program.contending(front)[0].numpy()
        undecided = np.arange(len(contending))
        return replace(cell, front=front, contending=contending, undecided=undecided)

    def _code(self, cell: _Cell) -> np.ndarray:
        values = cell.contending @ np.append(1.0, cell.point)
        code: np.ndarray = values.argmax(axis=1).astype(np.int8)
        return code

    def _without_decided(self, cell: _Cell) -> tuple[_Cell, int | None]:
        """The cell without its units that are decided, and one that is not, if there is one."""
        kept, found = list[int](), [cell.found]
        for unit in cell.undecided.tolist():
            ahead = self._ahead(cell, unit)
            points = np.concatenate([cell.point[None], *found])
            if self._shows_undecided(ahead, points, cell.radius):
                kept.append(unit)
                continue
            for row in ahead:
                farthest = cell.polytope.farthest(-row[1:])
                if farthest is None:
                    continue
                found.append(farthest[None])
                if row[0] + row[1:] @ farthest < -self._domain.slack:
                    kept.append(unit)
                    break
        cell = replace(cell, undecided=np.array(kept, np.int64), found=np.concatenate(found))
        return cell, self._most_central(cell) if kept else None

    def _ahead(self, cell: _Cell, unit: int) -> np.ndarray:
        """Distances (W', 1 + D) by which the winner at the cell's point is ahead of others."""
        forms = cell.contending[unit]
        winner = int((forms @ np.append(1.0, cell.point)).argmax())
        return _scaled(forms[winner] - np.delete(forms, winner, axis=0), forms, self._domain)

    def _shows_undecided(self, ahead: np.ndarray, points: np.ndarray, radius: float) -> bool:
        """Whether points, of which the first has a ball around it, show another winner."""
        values = ahead[:, :1] + ahead[:, 1:] @ points.T
        slack = self._domain.slack
        return bool((values < -slack).any() or (values[:, 0] < radius - slack).any())

    def _most_central(self, cell: _Cell) -> int:
        nearest = [
            float(np.abs(ahead[:, 0] + ahead[:, 1:] @ cell.point).min())
            for ahead in (self._ahead(cell, unit) for unit in cell.undecided.tolist())
        ]
        return int(cell.undecided[int(np.argmin(nearest))])

    def _parts(self, cell: _Cell, unit: int) -> list[_Cell]:
        """The parts of a cell on which each of a unit's contenders is the largest."""
        forms, slack = cell.contending[unit], self._domain.slack
        parts, label = [], len(cell.earlier) + unit
        for winner in range(len(forms)):
            if _is_behind(forms, winner, self._domain):
                continue
            ahead = _scaled(forms[winner] - np.delete(forms, winner, axis=0), forms, self._domain)
            part = cell.polytope.cut(-ahead[:, 1:], ahead[:, 0], label)
            ball = part.centre()
            if ball is None or ball[1] <= slack / 2:
                continue
            inside = (ahead[:, :1] + ahead[:, 1:] @ cell.found.T >= 0).all(axis=0)
            rest = cell.undecided[cell.undecided != unit]
            parts.append(
                replace(
                    cell,
                    polytope=part,
                    point=ball[0],
                    radius=ball[1],
                    found=cell.found[inside],
                    undecided=rest,
                )
            )
        return parts or [replace(cell, undecided=cell.undecided[cell.undecided != unit])]

    def _region(self, cell: _Cell) -> Region:
        forms = self._program.result(cell.front)[0].flatten(1).T.numpy()  # (n_out, 1 + D)
        centre, unit = self._frame.centre, self._frame.unit
        slopes = forms[:, 1:] / unit
        return Region(
            cell.earlier,
            centre + unit * cell.point,
            unit * cell.radius,
            slopes,
            forms[:, 0] - slopes @ centre,
            cell.polytope,
            self._frame,
            self._domain.slack,
        )


def _scaled(gaps: np.ndarray, forms: np.ndarray, domain: Domain) -> np.ndarray:
    """Scale forms (n, 1 + D) to distances, without those that are constant but for rounding."""
    lengths = np.linalg.norm(gaps[:, 1:], axis=1)
    kept = ~_are_constant(gaps, forms, domain)
    scaled: np.ndarray = gaps[kept] / lengths[kept, None]
    return scaled


def _are_constant(gaps: np.ndarray, forms: np.ndarray, domain: Domain) -> np.ndarray:
    """Which differences (n, 1 + D) of forms do not vary in the domain, but for rounding."""
    reach = domain.size + float(np.linalg.norm(domain.centre))
    lengths = np.linalg.norm(gaps[:, 1:], axis=1)
    found: np.ndarray = lengths * reach <= _rounding(forms)
    return found


def _rounding(forms: np.ndarray) -> float:
    return _ROUNDING * float(np.abs(forms).max(initial=0.0))


def _is_behind(forms: np.ndarray, winner: int, domain: Domain) -> bool:
    """Whether another contender is ahead everywhere, or is the same and comes first."""
    gaps = forms[winner] - forms
    ahead = np.where(_are_constant(gaps, forms, domain), gaps[:, 0], np.inf)
    slack = _rounding(forms)
    return bool((ahead < -slack).any() or (ahead[:winner] <= slack).any())
