"""All regions of a domain, against counts that are known, brute force, planes and sampling."""

from __future__ import annotations

import copy
import math
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from splinellm.errors import ConfigurationError, RegionLimitError
from splinellm.regions import PiecewiseAffine, Region
from tests.regions.networks import network


def relu_net(sizes: list[int], seed: int = 0) -> nn.Sequential:
    """Linear layers with ReLU between them, float64."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def one_layer(rows: Any, bias: Any) -> PiecewiseAffine:
    """ReLU of given hyperplanes."""
    linear = nn.Linear(len(rows[0]), len(rows)).double()
    linear.weight.data = torch.tensor(rows, dtype=torch.float64)
    linear.bias.data = torch.tensor(bias, dtype=torch.float64)
    return PiecewiseAffine.of(nn.Sequential(linear, nn.ReLU()))


def codes_of(regions: list[Region]) -> set[bytes]:
    """Their codes, of which none may come twice."""
    found = {region.code.tobytes() for region in regions}
    assert len(found) == len(regions)
    return found


@pytest.mark.parametrize(("n_planes", "n_dims"), [(5, 1), (12, 2), (7, 3), (6, 4)])
def test_generic_hyperplanes_leave_the_known_number_of_regions(n_planes: int, n_dims: int) -> None:
    rng = np.random.default_rng(n_planes)
    net = one_layer(rng.standard_normal((n_planes, n_dims)), rng.standard_normal(n_planes))
    regions = list(net.enumerate_regions((-1e3, 1e3)))
    assert len(codes_of(regions)) == sum(math.comb(n_planes, i) for i in range(n_dims + 1))


def test_every_code_of_a_small_network_that_is_possible_is_found_and_no_other() -> None:
    net_module = relu_net([3, 3, 3, 1], seed=2)
    weights = [part.weight.detach().numpy() for part in net_module[::2]]  # type: ignore[union-attr]
    biases = [part.bias.detach().numpy() for part in net_module[::2]]  # type: ignore[union-attr]
    expected = {}
    for code in product((0, 1), repeat=6):
        A, b = np.eye(3), np.zeros(3)
        rows, bounds = [np.eye(3), -np.eye(3)], [np.full(6, 2.0)]
        for signs, weight, bias in zip((code[:3], code[3:]), weights, biases, strict=False):
            A, b = weight @ A, weight @ b + bias
            side = 1.0 - 2.0 * np.array(signs)  # side * h <= 0
            rows.append(side[:, None] * A)
            bounds.append(-side * b)
            A, b = np.array(signs)[:, None] * A, np.array(signs) * b
        C, c = np.concatenate(rows), np.concatenate(bounds)
        lengths = np.linalg.norm(C, axis=1)
        lifted = np.column_stack([C, lengths])  # a ball of radius r fits: C z + r ||C|| <= c
        found = linprog([0, 0, 0, -1], A_ub=lifted, b_ub=c, bounds=[(None, None)] * 3 + [(0, 9)])
        if found.status == 0 and found.x[3] > 1e-7:
            expected[np.array(code, np.int8).tobytes()] = found.x[3], (weights[2] @ A)
    regions = list(PiecewiseAffine.of(net_module).enumerate_regions((-2, 2)))
    assert 8 < len(expected) < 64
    assert codes_of(regions) == set(expected)
    for region in regions:
        radius, A = expected[region.code.tobytes()]
        np.testing.assert_allclose(region.A, A, atol=1e-12)
        assert region.radius == pytest.approx(radius, abs=1e-7)


@pytest.mark.parametrize("seed", [0, 1])
def test_in_a_plane_they_are_the_polygons_of_the_slice(seed: int) -> None:
    net = PiecewiseAffine.of(relu_net([2, 6, 5, 2], seed))
    regions = list(net.enumerate_regions((-2, 2)))
    polygons = net.slice_partition(np.zeros(2), np.array([1.0, 0]), np.array([0, 1.0]), 2.0)
    areas = {polygon.code.tobytes(): polygon for polygon in polygons}
    assert len(polygons) > 20
    assert codes_of(regions) == set(areas)
    for region in regions:
        polygon = areas[region.code.tobytes()]
        assert region.volume == pytest.approx(polygon.area, abs=1e-8)
        A, b = polygon.affine_map()
        np.testing.assert_allclose(region.A, A, atol=1e-12)
        np.testing.assert_allclose(region.b, b, atol=1e-12)
        assert len(region.facets) == len(polygon.polygon)


def test_maps_volumes_and_facets_in_three_dimensions() -> None:
    module = relu_net([3, 4, 3, 2], seed=5)
    net = PiecewiseAffine.of(module)
    low, high = np.array([-1.0, -2, -1]), np.array([1.0, 1, 2])
    regions = list(net.enumerate_regions((low, high)))
    assert sum(region.volume or 0 for region in regions) == pytest.approx(18, abs=1e-7)
    rng = np.random.default_rng(0)
    drawn = rng.uniform(low, high, (20_000, 3))
    codes, counts = np.unique(net.sign_code(drawn), axis=0, return_counts=True)
    shares = {code.tobytes(): n / 20_000 for code, n in zip(codes, counts, strict=True)}
    assert set(shares) <= codes_of(regions)
    for region in regions:
        assert region.volume is not None
        assert shares.get(region.code.tobytes(), 0.0) == pytest.approx(
            region.volume / 18, abs=0.015
        )
        np.testing.assert_array_equal(net.sign_code(region.point), region.code)
        value = module(torch.from_numpy(region.point)[None])[0].detach().numpy()
        np.testing.assert_allclose(region.A @ region.point + region.b, value, atol=1e-10)
        step = 0.9 * region.radius * rng.standard_normal((50, 3))
        near = region.point + step / np.maximum(1, np.linalg.norm(step, axis=1))[:, None]
        inside = (near @ region.facets.rows.T <= region.facets.bounds).all(axis=1)
        same = (net.sign_code(near) == region.code).all(axis=1)
        in_box = ((near > low) & (near < high)).all(axis=1)
        np.testing.assert_array_equal(inside, same & in_box)


def test_behind_a_facet_its_unit_alone_changes() -> None:
    net = PiecewiseAffine.of(relu_net([2, 4, 3, 1], seed=1))
    seen = 0
    for region in net.enumerate_regions((-2, 2)):
        facets = region.facets
        for index, label in enumerate(facets.labels):
            if label < 0:
                assert facets.bounds[index] == 2
                continue
            # Middle of the facet, from what the others leave of its line.
            row, bound = facets.rows[index], facets.bounds[index]
            along = np.array([-row[1], row[0]])
            foot = bound * row
            others = np.arange(len(facets)) != index
            speed = facets.rows[others] @ along
            at = (facets.bounds[others] - facets.rows[others] @ foot) / speed
            middle = foot + along * (at[speed > 0].min() + at[speed < 0].max()) / 2
            if at[speed > 0].min() - at[speed < 0].max() < 1e-3:
                continue
            changed = net.sign_code(middle + 1e-6 * row) != region.code
            assert changed.nonzero()[0].tolist() == [label]
            seen += 1
    assert seen > 20


def test_windows_with_padding_and_equal_entries_give_each_region_once() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv1d(1, 2, 2), nn.MaxPool1d(3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
    ).double()
    net = PiecewiseAffine.of(module, input_shape=(1, 4))
    regions = list(net.enumerate_regions((-1, 1)))
    codes_of(regions)
    assert sum(region.volume or 0 for region in regions) == pytest.approx(16, abs=1e-6)
    drawn = np.random.default_rng(0).uniform(-1, 1, (5000, 1, 4))
    sampled = {code.tobytes() for code in net.sign_code(drawn)}
    assert sampled <= codes_of(regions)
    for region in regions:
        np.testing.assert_array_equal(net.sign_code(region.point.reshape(1, 4)), region.code)


def test_contenders_that_differ_by_a_constant_share_no_region() -> None:
    # A kernel that sees nothing of its input: all entries of the window are b, or padded ones c.
    module = nn.Sequential(
        *(nn.Conv1d(1, 1, 1), nn.ConstantPad1d(1, -9.0), nn.MaxPool1d(4), nn.Flatten()),
    ).double()
    module[0].weight.data.fill_(1.0)  # type: ignore[union-attr]
    module[0].bias.data.zero_()  # type: ignore[union-attr]
    net = PiecewiseAffine.of(module, input_shape=(1, 2))  # the largest of -9, x, y, -9
    found = {region.code.item(): region.volume for region in net.enumerate_regions((-1, 1))}
    assert found == {1: pytest.approx(2), 2: pytest.approx(2)}
    equal = nn.Sequential(nn.ConstantPad1d(1, 0.0), nn.MaxPool1d(3), nn.Flatten()).double()
    regions = list(PiecewiseAffine.of(equal, input_shape=(1, 1)).enumerate_regions((-1, 1)))
    assert sorted(region.code.item() for region in regions) == [0, 1]  # of 0, x, 0


def test_degenerate_arrangements() -> None:
    rows = [[1.0, 0], [1, 0], [-2, 0], [1, 0], [0, 0], [0, 0]]
    bias = [0.0, 0, 0, -0.5, 1, -1]  # the same thrice, one parallel, and two that are no lines
    regions = list(one_layer(rows, bias).enumerate_regions((-1, 1)))
    found = {tuple(region.code.tolist()): region.volume for region in regions}
    assert found == {
        (0, 0, 1, 0, 1, 0): pytest.approx(2),
        (1, 1, 0, 0, 1, 0): pytest.approx(1),
        (1, 1, 0, 1, 1, 0): pytest.approx(1),
    }
    # Three lines through one point: six regions, not seven.
    star = one_layer([[1.0, 0], [0, 1], [1, 1]], [0.0, 0, 0])
    assert len(list(star.enumerate_regions((-1, 1)))) == 6


def test_a_polytope_instead_of_a_box() -> None:
    net = one_layer([[1.0, -1]], [0.0])
    triangle = np.array([[-1.0, 0], [0, -3], [1, 1]]), np.array([0.0, 0, 1])
    regions = list(net.enumerate_regions(constraints=triangle))
    assert [region.volume for region in regions] == [pytest.approx(0.25)] * 2
    assert {len(region.facets) for region in regions} == {3}


def test_in_one_dimension_and_in_many() -> None:
    net = one_layer([[1.0], [2.0]], [-0.5, 0.5])
    volumes = sorted(region.volume or 0 for region in net.enumerate_regions((-1, 1)))
    assert volumes == [pytest.approx(0.5), pytest.approx(0.75), pytest.approx(0.75)]
    many = one_layer(np.eye(5)[:2], [0.0, 0.0])
    regions = list(many.enumerate_regions((-1, 1)))
    assert [region.volume for region in regions] == [None] * 4
    assert sum(len(region.facets) for region in regions) == 4 * 10
    (whole,) = PiecewiseAffine.of(network("linear")[0]).enumerate_regions((0, 2))
    assert whole.volume == pytest.approx(8)


def test_two_processes_find_the_same() -> None:
    net = PiecewiseAffine.of(relu_net([2, 5, 4, 1], seed=3))
    alone, shared = (list(net.enumerate_regions((-2, 2), n_jobs=n)) for n in (1, 2))
    assert codes_of(alone) == codes_of(shared)


def test_a_limit_is_never_taken_for_all() -> None:
    net = one_layer(np.eye(3), [0.0] * 3)  # 8 regions
    assert len(list(net.enumerate_regions((-1, 1), limit=8))) == 8
    regions = net.enumerate_regions((-1, 1), limit=7)
    given = [next(regions) for _ in range(7)]
    assert len(codes_of(given)) == 7
    with pytest.raises(RegionLimitError, match="more than 7 regions") as caught:
        next(regions)
    assert caught.value.code == "region_limit"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of them was not given"),
        ({"box": (-1, 1), "constraints": (np.eye(2), np.ones(2))}, "both were given"),
        ({"box": (1, 1)}, "empty, flat or unbounded"),
        ({"box": (0, np.inf)}, "empty, flat or unbounded"),
        ({"box": (np.zeros(3), np.ones(3))}, "2 inputs"),
        ({"box": 3}, "does not fit"),
        ({"constraints": (np.eye(2), np.ones(2))}, "unbounded"),
        ({"constraints": (np.eye(3), np.ones(3))}, "2 inputs"),
        ({"constraints": (np.zeros((1, 2)), np.array([-1.0]))}, "leave nothing"),
        ({"constraints": ([[1.0, 0], [-1, 0], [0, 1], [0, -1]], [0, -1, 1, 1])}, "leave nothing"),
        ({"constraints": ([[1.0, 0], [-1, 0], [0, 1], [0, -1]], [0, 0, 1, 1])}, "flat"),
        ({"constraints": ([[np.nan, 0]], [0])}, "not finite"),
        ({"box": ([-1, -1], [1, 1e9])}, "the domain is flat"),
        ({"box": (-1e300, 1e300)}, "the domain is 2e.300 wide"),
        ({"box": (-1e-300, 1e-300)}, "the domain is 2e-300 wide"),
        ({"box": (1e3, 1e3 + 1e-6)}, "cannot tell its points apart"),
        ({"box": (-1, 1), "limit": 0}, "limit is 0"),
        ({"box": (-1, 1), "limit": 1.5}, "limit is of type float"),
        ({"box": (-1, 1), "limit": None}, "limit is None"),
        ({"box": (-1, 1), "n_jobs": "two"}, "n_jobs is of type str"),
        ({"box": (-1, 1), "n_jobs": 0}, "n_jobs is 0"),
    ],
)
def test_what_is_no_domain_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        one_layer([[1.0, 1]], [0.0]).enumerate_regions(**options)


@pytest.mark.parametrize("scale", [1e-40, 1e-10, 1e-3, 1e9, 1e40])
@pytest.mark.parametrize("place", [0.0, 1e3])
def test_regions_are_the_same_at_any_scale_and_place(scale: float, place: float) -> None:
    module = relu_net([2, 5, 4, 1], seed=3)
    expected = {
        region.code.tobytes(): region
        for region in PiecewiseAffine.of(module).enumerate_regions((-1, 1))
    }
    assert len(expected) > 8
    moved: Any = copy.deepcopy(module)  # of (z - scale place) / scale
    moved[0].bias.data -= moved[0].weight.data @ torch.full((2,), place).double()
    moved[0].weight.data /= scale
    net = PiecewiseAffine.of(moved)
    regions = list(net.enumerate_regions(((place - 1) * scale, (place + 1) * scale)))
    assert codes_of(regions) == expected.keys()
    for region in regions:
        other = expected[region.code.tobytes()]
        assert region.volume is not None
        assert other.volume is not None
        assert region.volume / scale**2 == pytest.approx(other.volume, rel=1e-6)
        assert region.radius / scale == pytest.approx(other.radius, rel=1e-6)
        assert (region.facets.rows @ region.point < region.facets.bounds).all()
        assert len(region.facets) == len(other.facets)
        np.testing.assert_allclose(region.A * scale, other.A, atol=1e-9)
        np.testing.assert_allclose(region.A @ region.point + region.b, net(region.point), atol=1e-9)


def test_a_convolution_has_to_be_told_its_shape() -> None:
    with pytest.raises(ConfigurationError, match="not known") as caught:
        PiecewiseAffine.of(network("cnn")[0]).enumerate_regions((-1, 1))
    assert "input_shape" in str(caught.value.hint)
