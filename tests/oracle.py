"""A slow, readable NumPy reading of arXiv 2312.01648, and of the Llama/Mistral and BERT models.

One prompt, float64, loops over tokens and heads. It shares no code with splinellm: the weights
come as a state dict of arrays, the shapes from the model's config, and every name and formula is
spelled out here again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Weights = dict[str, Any]
"""Name in the base model's state dict (without ``model.``) to anything `np.asarray` takes."""


RADII = (0.05, 0.75)
"""Of the complexity."""


@dataclass(frozen=True)
class LayerView:
    """What the paper's quantities of one layer are made of, for a prompt of T tokens."""

    h: np.ndarray  # (T, K) pre-activations w_k . x_t + b_k
    gate: np.ndarray  # (K, D) rows w_k
    attention: np.ndarray  # (H, T) weights of the token whose dimension is wanted
    x: np.ndarray | None = None  # (T, D) what the rows w_k are applied to; for the complexity


def read_prompt(weights: Weights, config: Any, ids: list[int]) -> list[LayerView]:
    """Run the decoder over one prompt and keep what its layers show."""
    x = np.asarray(weights["embed_tokens.weight"])[ids].astype(np.float64)  # (T, D)
    views = []
    for layer in range(config.num_hidden_layers):
        prefix = f"layers.{layer}."
        normed = _rms_norm(x, _get(weights, prefix + "input_layernorm.weight"), config.rms_norm_eps)
        attended, last_row = _attention(weights, prefix + "self_attn.", config, normed)
        x = x + attended
        gain = _get(weights, prefix + "post_attention_layernorm.weight")
        normed = _rms_norm(x, gain, config.rms_norm_eps)
        h = _linear(weights, prefix + "mlp.gate_proj", normed)  # (T, K)
        swish = h / (1.0 + np.exp(-h))
        inner = swish * _linear(weights, prefix + "mlp.up_proj", normed)
        x = x + _linear(weights, prefix + "mlp.down_proj", inner)
        gate = _get(weights, prefix + "mlp.gate_proj.weight")
        views.append(LayerView(h, gate, last_row, normed))
    return views


def _attention(
    weights: Weights, prefix: str, config: Any, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    n_tokens = len(x)
    n_heads, n_key_heads = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    window = getattr(config, "sliding_window", None) or n_tokens
    theta = config.rope_parameters["rope_theta"]
    queries = _linear(weights, prefix + "q_proj", x).reshape(n_tokens, n_heads, size)
    keys = _linear(weights, prefix + "k_proj", x).reshape(n_tokens, n_key_heads, size)
    values = _linear(weights, prefix + "v_proj", x).reshape(n_tokens, n_key_heads, size)
    output = np.zeros((n_tokens, n_heads, size))
    last_row = np.zeros((n_heads, n_tokens))
    for head in range(n_heads):
        shared = head // (n_heads // n_key_heads)  # neighbouring heads share a key-value head
        turned_keys = [_rotate(keys[j, shared], j, theta) for j in range(n_tokens)]
        for i in range(n_tokens):
            query = _rotate(queries[i, head], i, theta)
            seen = range(max(0, i - window + 1), i + 1)
            scores = np.array([query @ turned_keys[j] / math.sqrt(size) for j in seen])
            attention = np.exp(scores - scores.max())
            attention /= attention.sum()
            for j, weight in zip(seen, attention, strict=True):
                output[i, head] += weight * values[j, shared]
                if i == n_tokens - 1:
                    last_row[head, j] = weight
    return _linear(weights, prefix + "o_proj", output.reshape(n_tokens, -1)), last_row


def read_encoder(weights: Weights, config: Any, ids: list[int], token: int = 0) -> list[LayerView]:
    """Run BERT over one text and keep what its layers show, and the attention of one token."""
    x = _get(weights, "embeddings.word_embeddings.weight")[ids]  # (T, D)
    x = x + _get(weights, "embeddings.position_embeddings.weight")[: len(ids)]
    x = x + _get(weights, "embeddings.token_type_embeddings.weight")[0]
    x = _layer_norm(weights, "embeddings.LayerNorm", x, config)
    views = []
    for layer in range(config.num_hidden_layers):
        prefix = f"encoder.layer.{layer}."
        attended, row = _attention_both_ways(weights, prefix + "attention.", config, x, token)
        x = _layer_norm(weights, prefix + "attention.output.LayerNorm", x + attended, config)
        h = _linear(weights, prefix + "intermediate.dense", x)  # (T, K)
        read = x
        gelu = h * (1.0 + np.vectorize(math.erf)(h / math.sqrt(2.0))) / 2.0
        y = _linear(weights, prefix + "output.dense", gelu)
        x = _layer_norm(weights, prefix + "output.LayerNorm", x + y, config)
        gate = _get(weights, prefix + "intermediate.dense.weight")
        views.append(LayerView(h, gate, row, read))
    return views


def _attention_both_ways(
    weights: Weights, prefix: str, config: Any, x: np.ndarray, token: int
) -> tuple[np.ndarray, np.ndarray]:
    n_tokens, n_heads = len(x), config.num_attention_heads
    size = config.hidden_size // n_heads
    queries, keys, values = (
        _linear(weights, f"{prefix}self.{name}", x).reshape(n_tokens, n_heads, size)
        for name in ("query", "key", "value")
    )
    output = np.zeros((n_tokens, n_heads, size))
    row = np.zeros((n_heads, n_tokens))
    for head in range(n_heads):
        for i in range(n_tokens):
            scores = np.array(
                [queries[i, head] @ keys[j, head] / math.sqrt(size) for j in range(n_tokens)]
            )
            attention = np.exp(scores - scores.max())
            attention /= attention.sum()
            output[i, head] = sum(attention[j] * values[j, head] for j in range(n_tokens))
            if i == token:
                row[head] = attention
    return _linear(weights, prefix + "output.dense", output.reshape(n_tokens, -1)), row


def _layer_norm(weights: Weights, name: str, x: np.ndarray, config: Any) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + config.layer_norm_eps)
    return centred / scale * _get(weights, name + ".weight") + _get(weights, name + ".bias")


