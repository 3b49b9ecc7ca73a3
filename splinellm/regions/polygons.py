"""Many convex polygons in the plane, cut all at once by the lines of piecewise units.

Polygons are kept as vertices (P, V, 2), counterclockwise, of which the first n of each (P,) count.
A line is (c, a, b), scaled so that c + a s + b t is a distance. A vertex nearer to it than a
tolerance lies on it, and a line cuts a polygon if there are vertices farther away than that on both
sides. Both parts get the vertices on the line to the last bit, so that polygons that are cut go on
tiling what was cut.

Shape letters: P polygons, V vertices, U units, W contenders of a unit, Q pairs of contenders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

RELATIVE_TOLERANCE = 1e-11
"""Of a window's diameter."""
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Polygons:
    """P convex polygons.

    Parameters
    ----------
    vertices : ndarray, shape (P, V, 2)
        Counterclockwise; anything behind those that count.
    counts : ndarray, shape (P,), int64
        Vertices that count, at least 3.
    """

    vertices: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        """Number of polygons."""
        return len(self.counts)

    def __getitem__(self, rows: np.ndarray) -> Polygons:
        """Select polygons."""
        counts = self.counts[rows]
        return Polygons(self.vertices[rows, : counts.max(initial=0)], counts)

    @property
    def valid(self) -> np.ndarray:
        """Which vertices count, (P, V)."""
        found: np.ndarray = np.arange(self.vertices.shape[1]) < self.counts[:, None]
        return found

    @property
    def centres(self) -> np.ndarray:
        """Mean of the vertices (P, 2), which is inside."""
        total = np.where(self.valid[..., None], self.vertices, 0.0).sum(axis=1)
        found: np.ndarray = total / self.counts[:, None]
        return found

    def split(self) -> list[np.ndarray]:
        """Vertices (V, 2) of each."""
        return [it[:n].copy() for it, n in zip(self.vertices, self.counts, strict=True)]

    @staticmethod
    def joined(parts: list[Polygons]) -> Polygons:
        """Put several together."""
        width = max(part.vertices.shape[1] for part in parts)
        vertices = [
            np.pad(part.vertices, ((0, 0), (0, width - part.vertices.shape[1]), (0, 0)))
            for part in parts
        ]
        return Polygons(np.concatenate(vertices), np.concatenate([part.counts for part in parts]))


def window_polygon(low_s: float, high_s: float, low_t: float, high_t: float) -> np.ndarray:
    """Corners (4, 2) of a rectangle, counterclockwise."""
    return np.array([[low_s, low_t], [high_s, low_t], [high_s, high_t], [low_s, high_t]])


def area(polygon: np.ndarray) -> float:
    """Area of a polygon (V, 2)."""
    s, t = (polygon - polygon[0]).T  # around a vertex: far from the origin the terms would cancel
    return 0.5 * float(s[:-1] @ t[1:] - s[1:] @ t[:-1])


@dataclass(frozen=True)
class Units:
    """Lines between the contenders of N units.

    Parameters
    ----------
    lines : ndarray, shape (N, Q, 3)
        For each pair of contenders i < j, the distance by which i is ahead of j. Where they differ
        by a constant, that is (1, 0, 0) or (-1, 0, 0) times infinity: the one is ahead everywhere,
        and the first one is if they are equal.
    """

    lines: np.ndarray

    @classmethod
    def of(cls, contending: np.ndarray, window: np.ndarray) -> Units:
        """From the forms of the contenders (N, W, 3), for polygons inside a window (4, 2)."""
        pairs = [*combinations(range(contending.shape[1]), 2)]
        first, second = (contending[:, [pair[i] for pair in pairs]] for i in (0, 1))
        gaps = first - second
        lengths = np.hypot(gaps[..., 1], gaps[..., 2])
        reach = float(np.abs(window).max()) + 1.0
        sizes = np.maximum(np.abs(first).max(axis=-1), np.abs(second).max(axis=-1))
        is_line = lengths * reach > _ROUNDING * sizes
        # What is left of a difference is rounding, unless it is well above that.
        ahead = np.where(gaps[..., 0] < -_ROUNDING * sizes, -np.inf, np.inf)
        scaled = gaps / np.where(is_line, lengths, 1.0)[..., None]
        constant = np.stack([ahead, np.zeros_like(ahead), np.zeros_like(ahead)], axis=-1)
        return cls(np.where(is_line[..., None], scaled, constant))


