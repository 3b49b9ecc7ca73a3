"""The fast features equal the slow ones, for every architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from splinellm.backbone.loading import Backbone
from splinellm.geometry import DimensionRule
from tests import oracle
from tests.architectures import case_backbone
from tests.tiny import (
    N_HEADS,
    WINDOW,
    pad,
    random_prompts,
    recorder_of,
    tiny_backbone,
)

EVERYTHING = "paper,blocks,sign_entropy,complexity:0.05,complexity:0.75"
PROMPTS = random_prompts(1, 2, 5, WINDOW, WINDOW + 1, 13, 24)

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-ungrouped": ("llama", {"num_key_value_heads": N_HEADS}),
    "llama-one-key-head": ("llama", {"num_key_value_heads": 1, "head_dim": 8}),
    "llama-theta": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}},
    ),
    "mistral-window": ("mistral", {}),
    "mistral-wide-window": ("mistral", {"sliding_window": 64}),
    "mistral-no-window": ("mistral", {"sliding_window": None}),
}


def slow_features(
    backbone: Backbone, prompt: list[int], names: tuple[str, ...], rule: DimensionRule
) -> np.ndarray:
    """Shape (L, F), from tests/oracle.py."""
    weights = {name: value.numpy() for name, value in backbone.model.state_dict().items()}
    views = oracle.read_prompt(weights, backbone.model.config, prompt)
    rows = [oracle.features(view, epsilon=rule.threshold, rule=rule.kind) for view in views]
    return np.array([[row[name] for name in names] for row in rows])


@pytest.mark.parametrize("name", MODELS)
def test_features_equal_the_oracle(name: str) -> None:
    kind, overrides = MODELS[name]
    backbone = tiny_backbone(kind, **overrides)
    rule = DimensionRule()
    with torch.inference_mode(), recorder_of(backbone, EVERYTHING) as recorder:
        found = recorder.read(*pad(PROMPTS)).double().numpy()
    names = recorder._reduction.schema.features
    slow = np.stack([slow_features(backbone, prompt, names, rule) for prompt in PROMPTS])

    distances = [i for i, feature in enumerate(names) if feature.startswith("distance")]
    others = [i for i in range(len(names)) if i not in distances]
    # Signs and dimensions are counts: equal, or wrong. Distances are differences of large numbers.
    np.testing.assert_allclose(found[..., others], slow[..., others], atol=2e-6, rtol=0)
    np.testing.assert_allclose(found[..., distances], slow[..., distances], atol=2e-6, rtol=1e-3)

    dimensions = slow[..., names.index("intrinsic_dimension")]
    assert len(np.unique(dimensions[2:])) >= 8, "attention is uniform; the test proves nothing"


@pytest.mark.parametrize("rule", [DimensionRule(), DimensionRule(0.1, "absolute")], ids=str)
def test_features_of_an_encoder_equal_the_oracle(rule: DimensionRule) -> None:
    backbone = case_backbone("bert")
    with torch.inference_mode(), recorder_of(backbone, EVERYTHING, rule=rule) as recorder:
        found = recorder.read(*pad(PROMPTS)).double().numpy()
    names = recorder._reduction.schema.features
    weights = {name: value.numpy() for name, value in backbone.model.state_dict().items()}
    slow = np.array(
        [
            [
                [oracle.features(view, rule=rule.kind)[name] for name in names]
                for view in oracle.read_encoder(weights, backbone.model.config, prompt)
            ]
            for prompt in PROMPTS
        ]
    )
    distances = [i for i, feature in enumerate(names) if feature.startswith("distance")]
    others = [i for i in range(len(names)) if i not in distances]
    np.testing.assert_allclose(found[..., others], slow[..., others], atol=2e-6, rtol=0)
    np.testing.assert_allclose(found[..., distances], slow[..., distances], atol=2e-6, rtol=1e-3)
    assert len(np.unique(slow[2:, :, names.index("intrinsic_dimension")])) >= 8


@pytest.mark.parametrize(
    "rule", [DimensionRule(0.02), DimensionRule(0.5), DimensionRule(0.1, "absolute")], ids=str
)
def test_dimension_rules_equal_the_oracle(rule: DimensionRule, mistral: Backbone) -> None:
    with torch.inference_mode(), recorder_of(mistral, "intrinsic_dimension", rule=rule) as recorder:
        found = recorder.read(*pad(PROMPTS)).numpy()
    names = ("intrinsic_dimension",)
    slow = np.stack([slow_features(mistral, prompt, names, rule) for prompt in PROMPTS])
    np.testing.assert_array_equal(found, slow)


def test_window_and_key_grouping_matter() -> None:
    # Or the tests above would pass on a library that ignores either.
    prompt = PROMPTS[-1]
    names = ("intrinsic_dimension",)
    found = [
        slow_features(tiny_backbone("mistral", sliding_window=w), prompt, names, DimensionRule())
        for w in (WINDOW, 64)
    ]
    assert (found[0] < found[1]).any()
    assert found[0].max() <= N_HEADS * WINDOW


def test_norms_of_a_bias_free_gate_are_not_all_alike(llama: Backbone) -> None:
    assert llama.norms(0).std() > 0.05
