"""Compare fast features with the same features computed slowly.

The slow way shares no arithmetic with the fast one: one prompt at a time, eager attention with its
full matrices, and on the inputs of the gate and the softmax weights the slow formulas of
:mod:`splinellm.statistics`, in float64. Those are also what a reader may check against the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinellm.backbone.attendance import turns_of
from splinellm.backbone.eager import run_eagerly
from splinellm.backbone.gates import Gate
from splinellm.backbone.hooks import Hook
from splinellm.backbone.loading import Backbone
from splinellm.geometry import DimensionRule
from splinellm.schema import FeatureSchema
from splinellm.statistics import Merge, Statistic

PROMPTS = (
    "Hi",
    "The capital of France is",
    "def add(a, b):\n    return a + b\n",
    "If it rains tomorrow, bring the washing in before the cat finds out.",
)

DISTANCE_FLOOR = 2e-6


@dataclass(frozen=True)
class VerificationReport:
    """Largest deviations between fast and slow features.

    Parameters
    ----------
    n_values : int
        Numbers compared.
    sign : float
        Largest absolute deviation of a sign feature, sign block or other share.
    distance : float
        Largest deviation of a distance, relative, beyond an absolute floor of 2e-6.
    distance_outliers : float
        Share of distances whose deviation is above the tolerance.
    dimension : float
        Largest deviation of an intrinsic dimension.
    dimension_outliers : float
        Share of intrinsic dimensions that deviate at all.
    passed : bool
        Whether all are within tolerance. Distances are not judged in half precision, where they
        are noise.
    """

    n_values: int
    sign: float
    distance: float
    distance_outliers: float
    dimension: float
    dimension_outliers: float
    passed: bool


def compare_with_slow(
    backbone: Backbone,
    schema: FeatureSchema,
    rule: DimensionRule,
    prompts: Sequence[list[int]],
    fast: np.ndarray,
) -> VerificationReport:
    """Recompute the features of a few prompts the slow way and compare.

    Parameters
    ----------
    backbone : Backbone
        The model; its lock is held meanwhile.
    schema : FeatureSchema
        What was computed, with a row per prompt.
    rule : DimensionRule
        When an attention weight counts.
    prompts : sequence of list of int
        Token ids of N prompts, at least one.
    fast : ndarray, shape (N, L, F), float32
        What the extractor made of them.
    """
    with backbone.reading():
        slow = torch.stack([_slow_features(backbone, schema, rule, ids) for ids in prompts])
    return _compare(torch.from_numpy(fast).double(), slow, schema, backbone.dtype)


def _compare(fast: Tensor, slow: Tensor, schema: FeatureSchema, dtype: str) -> VerificationReport:
    deviations: dict[str, list[Tensor]] = {"sign": [], "distance": [], "dimension": []}
    outliers: dict[str, list[Tensor]] = {kind: [] for kind in deviations}
    exact = dtype in ("float32", "float64")
    passed = True
    for statistic in schema.selection.statistics:
        tolerance = statistic.tolerance
        mine = [i for i, name in enumerate(schema.features) if name in statistic.columns]
        deviation = (fast[..., mine] - slow[..., mine]).abs()
        is_outlier = deviation > 0
        if tolerance.kind == "distance":
            excess = (deviation - DISTANCE_FLOOR).clamp(min=0)
            deviation = excess / slow[..., mine].abs().clamp(min=1e-30)
            is_outlier = ~(deviation <= tolerance.largest)  # NaN is an outlier
        else:
            bound = tolerance.largest if exact else tolerance.in_half
            passed = passed and _largest(deviation) <= bound
        deviations[tolerance.kind].append(deviation.flatten())
        outliers[tolerance.kind].append(is_outlier.flatten())
    empty = torch.empty(0, dtype=torch.float64)
    largest = {kind: _largest(torch.cat([empty, *found])) for kind, found in deviations.items()}
    share = {kind: _share(torch.cat([empty, *found])) for kind, found in outliers.items()}
    return VerificationReport(
        n_values=fast.numel(),
        sign=largest["sign"],
        distance=largest["distance"],
        distance_outliers=share["distance"],
        dimension=largest["dimension"],
        dimension_outliers=share["dimension"],
        # In half precision rounding flips signs near a hyperplane; bounds from measurements.
        passed=passed
        and (not exact or share["distance"] <= 1 / 1000)
        and share["dimension"] <= (1 / 200 if exact else 0.2),
    )


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _share(values: Tensor) -> float:
    return float(values.double().mean()) if values.numel() else 0.0


def _slow_features(
    backbone: Backbone, schema: FeatureSchema, rule: DimensionRule, ids: list[int]
) -> Tensor:
    """Features of one prompt, shape (L, F), float64, from the paper's formulas."""
    layers = backbone.architecture.decoder_layers(backbone.model)
    gates = {layer: backbone.architecture.gate_of(layers[layer]) for layer in schema.layers}
    turns = turns_of({layer: gate.entrance for layer, gate in gates.items()}, layers)
    wants_attention = schema.selection.needs_attention
    with ExitStack() as stack:
        if wants_attention:
            stack.enter_context(_eager(backbone.model))
        stack.enter_context(run_eagerly(backbone.model))
        planes = stack.enter_context(_planes_of(gates))
        input_ids = torch.tensor([ids], device=backbone.device)
        output = backbone.model(
            input_ids=input_ids,
            **backbone.architecture.arguments(torch.ones_like(input_ids)),
            output_attentions=wants_attention,
        )
    token = 0 if backbone.architecture.is_encoder else -1
    rows = []
    for layer in schema.layers:
        row: dict[str, float] = {}
        for statistic in schema.selection.statistics:
            if statistic.is_of_attention:
                weights = output.attentions[layer][0, :, token].cpu().double().numpy()  # (H, T)
                row |= dict.fromkeys(statistic.columns, float(statistic.slow(weights, rule)))
            else:
                met = planes[layer][turns[layer].n_before]
                parts = [_slow_numbers(statistic, it) for it in met]
                row |= _merged(statistic, np.concatenate(parts))
        rows.append([row[name] for name in schema.features])
    return torch.tensor(rows, dtype=torch.float64)