def cut(
    polygons: Polygons, units: Units, polygon_of: np.ndarray, tolerance: float
) -> tuple[Polygons, np.ndarray]:
    """Cut polygons until every unit of each has one contender that is ahead all over it.

    Parameters
    ----------
    polygons : Polygons
        P of them.
    units : Units
        N of them.
    polygon_of : ndarray, shape (N,), int64
        Which polygon a unit cuts.
    tolerance : float
        A distance.

    Returns
    -------
    Polygons, ndarray of shape (P',), int64
        The parts, and of which polygon each is one.
    """
    n_contenders = _n_contenders(units.lines.shape[1])
    done: list[tuple[Polygons, np.ndarray]] = []
    parents = np.arange(len(polygons))
    unit = np.arange(len(units.lines))  # of each pair of a polygon and a unit that may cut it
    while len(polygons):
        unit, polygon_of, balance = _undecided(polygons, units, unit, polygon_of, tolerance)
        is_cut = np.bincount(polygon_of, minlength=len(polygons)) > 0
        done.append((polygons[~is_cut], parents[~is_cut]))
        if not is_cut.any():
            break
        # One unit for each polygon: the most central one, so that the parts are of like size.
        order = np.lexsort((balance, polygon_of))
        chosen = order[np.unique(polygon_of[order], return_index=True)[1]]
        parts, part_of = [], []
        whole, lines = polygons[polygon_of[chosen]], units.lines[unit[chosen]]
        for winner in range(n_contenders):
            part, rows = _where_ahead(whole, lines, winner, n_contenders, tolerance)
            parts.append(part)
            part_of.append(polygon_of[chosen][rows])
        rest = np.delete(np.arange(len(unit)), chosen)
        unit, polygon_of = unit[rest], polygon_of[rest]
        polygons, of_parts = Polygons.joined(parts), np.concatenate(part_of)
        unit, polygon_of = _handed_down(unit, polygon_of, of_parts, len(parents))
        parents = parents[of_parts]
    return Polygons.joined([it for it, _ in done]), np.concatenate([it for _, it in done])


def _n_contenders(n_pairs: int) -> int:
    """W, of which there are W (W - 1) / 2 pairs."""
    return (1 + math.isqrt(1 + 8 * n_pairs)) // 2


