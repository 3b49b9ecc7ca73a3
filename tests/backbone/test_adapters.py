"""Distances of models whose gates carry adapters of PEFT are those of the map with the adapters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.backbone.norms import hyperplane_norms
from splinellm.errors import ConfigurationError
from splinellm.live.conditions import DropoutWarning
from splinellm.table import FeatureTable
from tests.architectures import case_model
from tests.live.models import causal_lm, with_head
from tests.tiny import random_prompts, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # PEFT's

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


def test_adapters_switched_disabled_scaled_and_merged_within_a_block() -> None:
    model = adapted(lora(lora_alpha=4))
    model.add_adapter("other", lora(r=2, lora_alpha=5))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".other." in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    gate = gate_of(model)
    with attach(model, features="spline") as recorder:

        def read_and_check(**scales: float) -> None:
            with torch.no_grad():
                model(input_ids=IDS)
            check(model, lora_rows(gate, **scales), recorder.table)

        read_and_check(default=1.0)
        model.set_adapter("other")
        read_and_check(other=2.5)
        model.base_model.set_adapter(["default", "other"])
        read_and_check(default=1.0, other=2.5)
        gate.scaling["other"] = 0.5
        read_and_check(default=1.0, other=0.5)
        with model.disable_adapter():
            read_and_check()
        gate.lora_B["default"].weight.data.mul_(-3)  # which bypasses version counters
        read_and_check(default=1.0, other=0.5)
        rows = lora_rows(gate, default=1.0, other=0.5)
        model.merge_adapter()
        read_and_check()
        np.testing.assert_allclose(lora_rows(gate), rows, rtol=1e-4, atol=1e-5)
        model.unmerge_adapter()
        read_and_check(default=1.0, other=0.5)


def test_adapter_switched_in_the_middle_of_a_text() -> None:
    # The key-value cache goes on; each token meets the hyperplanes that it was read with.
    model = adapted(lora())
    model.add_adapter("other", lora())
    randomised(model, 5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".other." in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    gate, token, nearest = gate_of(model), torch.tensor([[9], [8]]), []
    with torch.no_grad(), attach(model, features="spline") as recorder:
        cache = model(input_ids=IDS).past_key_values
        model.set_adapter("other")
        expected_cache = copy.deepcopy(cache)
        model(input_ids=token, past_key_values=cache)
        found = recorder.table
    model.set_adapter("default")
    x = inputs_of(gate, lambda: model(input_ids=IDS))
    nearest.append(x @ lora_rows(gate, default=2.0).T)
    model.set_adapter("other")
    x = inputs_of(gate, lambda: model(input_ids=token, past_key_values=expected_cache))
    nearest.append(x @ lora_rows(gate, other=2.0).T)
    before = np.abs(nearest[0]) / np.linalg.norm(lora_rows(gate, default=2.0), axis=1)
    after = np.abs(nearest[1]) / np.linalg.norm(lora_rows(gate, other=2.0), axis=1)
    tokens = np.column_stack([before.min(axis=1).reshape(2, -1), after.min(axis=1)])
    np.testing.assert_allclose(distance_mean(found), tokens.mean(axis=1), rtol=2e-4)


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


def test_dropout_in_training_mode_is_refused_only_if_a_distance_is_wanted() -> None:
    model = adapted(lora(lora_dropout=0.3)).train()
    refused = pytest.raises(ConfigurationError, match=r"another map in every call.*eval\(\)")
    with refused, pytest.warns(DropoutWarning):
        watched(model)
    with pytest.warns(DropoutWarning), attach(model, features="blocks") as recorder:
        model(input_ids=IDS)
    assert recorder.table.values.size
    model.eval()
    check(model, lora_rows(gate_of(model), default=2.0))
    without = adapted(lora()).train()
    check(without, lora_rows(gate_of(without), default=2.0))


def test_adapter_of_every_row_is_refused_only_if_a_distance_is_wanted() -> None:
    model = adapted(lora())
    inputs = {"input_ids": IDS, "adapter_names": ["default", "__base__"]}
    with pytest.raises(ConfigurationError, match=r"adapter_names.*set_adapter"):
        watched(model, **inputs)
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        model(**inputs)
    assert recorder.table.values.size


def test_gradients_are_those_of_the_model_alone() -> None:
    model = adapted(lora())

    def step() -> list[Tensor]:
        model.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = step()
    with attach(model, features="spline") as recorder:
        found = step()
    assert all(map(torch.equal, plain, found))
    check(model, lora_rows(gate_of(model), default=2.0), recorder.table)


def test_random_numbers_and_output_stay_as_they_are() -> None:
    model = adapted(lora())
    torch.manual_seed(0)
    plain = [model(input_ids=IDS).logits, torch.rand(3)]
    torch.manual_seed(0)
    with attach(model, features="spline"):
        found = [model(input_ids=IDS).logits, torch.rand(3)]
    assert all(map(torch.equal, plain, found))


def test_norms_are_asked_for_once_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(lora())
    table = watched(model)
    monkeypatch.setattr("splinellm.backbone.norms._asked_norms", None)
    assert (watched(model).values == table.values).all()


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
