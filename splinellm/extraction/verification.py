"""Compare fast features with the same features computed slowly.

The slow way shares no arithmetic with the fast one: one prompt at a time, eager attention with its
full matrices, softmax weights compared with the threshold, every formula of the paper written out
on the inputs of the gate, in float64. It is also what a reader may check against the paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinellm.backbone.gates import Gate
from splinellm.backbone.loading import Backbone
from splinellm.geometry import DimensionRule, block_bounds
from splinellm.schema import DISTANCE_FEATURES, INTRINSIC_DIMENSION, FeatureSchema, block_name

PROMPTS = (
    "Hi",
    "The capital of France is",
    "def add(a, b):\n    return a + b\n",
    "If it rains tomorrow, bring the washing in before the cat finds out.",
)

SIGN_TOLERANCE = 1.5e-3
DISTANCE_TOLERANCE = 2e-2
DISTANCE_FLOOR = 2e-6
DIMENSION_TOLERANCE = 1.0


@dataclass(frozen=True)
class VerificationReport:
    """Largest deviations between fast and slow features.

    Parameters
    ----------
    n_values : int
        Numbers compared.
    sign : float
        Largest absolute deviation of a sign feature or sign block.
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
    with backbone.lock, torch.inference_mode():
        slow = torch.stack([_slow_features(backbone, schema, rule, ids) for ids in prompts])
    return _compare(torch.from_numpy(fast).double(), slow, schema.features, backbone.dtype)


def _compare(fast: Tensor, slow: Tensor, names: tuple[str, ...], dtype: str) -> VerificationReport:
    kinds = {
        "distance": [i for i, name in enumerate(names) if name in DISTANCE_FEATURES],
        "dimension": [i for i, name in enumerate(names) if name == INTRINSIC_DIMENSION],
    }
    kinds["sign"] = [
        i for i in range(len(names)) if i not in {*kinds["distance"], *kinds["dimension"]}
    ]
    deviation = (fast - slow).abs()
    excess = (deviation - DISTANCE_FLOOR).clamp(min=0) / slow.abs().clamp(min=1e-30)
    sign, dimension = deviation[..., kinds["sign"]], deviation[..., kinds["dimension"]]
    distance = excess[..., kinds["distance"]]
    distance_outliers = _share(~(distance <= DISTANCE_TOLERANCE))  # NaN is an outlier
    dimension_outliers = _share(dimension > 0)
    exact = dtype == "float32"
    return VerificationReport(
        n_values=fast.numel(),
        sign=_largest(sign),
        distance=_largest(distance),
        distance_outliers=distance_outliers,
        dimension=_largest(dimension),
        dimension_outliers=dimension_outliers,
        # In half precision rounding flips signs near a hyperplane; bounds from measurements.
        passed=_largest(sign) <= (SIGN_TOLERANCE if exact else 0.05)
        and (not exact or distance_outliers <= 1 / 1000)
        and (not exact or _largest(dimension) <= DIMENSION_TOLERANCE)
        and dimension_outliers <= (1 / 200 if exact else 0.2),
    )


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _share(values: Tensor) -> float:
    return float(values.double().mean()) if values.numel() else 0.0


def _slow_features(
    backbone: Backbone, schema: FeatureSchema, rule: DimensionRule, ids: list[int]
) -> Tensor:
    """Features of one prompt, shape (L, F), float64, from the paper's formulas."""
    gates = {
        layer: backbone.architecture.gate_of(
            backbone.architecture.decoder_layers(backbone.model)[layer]
        )
        for layer in schema.layers
    }
    wants_attention = schema.selection.needs_attention
    with ExitStack() as stack:
        if wants_attention:
            stack.enter_context(_eager(backbone.model))
        found = stack.enter_context(_features_of(gates, schema.selection.n_blocks))
        output = backbone.model(
            input_ids=torch.tensor([ids], device=backbone.device),
            use_cache=False,
            output_attentions=wants_attention,
        )
    rows = []
    for layer in schema.layers:
        row = found[layer]
        if wants_attention:
            weights = output.attentions[layer][0, :, -1].cpu().double()  # (H, T)
            row[INTRINSIC_DIMENSION] = _count(weights, rule)
        rows.append([row[name] for name in schema.features])
    return torch.tensor(rows, dtype=torch.float64)


def _count(weights: Tensor, rule: DimensionRule) -> float:
    limit = torch.full_like(weights[:, :1], rule.threshold)
    if rule.kind == "relative":
        limit = limit * weights.amax(dim=-1, keepdim=True)
    return float((weights > limit).sum())


def _gate_features(gate: Gate, inputs: tuple[Any, ...], n_blocks: int) -> dict[str, float]:
    pre_activations, distances = [], []
    for x, rows, bias in gate.planes(*inputs):  # (N, D), (K, D), (K,)
        weight = rows.cpu().double()  # on the CPU, since MPS has no float64
        h = x.cpu().double() @ weight.T + (0.0 if bias is None else bias.cpu().double())  # (N, K)
        norms = weight.square().sum(dim=1).sqrt()  # (K,); a row of zeros is no hyperplane
        pre_activations.append(h)
        distances.append((h.abs() / norms).where(norms > 0, torch.inf).amin(dim=1))
    h, distance = torch.cat(pre_activations), torch.cat(distances)  # (T, K), (T,)
    sign_fractions = (h > 0).double().mean(dim=1)  # (T,)
    features = {
        "sign_mean": float(sign_fractions.mean()),
        "sign_min": float(sign_fractions.min()),
        "sign_max": float(sign_fractions.max()),
        "sign_std": _sample_std(sign_fractions),
        "distance_min": float(distance.min()),
        "distance_mean": float(distance.mean()),
        "distance_std": _sample_std(distance),
    }
    bounds = block_bounds(h.shape[1], n_blocks)
    for block in range(n_blocks):
        signs = h[:, bounds[block] : bounds[block + 1]] > 0
        features[block_name(block)] = float(signs.double().mean())
    return features


def _sample_std(values: Tensor) -> float:
    if len(values) == 1:
        return 0.0
    return math.sqrt(float((values - values.mean()).square().sum()) / (len(values) - 1))


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    previous = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(previous)


@contextmanager
def _features_of(gates: dict[int, Gate], n_blocks: int) -> Iterator[dict[int, dict[str, float]]]:
    """Features of what the gates read, made meanwhile: some weights are only there in a pass."""
    found: dict[int, dict[str, float]] = {}
    with ExitStack() as stack:
        for layer, gate in gates.items():

            def read(
                _module: nn.Module,
                args: tuple[Any, ...],
                kwargs: Any,
                layer: int = layer,
                gate: Gate = gate,
            ) -> None:
                found[layer] = _gate_features(gate, (*args, *kwargs.values()), n_blocks)

            stack.callback(gate.entrance.register_forward_pre_hook(read, with_kwargs=True).remove)
        yield found
