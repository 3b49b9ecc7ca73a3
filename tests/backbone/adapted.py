"""Tiny models with adapters of PEFT, and the distances that their matrices give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from splinellm import attach
from splinellm.table import FeatureTable
from tests.live.models import causal_lm
from tests.tiny import random_prompts

IDS = torch.tensor(random_prompts(7, 7))
LAYER = 1


def randomised(module: nn.Module, seed: int = 1) -> None:
    """Adapters begin as nothing, which would hide that they are not seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if any(part in name for part in ("lora_", "ia3_", "hada_", "lokr_", "oft_", "vera_")):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


def adapted(config: peft.PeftConfig, model: PreTrainedModel | None = None) -> Any:
    found = peft.get_peft_model(model or causal_lm(), config).eval()
    randomised(found)
    return found


def lora(**changed: Any) -> peft.LoraConfig:
    return peft.LoraConfig(**{"target_modules": ["gate_proj"], "r": 4, **changed})


def gate_of(model: Any) -> Any:
    return next(
        module
        for name, module in model.named_modules()
        if name.endswith(f"layers.{LAYER}.mlp.gate_proj")
    )


def watched(model: Any, **inputs: Any) -> FeatureTable:
    with torch.no_grad(), attach(model, features="spline") as recorder:
        model(**(inputs or {"input_ids": IDS}))
        return recorder.table


def inputs_of(module: nn.Module, run: Callable[[], Any]) -> np.ndarray:
    """What a module reads: (B T, D), float64."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        run()
    hook.remove()
    return seen[-1].flatten(0, -2).double().numpy()


def mean_distances(x: np.ndarray, rows: np.ndarray, bias: float | np.ndarray = 0.0) -> np.ndarray:
    """Mean over a text's tokens of min_k |w_k x + b_k| / |w_k|, for every text."""
    h = x @ rows.T + bias
    nearest = (np.abs(h) / np.sqrt((rows**2).sum(axis=1))).min(axis=1)
    mean: np.ndarray = nearest.reshape(len(IDS), -1).mean(axis=1)
    return mean


def check(model: Any, rows: Tensor | np.ndarray, table: FeatureTable | None = None) -> None:
    """Compare with the distances from the rows (K, D) that the gate of a layer should have."""
    x = inputs_of(gate_of(model), lambda: model(input_ids=IDS))
    expected = mean_distances(x, np.asarray(rows, np.float64))
    np.testing.assert_allclose(distance_mean(table or watched(model)), expected, rtol=2e-4)


def distance_mean(table: FeatureTable) -> np.ndarray:
    found: np.ndarray = table.array[:, LAYER, table.schema.features.index("distance_mean")]
    return found


def numbers(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().double().numpy()
    return found


def lora_rows(gate: Any, **scales: float) -> np.ndarray:
    """W + sum of s B A, from the adapters' own matrices."""
    rows = numbers(gate.base_layer.weight)
    for name, scale in scales.items():
        rows = rows + scale * numbers(gate.lora_B[name].weight) @ numbers(gate.lora_A[name].weight)
    return rows
