"""What any tiny model's layers show of a prompt, from its weights alone, in NumPy and float64."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from tests.architectures import CASES, Case, case_model
from tests.tiny import N_LAYERS


def exact_model(name: str) -> PreTrainedModel:
    """The same weights in float64, with attention written out where the model can do that."""
    model = case_model(name).double()
    if CASES[name].has_dimension:
        model.set_attn_implementation("eager")
    if CASES[name].experts:
        model.set_experts_implementation("eager")
    return model


def read_layers(name: str, model: PreTrainedModel, ids: list[int]) -> list[tuple[np.ndarray, ...]]:
    """Run one prompt through an exact model.

    Returns for each layer h (T, K), norms (T, K), and the attention (H, T) of the last token, or of
    an encoder's first.
    """
    case = CASES[name]
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    inputs: dict[int, np.ndarray] = {}
    handles = [
        model.get_submodule(case.read.format(layer)).register_forward_pre_hook(
            lambda _module, args, layer=layer: inputs.update(
                {layer: args[0].reshape(len(ids), -1).numpy()}
            )
        )
        for layer in range(N_LAYERS)
    ]
    with torch.no_grad():
        output = model(input_ids=torch.tensor([ids]), output_attentions=case.has_dimension)
    for handle in handles:
        handle.remove()
    views = []
    for layer in range(N_LAYERS):
        h, norms = _meet(case, weights, layer, inputs[layer])
        attention = np.ones((1, 1))
        if case.has_dimension:
            attention = output.attentions[layer][0, :, 0 if case.encoder else -1].numpy()
        views.append((h, norms, attention))
    return views


def _meet(
    case: Case, weights: dict[str, np.ndarray], layer: int, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if not case.experts or layer in case.dense_layers:
        stem = case.rows.format(layer)
        rows, bias = weights[stem], weights.get(stem.removesuffix("weight") + "bias")
        rows = rows.T if case.transposed else rows
        size = len(rows) // 2 if case.fused else len(rows)
        h = np.array([[row @ token for row in rows[:size]] for token in x])
        norms = np.array([np.sqrt(row @ row) for row in rows[:size]])
        return h + (0.0 if bias is None else bias[:size]), np.tile(norms, (len(x), 1))
    stacked = weights[case.experts.format(layer)]
    size = stacked.shape[1] // 2
    h_all, norms_all = [], []
    for token in x:
        rows = [stacked[expert][:size] for expert in sorted(_route(case, weights, layer, token))]
        if case.shared:
            rows.append(weights[case.shared.format(layer)])
        mine = np.concatenate(rows)
        h_all.append(mine @ token)
        norms_all.append(np.sqrt((mine**2).sum(axis=1)))
    return np.array(h_all), np.array(norms_all)


def _route(
    case: Case,
    weights: dict[str, np.ndarray],
    layer: int,
    token: np.ndarray,
) -> list[int]:
    """The two experts with the largest scores, in the best group where there are groups."""
    stem = case.router.format(layer).removesuffix("weight")
    scores = weights[stem + "weight"] @ token  # logits
    if "n_group" in case.config:
        scores = 1 / (1 + np.exp(-scores)) + weights[stem + "e_score_correction_bias"]
        groups = scores.reshape(case.config["n_group"], -1)
        best = int(np.argmax([np.sort(group)[-2:].sum() for group in groups]))
        inside = range(best * groups.shape[1], (best + 1) * groups.shape[1])
        scores = np.where([i in inside for i in range(len(scores))], scores, -np.inf)
    elif (bias := weights.get(stem + "moe_statics.e_score_correction_bias")) is not None:
        scores = np.exp(scores) / np.exp(scores).sum() + bias[0]
    return np.argsort(scores)[-2:].tolist()
