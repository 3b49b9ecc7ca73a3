"""Partitions of planes, against grids, counts by hand and the networks themselves."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from splinellm.errors import ConfigurationError
from splinellm.regions import PiecewiseAffine, SlicePartition
from tests.regions.networks import NETWORKS, network, points
from tests.regions.test_enumeration import one_layer


def slice_of(name: str, extent: Any = 1.5) -> tuple[nn.Module, PiecewiseAffine, SlicePartition]:
    """A network and a plane through it."""
    module, shape = network(name, seed=1)
    net = PiecewiseAffine.of(module, input_shape=shape)
    return module, net, net.slice_partition(*points(shape, 3, seed=2).numpy(), extent)


def is_inside(polygon: np.ndarray, st: np.ndarray) -> np.ndarray:
    """Which of (s, t), (N, 2), are in a convex polygon."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    to = st[:, None] - polygon
    return np.asarray((edges[:, 0] * to[..., 1] - edges[:, 1] * to[..., 0] > 0).all(axis=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_polygons_tile_the_window_and_each_has_one_code_and_map(name: str) -> None:
    module, net, partition = slice_of(name)
    assert (partition.areas > 0).all()
    assert partition.areas.sum() == pytest.approx(9, abs=1e-9)
    interior = np.stack([region.point for region in partition])
    np.testing.assert_array_equal(net.sign_code(interior), partition.codes)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    for region in list(partition)[:60]:
        corners = region.polygon[[0, 1, 2]]
        x = partition.at(weights @ corners)
        A, b = region.affine_map()
        value = module(torch.from_numpy(x)).flatten(1).detach().numpy()
        np.testing.assert_allclose(x.reshape(len(x), -1) @ A.T + b, value, atol=1e-9)


@pytest.mark.parametrize("name", ["mlp", "residual", "cnn", "1d"])
def test_a_grid_finds_the_same_regions(name: str) -> None:
    _, net, partition = slice_of(name)
    side = np.linspace(-1.5, 1.5, 122)[1:-1] + 1e-4
    st = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    codes = np.asarray(net.sign_code(partition.at(st)))
    assert len(partition) > 5
    hits = np.zeros(len(st), int)
    for polygon, code in zip(partition.polygons, partition.codes, strict=True):
        inside = is_inside(polygon, st)
        assert (codes[inside] == code).all()
        hits += inside
    assert (hits == 1).all()  # none of the grid is on an edge
    assert {code.tobytes() for code in codes} <= {code.tobytes() for code in partition.codes}


def test_lines_leave_one_region_more_than_they_and_their_crossings_are() -> None:
    rng = np.random.default_rng(3)
    rows, bias = rng.standard_normal((14, 2)), 0.4 * rng.standard_normal(14)
    window = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]])
    sides = window @ rows.T + bias
    n_lines = int((np.sign(sides).min(axis=0) < np.sign(sides).max(axis=0)).sum())
    crossings = [
        np.linalg.solve(rows[[i, j]], -bias[[i, j]]) for i, j in combinations(range(14), 2)
    ]
    n_crossings = int((np.abs(crossings) < 1).all(axis=1).sum())
    partition = one_layer(rows, bias).slice_partition(np.zeros(2), *np.eye(2), 1.0)
    assert len(partition) == 1 + n_lines + n_crossings
    assert n_crossings > 20


def test_degenerate_lines() -> None:
    rows = [[1.0, 0], [1, 0], [-2, 0], [1, 0], [0, 0], [0, 0], [0, 0]]
    partition = one_layer(rows, [0.0, 0, 0, -0.5, 1, -1, 0]).slice_partition(
        np.zeros(2), *np.eye(2), 1.0
    )
    areas = {tuple(region.code.tolist()): region.area for region in partition}
    assert areas == {
        (0, 0, 1, 0, 1, 0, 0): pytest.approx(2),
        (1, 1, 0, 0, 1, 0, 0): pytest.approx(1),
        (1, 1, 0, 1, 1, 0, 0): pytest.approx(1),
    }
    star = one_layer([[1.0, 0], [0, 1], [1, 1]], [0.0, 0, 0])
    assert len(star.slice_partition(np.zeros(2), *np.eye(2), 1.0)) == 6
    # A plane on which a unit is constant is not cut by it.
    flat = one_layer([[0.0, 0, 1]], [0.5])
    assert len(flat.slice_partition(np.zeros(3), *np.eye(3)[:2])) == 1


def test_window_and_regions_are_what_was_asked_for() -> None:
    partition = one_layer([[1.0, 1]], [-1.0]).slice_partition(
        np.array([1.0, 0]), np.array([2.0, 0]), np.array([0, 1.0]), (0, 1, -1, 2)
    )
    # 1 + 2 s + t > 1, so t > -2 s: of the window's area of 3 a triangle is not.
    areas = {int(region.code[0]): region.area for region in partition}
    assert areas == {0: pytest.approx(0.25), 1: pytest.approx(2.75)}
    assert len(partition[0:2]) == len(partition) == 2
    np.testing.assert_allclose(partition.at(np.array([0.5, 1])), [2, 1])
    np.testing.assert_allclose(partition.where(np.array([[2.0, 1], [1, 0]])), [[0.5, 1], [0, 0]])
    region = partition[0]
    np.testing.assert_allclose(region.point, [1 + 2 * region.centre[0], region.centre[1]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.zeros(3), np.ones(3), -2 * np.ones(3)), "collinear"),
        ((np.zeros(3), np.ones(3), np.zeros(3)), "collinear"),
        ((np.zeros(3), np.ones(3), np.eye(3)[0], 0.0), "no window"),
        ((np.zeros(3), np.ones(3), np.eye(3)[0], (1, 0, 0, 1)), "no window"),
        ((np.zeros(3), np.ones(3), np.eye(3)[0], float("inf")), "no window"),
        ((np.zeros(2), np.ones(2), np.eye(2)[0]), "do not fit"),
        ((np.zeros((2, 3)), np.ones(3), np.eye(3)[0]), "the origin is one point; 2 were given"),
        ((np.zeros(3), np.full(3, np.nan), np.eye(3)[0]), "not finite"),
    ],
)
def test_what_is_no_plane_is_refused(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PiecewiseAffine.of(network("linear")[0]).slice_partition(*given)


def test_one_input_has_no_plane() -> None:
    with pytest.raises(ConfigurationError, match="span no plane"):
        PiecewiseAffine.of(nn.Linear(1, 2)).slice_partition([0.0], [1.0], [2.0])  # type: ignore[arg-type]