def _rotate(vector: np.ndarray, position: int, theta: float) -> np.ndarray:
    """Turn the pairs (i, i + d/2) of a query or key by position * theta^(-2i/d)."""
    half = len(vector) // 2
    turned = np.empty_like(vector)
    for i in range(half):
        angle = position * theta ** (-2.0 * i / len(vector))
        a, b = vector[i], vector[i + half]
        turned[i] = a * math.cos(angle) - b * math.sin(angle)
        turned[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return turned


def _rms_norm(x: np.ndarray, gain: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * gain


def _linear(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    y = x @ _get(weights, name + ".weight").T
    return y + _get(weights, name + ".bias") if name + ".bias" in weights else y


def _get(weights: Weights, name: str) -> np.ndarray:
    return np.asarray(weights[name], dtype=np.float64)


def features(
    view: LayerView, *, epsilon: float = 0.1, rule: str = "relative", n_blocks: int = 32
) -> dict[str, float]:
    """The paper's features of one layer, its sign blocks, sign entropy and complexity."""
    n_tokens, n_planes = view.h.shape
    norms = [math.sqrt(row @ row) for row in view.gate]
    fractions, distances = [], []
    for h in view.h:
        fractions.append(sum(value > 0 for value in h) / n_planes)
        distances.append(min(abs(h[k]) / norms[k] for k in range(n_planes)))
    row = {
        "sign_mean": sum(fractions) / n_tokens,
        "sign_min": min(fractions),
        "sign_max": max(fractions),
        "sign_std": _sample_std(fractions),
        "distance_min": min(distances),
        "distance_mean": sum(distances) / n_tokens,
        "distance_std": _sample_std(distances),
        "intrinsic_dimension": 0.0,
    }
    for attention in view.attention:  # one head's weights of the last token
        limit = epsilon * max(attention) if rule == "relative" else epsilon
        row["intrinsic_dimension"] += sum(weight > limit for weight in attention)
    for block in range(n_blocks):
        start, end = block * n_planes // n_blocks, (block + 1) * n_planes // n_blocks
        shares = [sum(h[start:end] > 0) / (end - start) for h in view.h]
        row[f"sign_block_{block:02d}"] = sum(shares) / n_tokens
    entropies = [_entropy(fraction) for fraction in fractions]
    row["sign_entropy_mean"] = sum(entropies) / n_tokens
    row["sign_entropy_std"] = _sample_std(entropies)
    for radius in RADII if view.x is not None else ():
        shares = []
        for h, x in zip(view.h, view.x, strict=True):
            reach = radius * math.sqrt(x @ x) / math.sqrt(len(x))
            met = sum(abs(h[k]) / norms[k] < reach for k in range(n_planes))
            shares.append(met / n_planes)
        row[f"complexity_{radius}_mean"] = sum(shares) / n_tokens
        row[f"complexity_{radius}_std"] = _sample_std(shares)
    return row


def _entropy(share: float) -> float:
    if share in (0.0, 1.0):
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def _sample_std(values: list[float]) -> float:
    if len(values) == 1:
        return 0.0  # undefined; the library's convention
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