def _slow_numbers(statistic: Statistic, met: Met) -> Any:
    """What a slow formula gives; only that of a statistic made of it takes the inputs' size."""
    return statistic.slow(*(met if "rms" in statistic.made_of else met[:2]))


def _in_float64(x: Tensor, rows: Tensor, bias: Tensor | None) -> Met:
    """What tokens x (N, D) show that meet the same hyperplanes; see :data:`Met`."""
    weight = rows.cpu().double().numpy()  # on the CPU, since MPS has no float64
    inputs = x.cpu().double().numpy()
    h = inputs @ weight.T
    norms = np.sqrt((weight**2).sum(axis=1))
    rms = np.sqrt((inputs**2).mean(axis=1))
    return h if bias is None else h + bias.cpu().double().numpy(), norms, rms


def _merged(statistic: Statistic, values: np.ndarray) -> dict[str, float]:
    """Columns of a prompt, from the numbers of its tokens, shape (T,) or (T, C)."""
    columns = values.T if values.ndim == 2 else [values] * len(statistic.columns)
    merges = statistic.columns.items()
    return {name: _MERGES[merge](it) for (name, merge), it in zip(merges, columns, strict=True)}


def _mean(values: np.ndarray) -> float:
    return float(values.sum()) / len(values)


def _sample_std(values: np.ndarray) -> float:
    if len(values) == 1:
        return 0.0
    return math.sqrt(float(((values - _mean(values)) ** 2).sum()) / (len(values) - 1))


_MERGES: dict[Merge, Callable[[np.ndarray], float]] = {
    "mean": _mean,
    "min": lambda values: float(values.min()),
    "max": lambda values: float(values.max()),
    "std": _sample_std,
    "share": _mean,
}


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    previous = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(previous)


Met = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Pre-activations (N, K), norms (K,) and root mean squares of the inputs (N,), in float64, of
tokens that meet the same hyperplanes."""


@contextmanager
def _planes_of(gates: dict[int, Gate]) -> Iterator[dict[int, list[list[Met]]]]:
    """Tokens and hyperplanes of each call of each gate; some weights only exist in a pass."""
    found: dict[int, list[list[Met]]] = {layer: [] for layer in gates}
    with ExitStack() as stack:
        for layer, gate in gates.items():

            def read(
                _module: nn.Module,
                args: tuple[Any, ...],
                kwargs: Any,
                layer: int = layer,
                gate: Gate = gate,
            ) -> None:
                parts = gate.planes(*args, *kwargs.values())
                found[layer].append([_in_float64(*part) for part in parts])

            before = gate.entrance.register_forward_pre_hook(Hook(read), with_kwargs=True)
            stack.callback(before.remove)
        yield found
