"""Grokking, watched through the partition: local complexity while an MLP learns handwritten digits.

An MLP whose initial weights are too large fits 1,000 of scikit-learn's digits soon and generalises
late. At moments that are even on a logarithmic axis this writes accuracy in training, in test and
under attack (projected gradient descent), and the local complexity of the network at training, test
and random points.

    python examples/grokking.py [--folder grokking] [--steps 100000] [--scale 8]

Stopped and started again, it goes on from the last of these moments. In the folder: log.jsonl,
state.pt and, where plotly is installed, grokking.html. docs/regions.md says what was seen.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from sklearn.datasets import load_digits
from torch import Tensor, nn

from splinellm.regions import PiecewiseAffine

N_TRAIN, N_PROBES, BATCH = 1000, 100, 200
RADIUS, N_DIRECTIONS = 0.05, 25
ATTACK, ATTACK_STEPS = 0.1, 10


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images (N, 64) in [0, 1], and their labels."""
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.data))
    images = torch.tensor(bunch.data[order] / 16, dtype=torch.float32)
    labels = torch.tensor(bunch.target[order])
    return images[:N_TRAIN], labels[:N_TRAIN], images[N_TRAIN:], labels[N_TRAIN:]


def network(scale: float) -> nn.Sequential:
    """An MLP with two hidden layers, its initial weights multiplied."""
    torch.manual_seed(0)
    sizes = [64, 200, 200, 10]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for weight in model.parameters():
            weight *= scale
    return model


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images that are given their own label."""
    with torch.no_grad():
        return float((model(images).argmax(dim=1) == labels).float().mean())


def attacked(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Images changed by at most ATTACK a pixel, so that the loss grows."""
    changed = images.clone()
    for _ in range(ATTACK_STEPS):
        changed.requires_grad_()
        loss = nn.functional.cross_entropy(model(changed), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, changed)
        step = changed.detach() + ATTACK / 4 * gradient.sign()
        changed = step.clamp(images - ATTACK, images + ATTACK).clamp(0, 1)
    return changed


def measured(
    model: nn.Module, step: int, data: tuple[Tensor, Tensor, Tensor, Tensor]
) -> dict[str, Any]:
    """One line of the log."""
    train_x, train_y, test_x, test_y = data
    random = torch.rand(N_PROBES, 64, generator=torch.Generator().manual_seed(1))
    probes = {"train": train_x[:N_PROBES], "test": test_x[:N_PROBES], "random": random}
    found = PiecewiseAffine.of(model)
    row = {
        "step": step,
        "train_accuracy": accuracy(model, train_x, train_y),
        "test_accuracy": accuracy(model, test_x, test_y),
        "attacked_accuracy": accuracy(model, attacked(model, test_x, test_y), test_y),
    }
    for name, points in probes.items():
        counts = found.local_complexity(points, RADIUS, N_DIRECTIONS, seed=0)
        row[f"{name}_complexity"] = float(counts.double().mean())
    return row


def moments(steps: int) -> list[int]:
    """Steps to look at, about even on a logarithmic axis, from 0 on."""
    return sorted({0, steps, *np.unique(np.geomspace(1, steps, 60).astype(int)).tolist()})


def train(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train, or go on, and return the log."""
    data = digits()
    model = network(arguments.scale)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=arguments.rate, weight_decay=arguments.weight_decay
    )
    generator = torch.Generator().manual_seed(0)
    state_file, log_file = arguments.folder / "state.pt", arguments.folder / "log.jsonl"
    settings = {name: str(value) for name, value in vars(arguments).items() if name != "steps"}
    step, rows = 0, list[dict[str, Any]]()
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state["settings"] != settings:
            raise SystemExit(f"{arguments.folder} holds a run with other settings")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        step, rows = state["step"], json.loads(state["rows"])
    targets = nn.functional.one_hot(data[1], 10).float()
    with Progress() as progress:
        task = progress.add_task("training", total=arguments.steps, completed=step)
        for moment in moments(arguments.steps):
            if rows and moment <= rows[-1]["step"]:
                continue
            for _ in range(step, moment):
                batch = torch.randint(N_TRAIN, (BATCH,), generator=generator)
                loss = (model(data[0][batch]) - targets[batch]).square().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            step = moment
            rows.append(measured(model, step, data))
            state = {
                "settings": settings,
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "generator": generator.get_state(),
                "step": step,
                "rows": json.dumps(rows),
            }
            part = state_file.with_suffix(".part")
            torch.save(state, part)
            part.replace(state_file)  # a run that is stopped meanwhile leaves the last one
            log_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
            progress.update(task, completed=step)
    return rows


def main() -> None:
    """Train and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("grokking"))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--scale", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.03)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = train(arguments)
    print(json.dumps(rows[-1]))
    try:
        from splinellm.plots import training_picture
    except ImportError:
        print("no picture: plotly is not installed")
        return
    training_picture(rows).write_html(arguments.folder / "grokking.html")


if __name__ == "__main__":
    main()
