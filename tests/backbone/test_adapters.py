"""Distances of models whose gates carry adapters of PEFT are those of the map with the adapters."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import Tensor

from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.backbone.norms import hyperplane_norms
from tests.architectures import case_model
from tests.backbone.adapted import (
    IDS,
    LAYER,
    adapted,
    check,
    distance_mean,
    gate_of,
    inputs_of,
    lora,
    lora_rows,
    mean_distances,
    numbers,
    watched,
)
from tests.live.models import causal_lm, with_head
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # PEFT's


def test_lora_equals_the_merged_model() -> None:
    model = adapted(lora(lora_alpha=12))
    found = watched(model)
    check(model, lora_rows(gate_of(model), default=3.0), found)
    merged = copy.deepcopy(model).merge_and_unload()
    expected = watched(merged)
    assert np.abs(found.values / expected.values - 1).max() < 2e-3
    base = Backbone(merged.model, tiny_tokenizer(), "merged")
    extracted = SplineExtractor(base, features="spline").extract(IDS.tolist())
    np.testing.assert_allclose(extracted.values, expected.values, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("granularity", ["prompt", "token"])
def test_extraction_and_its_verification_see_the_adapter(granularity: Any) -> None:
    model = adapted(lora())
    backbone = Backbone(model.base_model.model.model, tiny_tokenizer(), "lora")
    extractor = SplineExtractor(backbone, features="spline,blocks")
    merged = copy.deepcopy(model).merge_and_unload().model
    twin = SplineExtractor(Backbone(merged, tiny_tokenizer(), "merged"), features="spline,blocks")
    found, expected = (
        it.extract(IDS.tolist(), granularity=granularity) for it in (extractor, twin)
    )
    np.testing.assert_allclose(found.values, expected.values, rtol=2e-3, atol=2e-5)
    report = extractor.verify()
    assert report.passed
    assert report.distance < 2e-3


def test_rank_stabilised_lora() -> None:
    model = adapted(lora(use_rslora=True, lora_alpha=6))
    check(model, lora_rows(gate_of(model), default=6 / 4**0.5))


def test_lora_with_a_bias_of_its_own() -> None:
    base = causal_lm(mlp_bias=True)
    with torch.no_grad():
        base.model.layers[LAYER].mlp.gate_proj.bias.mul_(300)  # hides the columns in rounding
    model = adapted(lora(lora_bias=True), base)
    gate = gate_of(model)
    scale = gate.scaling["default"]
    bias = numbers(gate.base_layer.bias) + scale * numbers(gate.lora_B["default"].bias)
    x = inputs_of(gate, lambda: model(input_ids=IDS))
    expected = mean_distances(x, lora_rows(gate, default=scale), bias)
    np.testing.assert_allclose(distance_mean(watched(model)), expected, rtol=2e-4)


def test_dora() -> None:
    model = adapted(lora(use_dora=True))
    gate = gate_of(model)
    with torch.no_grad():
        gate.lora_magnitude_vector["default"].weight.uniform_(0.1, 3.0)
    rows = lora_rows(gate, default=gate.scaling["default"])
    lengths = numbers(gate.lora_magnitude_vector["default"].weight)
    check(model, lengths[:, None] * rows / np.sqrt((rows**2).sum(axis=1, keepdims=True)))


OTHERS: dict[str, peft.PeftConfig] = {
    "ia3_inputs": peft.IA3Config(
        target_modules=["gate_proj"], feedforward_modules=["gate_proj"], init_ia3_weights=False
    ),
    "ia3_outputs": peft.IA3Config(
        target_modules=["gate_proj"], feedforward_modules=[], init_ia3_weights=False
    ),
    "loha": peft.LoHaConfig(target_modules=["gate_proj"], r=3, init_weights=False),
    "lokr": peft.LoKrConfig(target_modules=["gate_proj"], r=3, init_weights=False),
    "oft": peft.OFTConfig(target_modules=["gate_proj"], oft_block_size=8, init_weights=False),
    "boft": peft.BOFTConfig(target_modules=["gate_proj"], boft_block_size=4, init_weights=False),
    "hra": peft.HRAConfig(target_modules=["gate_proj"], r=2, init_weights=False),
    "vera": peft.VeraConfig(target_modules=["gate_proj"], r=8, init_weights=False),
    "adalora": peft.AdaLoraConfig(target_modules=["gate_proj"], total_step=9, init_r=4),
    "fourier": peft.FourierFTConfig(
        target_modules=["gate_proj"], n_frequency=50, init_weights=False
    ),
    "pissa": lora(init_lora_weights="pissa"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_adapters(kind: str) -> None:
    torch.manual_seed(4)
    model = adapted(OTHERS[kind])
    plain = numbers(gate_of(model).base_layer.weight)
    found = watched(model)
    x = inputs_of(gate_of(model), lambda: model(input_ids=IDS))
    rows = numbers(gate_of(copy.deepcopy(model).merge_and_unload()).weight)
    assert kind == "pissa" or np.abs(rows - plain).max() > 0.02
    np.testing.assert_allclose(distance_mean(found), mean_distances(x, rows), rtol=3e-4)


def test_copy_of_a_module_that_is_trained_as_a_whole() -> None:
    model = adapted(lora(target_modules=["q_proj"], modules_to_save=["gate_proj"]))
    gate = gate_of(model)
    with torch.no_grad():
        gate.modules_to_save["default"].weight.mul_(torch.linspace(0.5, 2, 72)[:, None])
    check(model, numbers(gate.modules_to_save["default"].weight))
    with model.disable_adapter():
        check(model, numbers(gate.original_module.weight))


def test_gate_of_gpt2_keeps_its_weight_transposed() -> None:
    model = adapted(
        lora(target_modules=["c_fc"], fan_in_fan_out=True), with_head(case_model("gpt2"))
    )
    gate = model.base_model.model.transformer.h[LAYER].mlp.c_fc
    rows = numbers(gate.base_layer.weight).T + gate.scaling["default"] * (
        numbers(gate.lora_B["default"].weight) @ numbers(gate.lora_A["default"].weight)
    )
    x = inputs_of(gate, lambda: model(input_ids=IDS))
    expected = mean_distances(x, rows, numbers(gate.base_layer.bias))
    np.testing.assert_allclose(distance_mean(watched(model)), expected, rtol=2e-4)


def test_fused_gate() -> None:
    base = with_head(case_model("phi3"))
    model = adapted(lora(target_modules=["gate_up_proj"]), base)
    gate = model.base_model.model.model.layers[LAYER].mlp.gate_up_proj
    rows = lora_rows(gate, default=2.0)
    x = inputs_of(gate, lambda: model(input_ids=IDS))
    expected = mean_distances(x, rows[: len(rows) // 2])
    np.testing.assert_allclose(distance_mean(watched(model)), expected, rtol=2e-4)


def experts_of(model: Any) -> Any:
    return next(m for m in model.modules() if type(m).__name__.endswith("Experts"))


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe"])
@pytest.mark.parametrize("parameters", [["experts.gate_up_proj"], ["gate_up_proj", "down_proj"]])
def test_adapters_of_experts_equal_the_merged_model(name: str, parameters: list[str]) -> None:
    config = peft.LoraConfig(target_modules=[], target_parameters=parameters, r=2)
    model = adapted(config, with_head(case_model(name)))
    before = experts_of(model).gate_up_proj.clone()
    found = watched(model)
    merged = copy.deepcopy(model).merge_and_unload()
    assert (experts_of(merged).gate_up_proj - before).abs().max() > 0.05
    np.testing.assert_allclose(found.values, watched(merged).values, rtol=2e-3, atol=1e-6)
    with model.disable_adapter():
        plain = watched(model)
    assert np.abs(found.values / plain.values - 1).max() > 0.01
    backbone = Backbone(model.base_model.model.model, tiny_tokenizer(), "lora")
    extractor = SplineExtractor(backbone, features="spline,blocks")
    report = extractor.verify()
    assert report.passed
    assert report.distance < 2e-3


def test_experts_with_adapters_train_as_ever() -> None:
    config = peft.LoraConfig(target_modules=[], target_parameters=["gate_up_proj"], r=2)
    model = adapted(config, with_head(case_model("mixtral")))

    def step() -> list[Tensor]:
        model.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = step()
    with attach(model, features="spline"):
        found = step()
    assert len(plain) == 6
    assert all(map(torch.equal, plain, found))


def test_shared_expert_with_an_adapter_equals_the_merged_model() -> None:
    model = adapted(lora(), with_head(case_model("qwen2_moe")))
    found = watched(model)
    merged = copy.deepcopy(model).merge_and_unload()
    np.testing.assert_allclose(found.values, watched(merged).values, rtol=2e-3, atol=1e-6)
    backbone = Backbone(model.base_model.model.model, tiny_tokenizer(), "lora")
    assert SplineExtractor(backbone, features="spline,blocks").verify().passed


def test_half_precision_base_under_a_float32_adapter() -> None:
    model = adapted(lora(), with_head(tiny_model()).to(torch.bfloat16))
    gate = gate_of(model)
    assert gate.lora_A["default"].weight.dtype == torch.float32
    rows = lora_rows(gate, default=2.0)
    found = hyperplane_norms(gate, rows.shape[1], torch.device("cpu")).double().numpy()
    np.testing.assert_allclose(found, np.linalg.norm(rows, axis=1), rtol=4e-3)
