"""Counts and times of exact enumeration: against formulas, brute force, planes and sampling.

Usage: python benchmarks/regions.py [--largest 12]
The figures of docs/regions.md are made by it. Every count is checked; a wrong one ends the program.
Times are the processor's, so that what else runs matters little; OMP_NUM_THREADS=1 goes with it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import torch
from scipy.optimize import linprog
from torch import nn

from splinellm.regions import PiecewiseAffine

BRUTE_FORCE = 7


def layer(n_planes: int, n_dims: int) -> tuple[np.ndarray, np.ndarray, float, PiecewiseAffine]:
    """Hyperplanes in general position, a box around all places where they meet, their network.

    Of 300 drawings the one that needs the smallest box: regions that are tiny beside the domain
    count as parts of their neighbours.
    """
    rng = np.random.default_rng(100 * n_planes + n_dims)
    meeting = np.array([*combinations(range(n_planes), n_dims)]).reshape(-1, n_dims)
    drawn = []
    for _ in range(300):
        rows, bias = rng.standard_normal((n_planes, n_dims)), rng.standard_normal(n_planes)
        places = np.linalg.solve(rows[meeting], -bias[meeting][..., None]) if meeting.size else 0.0
        drawn.append((float(np.abs(places).max(initial=1.0)), rows, bias))
    reach, rows, bias = min(drawn, key=lambda one: one[0])
    linear = nn.Linear(n_dims, n_planes).double()
    linear.weight.data, linear.bias.data = torch.from_numpy(rows), torch.from_numpy(bias)
    return rows, bias, 1.1 * reach, PiecewiseAffine.of(nn.Sequential(linear, nn.ReLU()))


def possible_codes(rows: np.ndarray, bias: np.ndarray, wide: float) -> set[bytes]:
    """Every one of 2^K codes, asked by a linear programme of its own."""
    found = set()
    n_dims = rows.shape[1]
    for code in product((0, 1), repeat=len(rows)):
        side = 1.0 - 2.0 * np.array(code)  # side * h + r |w| <= 0: a ball of radius r fits
        balls = np.column_stack([side[:, None] * rows, np.linalg.norm(rows, axis=1)])
        bounds = [(-wide, wide)] * n_dims + [(None, 1.0)]
        best = linprog([0.0] * n_dims + [-1.0], A_ub=balls, b_ub=-side * bias, bounds=bounds)
        if best.status == 0 and best.x[-1] > 1e-9:
            found.add(np.array(code, np.int8).tobytes())
    return found


def count_one_layer(largest: int) -> Iterator[str]:
    """One layer of K hyperplanes in D dimensions: sum over i <= D of C(K, i)."""
    yield "| hyperplanes | inputs | regions | formula | brute force | met by 100,000 points | s |"
    yield "|---|---|---|---|---|---|---|"
    for n_dims in range(1, 5):
        for n_planes in range(1, largest + 1):
            rows, bias, wide, net = layer(n_planes, n_dims)
            start = time.process_time()
            codes = {region.code.tobytes() for region in net.enumerate_regions((-wide, wide))}
            seconds = time.process_time() - start
            expected = sum(math.comb(n_planes, i) for i in range(n_dims + 1))
            brute = ""
            if n_planes <= BRUTE_FORCE:
                possible = possible_codes(rows, bias, wide)
                if possible != codes:
                    raise SystemExit(f"{n_planes} in {n_dims}: brute force finds others")
                brute = str(len(possible))
            points = np.random.default_rng(0).uniform(-wide, wide, (100_000, n_dims))
            met = {code.tobytes() for code in net.sign_code(points)}
            if not met <= codes or len(codes) != expected:
                raise SystemExit(f"{n_planes} in {n_dims}: {len(codes)} regions, not {expected}")
            shown = [n_planes, n_dims, len(codes), expected, brute, len(met), f"{seconds:.2f}"]
            yield f"| {' | '.join(map(str, shown))} |"


def two_layers(n_dims: int, width: int) -> PiecewiseAffine:
    torch.manual_seed(0)
    sizes = (nn.Linear(n_dims, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return PiecewiseAffine.of(nn.Sequential(*sizes))


def compare_with_planes() -> Iterator[str]:
    """Two layers of two inputs: region by region the polygons of the plane."""
    yield "| units a layer | regions | polygons | largest difference of areas | ms a region |"
    yield "|---|---|---|---|---|"
    for width in (4, 6, 8, 10):
        net = two_layers(2, width)
        start = time.process_time()
        regions = {it.code.tobytes(): it.volume or 0.0 for it in net.enumerate_regions((-3, 3))}
        seconds = time.process_time() - start
        partition = net.slice_partition(np.zeros(2), *np.eye(2), 3.0)
        areas = {polygon.code.tobytes(): polygon.area for polygon in partition}
        if areas.keys() != regions.keys():
            raise SystemExit(f"{width} units: the polygons are others than the regions")
        gap = max(abs(areas[code] - regions[code]) for code in areas)
        milliseconds = 1e3 * seconds / len(regions)
        yield f"| {width} | {len(regions)} | {len(areas)} | {gap:.0e} | {milliseconds:.1f} |"


def compare_with_sampling() -> Iterator[str]:
    """The share of the regions that uniform samples meet, by input dimension."""
    yield "| inputs | regions | ms a region | of 1,000 points | of 10,000 | of 100,000 |"
    yield "|---|---|---|---|---|---|"
    for n_dims in (2, 3, 4, 6, 8):
        net = two_layers(n_dims, 6)
        start = time.process_time()
        codes = {region.code.tobytes() for region in net.enumerate_regions((-1, 1))}
        milliseconds = 1e3 * (time.process_time() - start) / len(codes)
        shares = []
        for n_points in (1_000, 10_000, 100_000):
            points = np.random.default_rng(0).uniform(-1, 1, (n_points, n_dims))
            met = {code.tobytes() for code in net.sign_code(points)}
            if not met <= codes:
                raise SystemExit(f"{n_dims} inputs: samples meet a region that was not found")
            shares.append(f"{len(met) / len(codes):.2f}")
        yield f"| {n_dims} | {len(codes)} | {milliseconds:.1f} | {' | '.join(shares)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=12, help="hyperplanes of a layer")
    arguments = parser.parse_args()
    for table in (
        count_one_layer(arguments.largest),
        compare_with_planes(),
        compare_with_sampling(),
    ):
        for line in table:
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
