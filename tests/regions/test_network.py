"""Maps and codes of piecewise-affine networks, against autograd and the modules themselves."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from splinellm.errors import ConfigurationError, UnsupportedArchitectureError, VerificationError
from splinellm.regions import PiecewiseAffine, effective_rank, local_scaling
from tests.regions.networks import NETWORKS, network, points


@pytest.mark.parametrize("name", NETWORKS)
def test_affine_map_is_autograd_s(name: str) -> None:
    module, shape = network(name)
    net = PiecewiseAffine.of(module)
    x = points(shape, 5)
    A, b = net.affine_map(x)

    def flat(point: Tensor) -> Tensor:
        found: Tensor = module(point[None])[0].flatten()
        return found

    expected = torch.stack([torch.autograd.functional.jacobian(flat, p).flatten(1) for p in x])
    torch.testing.assert_close(A, expected, rtol=0, atol=1e-12)
    values = torch.stack([flat(p) for p in x])
    torch.testing.assert_close((A @ x.flatten(1)[..., None])[..., 0] + b, values, rtol=0, atol=1e-9)
    torch.testing.assert_close(net(x).flatten(1), values, rtol=0, atol=1e-12)
    assert torch.equal(net.jacobian(x[0]), A[0])
    if net.sign_code(x[0]).numel():
        assert len({code.tobytes() for code in net.sign_code(x).numpy()}) > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_one_map_holds_at_a_thousand_points_of_its_region(name: str) -> None:
    module, shape = network(name)
    net = PiecewiseAffine.of(module)
    centre = points(shape, 1, seed=3)[0]
    A, b = net.affine_map(centre)
    radius, found = 1.0, torch.empty(0, *shape, dtype=torch.float64)
    while len(found) < 1000:  # nearer and nearer, until enough are in the same region
        near = centre + radius * points(shape, 2000, seed=4)
        found = near[(net.sign_code(near) == net.sign_code(centre)).all(dim=1)]
        radius /= 2
    gap = module(found).flatten(1) - (found.flatten(1) @ A.T + b)
    assert gap.abs().max() < 1e-9


def test_code_is_the_sign_of_each_pre_activation_in_order() -> None:
    module, shape = network("mlp")
    x = points(shape, 50)
    first = module[0](x)
    second = module[2](torch.relu(first))
    expected = torch.cat([first > 0, second > 0], dim=1)
    code = PiecewiseAffine.of(module).sign_code(x)
    assert code.dtype == torch.int8
    assert torch.equal(code > 0, expected)


def test_code_of_a_pooling_window_is_the_place_of_its_largest_entry() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.MaxPool2d(2)).double()
    nn.init.ones_(module[0].weight)
    image = torch.tensor([[0.0, 1, 5, 4], [3, 2, 4, 5]], dtype=torch.float64)[None]
    net = PiecewiseAffine.of(module)
    assert net.sign_code(image).tolist() == [2, 0]  # of equal ones the first
    A, b = net.affine_map(image)
    assert A.nonzero().tolist() == [[0, 4], [1, 2]]
    assert b.tolist() == [0.0, 0.0]


def test_at_a_boundary_the_negative_side_counts() -> None:
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU()).double()
    net = PiecewiseAffine.of(module)
    assert net.sign_code([0.0]).tolist() == [0]
    assert net.affine_map(np.zeros(1))[0].tolist() == [[0.0]]


def test_what_is_given_as_an_array_is_answered_with_arrays() -> None:
    module, shape = network("mlp")
    net = PiecewiseAffine.of(module)
    x = points(shape, 3)
    for mine, theirs in zip(net.affine_map(x.numpy()), net.affine_map(x), strict=True):
        assert isinstance(mine, np.ndarray)
        np.testing.assert_array_equal(mine, theirs.numpy())
    assert isinstance(net.sign_code(x.numpy()), np.ndarray)
    A, b = net.map_of(net.sign_code(x[0]))
    assert torch.equal(A, net.affine_map(x[0])[0])
    assert torch.equal(b, net.affine_map(x[0])[1])
    with pytest.raises(ConfigurationError, match="code of 3 units"):
        net.map_of(np.zeros(3, np.int8))


def test_float32_weights_are_taken_as_they_are_and_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    before = [weight.clone() for weight in module.parameters()]
    net = PiecewiseAffine.of(module)
    x = points((3,), 4)
    torch.testing.assert_close(net(x), module.double()(x), rtol=0, atol=1e-12)
    fresh = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    PiecewiseAffine.of(fresh)
    assert all(it.dtype == torch.float32 and it.requires_grad for it in fresh.parameters())
    assert len(before) == 2


def test_it_can_be_pickled_once_read() -> None:
    module, shape = network("residual")
    net = PiecewiseAffine.of(module)
    x = points(shape, 2)
    assert torch.equal(pickle.loads(pickle.dumps(net)).sign_code(x), net.sign_code(x))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class OwnWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x) + x  # the x that is added was changed


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.relu(x)


class Mirrored(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (1, 1), mode="reflect")


def hooked() -> nn.Module:
    linear = nn.Linear(3, 3)
    linear.register_forward_hook(lambda _module, _args, output: output.tanh())
    return linear


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), r"layer '1' \(GELU\)"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Softmax(-1)), "Softmax"),
        (nn.SiLU(), "SiLU"),
        (nn.LayerNorm(3), "LayerNorm"),
        (nn.MultiheadAttention(4, 1), "MultiheadAttention"),
        (nn.BatchNorm1d(3), "training mode"),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), "running statistics"),
        (nn.Dropout(0.1), "training mode"),
        (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode"),
        (nn.Flatten(2), "from 2"),
        (Branching(), "Branching cannot be read"),
        (OwnWeight(), "the tensor 'weight'"),
        (InPlace(), "in place"),
        (Product(), "the call 'mul'"),
        (Mirrored(), "the call 'pad'"),
        (hooked(), "hooks"),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, nn.Module) else "",
)
def test_what_is_not_piecewise_affine_is_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=message):
        PiecewiseAffine.of(module)


class Swapped(nn.Sequential):
    """Computes something else than what its graph was traced for."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) + 1


