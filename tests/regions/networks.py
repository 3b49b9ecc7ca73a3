"""Small piecewise-affine networks, and points of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block with a sum of three kinds."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(size, size), nn.LeakyReLU(0.1), nn.Linear(size, size))
        self.norm = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(x + self.inner(x))) - 2 * x.abs() + 0.5


class Skips(nn.Module):
    """A small residual CNN."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.last = nn.Linear(3 * 3 * 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
        out = self.second(x)
        out += x
        return self.last(torch.flatten(self.pool(nn.functional.leaky_relu(out, 0.3)), 1))


class Padded(nn.Module):
    """Padding as a function, as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 3), nn.Linear(2 * 4 * 5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(nn.functional.pad(x, (1, 1, 1, 1))))
        x = nn.functional.pad(x, [0, 2], mode="constant", value=0.7) - 0.1
        return self.last(torch.flatten(x, 1).abs())


class PaddedFirst(nn.Module):
    """The first layer reads more numbers than a point has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(nn.functional.pad(x, (1, 1)))))


def _mlp() -> nn.Module:
    layers = (nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3))
    return nn.Sequential(*layers)


def _cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 2, 2), nn.PReLU(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 2)),
    )


def _flat() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6, 8), nn.PReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
    )


def _pooled_1d() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(2, 4, 2), nn.MaxPool1d(2, dilation=2), nn.ConstantPad1d(1, 0.7)),
        *(nn.ConvTranspose1d(4, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(10, 2)),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (_mlp, (5,)),
    "residual": (lambda: nn.Sequential(Block(4), Block(4)), (4,)),
    "cnn": (_cnn, (1, 6, 6)),
    "residual-cnn": (Skips, (1, 5, 5)),
    "flat": (_flat, (2, 3)),
    "1d": (_pooled_1d, (2, 6)),
    "padded": (Padded, (1, 4, 3)),
    "padded-first": (PaddedFirst, (3,)),
    "linear": (lambda: nn.Linear(3, 2), (3,)),
    "relu-first": (lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 4), nn.ReLU()), (3,)),
}


def network(name: str, seed: int = 0) -> tuple[nn.Module, tuple[int, ...]]:
    """A network in evaluation mode and float64, and a point's shape; its norms do something."""
    torch.manual_seed(seed)
    make, shape = NETWORKS[name]
    module = make().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (part.running_mean, part.weight.data, part.bias.data):
                assert tensor is not None
                tensor.normal_()
            assert part.running_var is not None
            part.running_var.uniform_(0.5, 2)
    return module, shape


def points(shape: tuple[int, ...], n: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Random points, (n, *shape), float64."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, *shape, generator=generator, dtype=torch.float64)
