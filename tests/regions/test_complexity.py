"""Local complexity: in closed form against linear programmes, sampled against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from splinellm.errors import ConfigurationError
from splinellm.regions import PiecewiseAffine, hyperplanes_met, orthonormal_directions
from tests.regions.networks import network, points
from tests.regions.test_enumeration import one_layer


def layer() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows (30, 4), biases and 6 points."""
    drawn = points((5,), 30, seed=1)
    return drawn[:, :4], 0.3 * drawn[:, 4], points((4,), 6, seed=2)


def test_by_hand() -> None:
    rows = torch.tensor([[3.0, 4], [0, 2], [0, 0]])
    bias = torch.tensor([5.0, 0, 0])
    x = torch.tensor([[0.0, 0.0], [0, 1]])  # distances 1 and 0, 1.8 and 1
    at_101, at_1 = (hyperplanes_met(rows, bias, x, radius).tolist() for radius in (1.01, 1.0))
    assert at_101 == [[True, True, False], [False, True, False]]
    assert at_1 == [[False, True, False], [False] * 3]
    # Along the axes the first plane is 5 / 4 away from the origin.
    for radius, met in ((1.24, False), (1.26, True)):
        assert hyperplanes_met(rows, bias, x[0], radius, torch.eye(2))[0].item() is met


@pytest.mark.parametrize("radius", [0.1, 0.4])
def test_a_cross_polytope_is_met_where_a_linear_programme_reaches_the_plane(radius: float) -> None:
    rows, bias, x = layer()
    directions = orthonormal_directions(4, 3, seed=0)
    found = hyperplanes_met(rows, bias, x, radius, directions)
    for n, k in np.ndindex(len(x), len(rows)):
        vertices = torch.cat([x[n] + radius * directions, x[n] - radius * directions])
        h = (vertices @ rows[k] + bias[k]).numpy()
        # Some mean of the vertices with h = 0.
        programme = linprog(np.zeros(6), A_eq=np.stack([h, np.ones(6)]), b_eq=[0, 1])
        assert found[n, k].item() is (programme.status == 0)
    assert 0 < found.double().mean() < 1


def test_a_ball_is_met_where_the_nearest_point_of_the_plane_is_inside() -> None:
    rows, bias, x = layer()
    found = hyperplanes_met(rows, bias, x, 0.4)
    for n, k in np.ndindex(len(x), len(rows)):
        step = np.linalg.lstsq(rows[k : k + 1].numpy(), [-float(rows[k] @ x[n] + bias[k])])[0]
        assert found[n, k].item() is bool(np.linalg.norm(step) < 0.4)
    assert 0 < found.double().mean() < 1


def test_the_sampled_one_of_one_layer_is_the_exact_one_and_grows_with_its_directions() -> None:
    rows, bias, x = layer()
    net = one_layer(rows.tolist(), bias.tolist())
    counts = []
    for n in (1, 2, 4):
        found = net.local_complexity(x, 0.3, n, seed=7)
        exact = hyperplanes_met(rows, bias, x, 0.3, orthonormal_directions(4, n, 7)).sum(dim=1)
        assert torch.equal(found, exact)
        counts.append(int(found.sum()))
    ball = int(hyperplanes_met(rows, bias, x, 0.3).sum())
    assert counts[0] < counts[1] < counts[2] < ball
    assert torch.equal(net.local_complexity(x, 0.3), net.local_complexity(x, 0.3, 4, 0))


def test_of_a_whole_network_by_plain_loops() -> None:
    module, _ = network("mlp")
    x = points((5,), 8, seed=3)
    radius, directions = 0.3, orthonormal_directions(5, 3, seed=1)
    expected = []
    for point in x:
        seen: list[list[bool]] = []
        for v in directions:
            for sign in (1, -1):
                first = module[0](point + sign * radius * v)
                second = module[2](first.clamp(min=0))
                seen.append([*(first > 0).tolist(), *(second > 0).tolist()])
        expected.append(sum(len(set(unit)) > 1 for unit in zip(*seen, strict=True)))
    net = PiecewiseAffine.of(module)
    assert net.local_complexity(x, radius, 3, seed=1).tolist() == expected
    assert int(net.local_complexity(x[0].numpy(), radius, 3, seed=1)) == expected[0]
    assert len(set(expected)) > 2


def test_directions_are_orthonormal_and_the_same_again() -> None:
    found = orthonormal_directions(7, 5, seed=3)
    torch.testing.assert_close(found @ found.T, torch.eye(5).double(), rtol=0, atol=1e-12)
    assert torch.equal(found, orthonormal_directions(7, 5, seed=3))
    torch.testing.assert_close(found[:2], orthonormal_directions(7, 2, seed=3))
    assert not torch.equal(found, orthonormal_directions(7, 5, seed=4))


@pytest.mark.parametrize("radius", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_what_is_no_radius_is_refused(radius: Any) -> None:
    rows, bias, x = layer()
    with pytest.raises(ConfigurationError, match="radius"):
        hyperplanes_met(rows, bias, x, radius)
    with pytest.raises(ConfigurationError, match="radius"):
        one_layer(rows.tolist(), bias.tolist()).local_complexity(x, radius)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_directions": 1.5}, "n_directions is of type float"),
        ({"n_directions": True}, "n_directions is of type bool"),
        ({"seed": None}, "seed is None"),
        ({"seed": 0.5}, "seed is of type float"),
        ({"seed": 2**64}, "seed is 18446744073709551616; it must be below"),
    ],
)
def test_what_is_no_number_is_refused(options: dict[str, Any], message: str) -> None:
    rows, bias, x = layer()
    with pytest.raises(ConfigurationError, match=message):
        one_layer(rows.tolist(), bias.tolist()).local_complexity(x, 1.0, **options)


def test_numbers_of_numpy_are_read() -> None:
    rows, bias, x = layer()
    net = one_layer(rows.tolist(), bias.tolist())
    found = net.local_complexity(x, np.float32(0.5), np.int64(3), np.int64(7))
    assert torch.equal(found, net.local_complexity(x, 0.5, 3, 7))


def test_sizes_that_do_not_match_are_refused() -> None:
    rows, bias, x = layer()
    with pytest.raises(ConfigurationError, match="x has 3 numbers, a hyperplane 4"):
        hyperplanes_met(rows, bias, x[:, :3], 1.0)
    with pytest.raises(ConfigurationError, match="directions has 2 numbers"):
        hyperplanes_met(rows, bias, x, 1.0, torch.eye(2))
    for n in (0, 5):
        with pytest.raises(ConfigurationError, match=f"{n} orthonormal directions"):
            one_layer(rows.tolist(), bias.tolist()).local_complexity(x, 1.0, n)