def test_a_module_that_computes_something_else_is_found_out() -> None:
    net = PiecewiseAffine.of(Swapped(nn.Linear(2, 2), nn.ReLU()))
    with pytest.raises(VerificationError, match="does not compute"):
        net.sign_code(torch.zeros(2))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("mlp", torch.zeros(4), r"shape \(5,\)"),
        ("mlp", torch.zeros(2, 2, 5), "do not fit"),
        ("mlp", torch.tensor(1.0), "do not fit"),
        ("mlp", [float("nan")] * 5, "not finite"),
        ("mlp", "text", "a str is no point"),
        ("cnn", torch.zeros(6, 6), "do not fit"),
        ("cnn", torch.zeros(2, 6, 6), "do not fit"),
        ("mlp", np.zeros(4) + 1j, "a ndarray is no point"),
        ("flat", torch.zeros(7), "6 numbers"),
    ],
)
def test_what_is_no_point_is_refused(name: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PiecewiseAffine.of(network(name)[0]).affine_map(given)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.MaxPool1d(2), r"max pooling of 1 dimensions does not fit points of shape \(4,\)"),
        (nn.ConstantPad2d(1, 0.0), r"padding of 2 dimensions does not fit points of shape \(4,\)"),
    ],
)
def test_what_would_mix_points_is_refused(part: nn.Module, message: str) -> None:
    net = PiecewiseAffine.of(nn.Sequential(nn.Linear(3, 4), part))
    with pytest.raises(ConfigurationError, match=message):
        net.affine_map(torch.ones(2, 3))


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a str is no PyTorch module"):
        PiecewiseAffine.of("model")  # type: ignore[arg-type]
    broken = nn.Linear(2, 2)
    broken.weight.data.fill_(torch.nan)
    with pytest.raises(ConfigurationError, match="'weight' are not finite"):
        PiecewiseAffine.of(broken)


def test_scaling_and_rank_by_hand() -> None:
    matrix = np.diag([4.0, 2.0, 0.0])
    assert local_scaling(matrix) == pytest.approx(np.log(8))
    assert local_scaling(matrix, tolerance=3.0) == pytest.approx(np.log(4))
    third = 1 / 3
    assert effective_rank(matrix) == pytest.approx(
        np.exp(-third * np.log(third) - 2 * third * np.log(2 * third))
    )
    assert effective_rank(np.eye(7)[:5]) == pytest.approx(5.0)
    assert local_scaling(np.zeros((2, 3))) == effective_rank(np.zeros((2, 3))) == 0.0


@pytest.mark.parametrize(
    "matrix", [np.ones(3), np.array([[1.0, np.nan]]), np.ones((2, 2, 2))], ids=["1d", "nan", "3d"]
)
def test_what_has_no_spectrum_is_refused(matrix: np.ndarray) -> None:
    for function in (local_scaling, effective_rank):
        with pytest.raises(ConfigurationError, match="one matrix"):
            function(matrix)


@pytest.mark.parametrize("shape", [3, "ab", (2.5,), (-2,)], ids=repr)
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    with pytest.raises(ConfigurationError, match="input_shape"):
        PiecewiseAffine.of(nn.Linear(2, 2), input_shape=shape)


def test_no_points_have_no_codes_and_no_complexity() -> None:
    net = PiecewiseAffine.of(network("mlp")[0])
    size = len(net.sign_code(points(network("mlp")[1], 1))[0])
    nothing = points(network("mlp")[1], 1)[:0]
    assert net.sign_code(nothing).shape == (0, size)
    assert net.local_complexity(nothing, 0.1).tolist() == []