def _undecided(
    polygons: Polygons, units: Units, unit: np.ndarray, polygon_of: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those pairs of a polygon and a unit where nobody is ahead all over, and how centrally."""
    signed = _signed(units.lines[unit], polygons, polygon_of)  # (pairs, Q, V)
    valid = polygons.valid[polygon_of][:, None]
    first_ahead = np.where(valid, signed, np.inf).min(axis=-1) >= -tolerance
    second_ahead = np.where(valid, signed, -np.inf).max(axis=-1) <= tolerance
    n_contenders = _n_contenders(signed.shape[1])
    is_decided = np.zeros(len(unit), np.bool_)
    for i in range(n_contenders):
        ahead = np.ones(len(unit), np.bool_)
        for q, (first, second) in enumerate(combinations(range(n_contenders), 2)):
            if i == first:
                ahead &= first_ahead[:, q]
            elif i == second:
                ahead &= second_ahead[:, q]
        is_decided |= ahead
    left = ~is_decided
    finite = np.where(valid & np.isfinite(signed), signed, 0.0)[left]
    balance = np.abs(finite.sum(axis=-1)).min(axis=-1) if left.any() else np.empty(0)
    return unit[left], polygon_of[left], balance


def _signed(lines: np.ndarray, polygons: Polygons, polygon_of: np.ndarray) -> np.ndarray:
    """Distances (N, Q, V) of the vertices of each line's polygon."""
    vertices = polygons.vertices[polygon_of]
    found: np.ndarray = (
        lines[..., :1]
        + lines[..., 1:2] * vertices[:, None, :, 0]
        + lines[..., 2:] * vertices[:, None, :, 1]
    )
    return found


def _where_ahead(
    polygons: Polygons, lines: np.ndarray, winner: int, n_contenders: int, tolerance: float
) -> tuple[Polygons, np.ndarray]:
    """Parts on which a contender is ahead of all others, and of which polygon each is one."""
    rows = np.arange(len(polygons))
    for q, (first, second) in enumerate(combinations(range(n_contenders), 2)):
        if winner in (first, second) and len(rows):
            signed = _signed(lines[rows, q : q + 1], polygons, np.arange(len(rows)))[:, 0]
            polygons, kept = _clip(polygons, signed if winner == first else -signed, tolerance)
            rows = rows[kept]
    return polygons, rows


def _clip(polygons: Polygons, signed: np.ndarray, tolerance: float) -> tuple[Polygons, np.ndarray]:
    """The parts where signed distances (P, V) are not negative, and which polygons have one."""
    inside = np.where(polygons.valid, signed, -np.inf).max(axis=1) > tolerance
    rows = np.flatnonzero(inside)
    polygons, signed = polygons[rows], signed[rows]
    signed = signed[:, : polygons.vertices.shape[1]]
    valid = polygons.valid
    following = np.where(
        np.arange(valid.shape[1]) + 1 < polygons.counts[:, None], np.arange(valid.shape[1]) + 1, 0
    )
    there = np.take_along_axis(signed, following, axis=1)
    is_kept = valid & (signed >= -tolerance)
    leaves = (signed > tolerance) & (there < -tolerance)
    enters = (signed < -tolerance) & (there > tolerance)
    crosses = valid & (leaves | enters)
    ends = (is_kept.astype(np.int64) + crosses).cumsum(axis=1)
    counts = ends[:, -1] if len(rows) else np.empty(0, np.int64)
    vertices = np.zeros((len(rows), int(counts.max(initial=0)), 2))
    at, place = np.nonzero(is_kept)
    vertices[at, ends[at, place] - 1 - crosses[at, place]] = polygons.vertices[at, place]
    at, place = np.nonzero(crosses)
    # From the positive end, whichever side is kept: both sides get the same number.
    turn = enters[at, place]
    other = following[at, place]
    start, end = np.where(turn, other, place), np.where(turn, place, other)
    at_start, at_end = np.abs(signed[at, start]), np.abs(signed[at, end])
    flip = polygons.vertices[at, start, 0] > polygons.vertices[at, end, 0]
    start, end = np.where(flip, end, start), np.where(flip, start, end)
    at_start, at_end = np.where(flip, at_end, at_start), np.where(flip, at_start, at_end)
    a, b = polygons.vertices[at, start], polygons.vertices[at, end]
    crossing = a + (b - a) * (at_start / (at_start + at_end))[:, None]
    vertices[at, ends[at, place] - 1] = crossing
    return Polygons(vertices, counts), rows


def _handed_down(
    unit: np.ndarray, polygon_of: np.ndarray, of_parts: np.ndarray, n_polygons: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give every part the units of the polygon that it is of."""
    order = np.argsort(polygon_of, kind="stable")
    unit = unit[order]
    counts = np.bincount(polygon_of, minlength=n_polygons)
    starts = counts.cumsum() - counts
    n_each = counts[of_parts]
    new_polygon_of = np.repeat(np.arange(len(of_parts)), n_each)
    offsets = np.arange(n_each.sum()) - np.repeat(n_each.cumsum() - n_each, n_each)
    return unit[np.repeat(starts[of_parts], n_each) + offsets], new_polygon_of
