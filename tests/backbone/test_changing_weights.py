"""A norm is never older than the weights: whatever changes them, whenever."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from splinellm import FeatureTable, SplineExtractor, attach
from splinellm.backbone import norms
from splinellm.backbone.loading import Backbone
from splinellm.errors import ConfigurationError, NothingRecordedError
from tests.architectures import case_model
from tests.live.models import causal_lm, extractor_of, with_head
from tests.tiny import random_prompts, tiny_model, tiny_tokenizer

IDS = torch.tensor(random_prompts(8, 8))
Change = Callable[[PreTrainedModel], None]
SCALE = torch.linspace(0.3, 3.0, 72)[:, None]


def gate_of(model: PreTrainedModel) -> nn.Linear:
    gate: nn.Linear = model.base_model.layers[1].mlp.gate_proj
    return gate


def edited_in_place(model: PreTrainedModel) -> None:
    with torch.no_grad():
        gate_of(model).weight.mul_(SCALE)


def edited_through_data(model: PreTrainedModel) -> None:
    version = gate_of(model).weight._version
    gate_of(model).weight.data.mul_(SCALE)
    assert gate_of(model).weight._version == version


def edited_through_numpy(model: PreTrainedModel) -> None:
    gate_of(model).weight.detach().numpy()[:] *= SCALE.numpy()


def data_replaced(model: PreTrainedModel) -> None:
    gate_of(model).weight.data = gate_of(model).weight.data * SCALE


def parameter_replaced(model: PreTrainedModel) -> None:
    gate_of(model).weight = nn.Parameter(gate_of(model).weight.detach() * SCALE)


def module_replaced(model: PreTrainedModel) -> None:
    other = nn.Linear(32, 72, bias=False)
    other.weight.data.copy_(gate_of(model).weight * SCALE)
    model.base_model.layers[1].mlp.gate_proj = other


def layer_replaced(model: PreTrainedModel) -> None:
    model.base_model.layers[1] = tiny_model(seed=3).layers[1]


def state_loaded(model: PreTrainedModel) -> None:
    state = gate_of(model).state_dict()
    gate_of(model).load_state_dict({name: value * SCALE for name, value in state.items()})


def state_assigned(model: PreTrainedModel) -> None:
    state = {name: value * SCALE for name, value in gate_of(model).state_dict().items()}
    gate_of(model).load_state_dict(state, assign=True)


def trained(model: PreTrainedModel) -> None:
    optimiser = torch.optim.SGD([gate_of(model).weight], lr=2.0)
    with torch.enable_grad():
        model(input_ids=IDS, labels=IDS).loss.backward()
    optimiser.step()
    model.zero_grad()


def cast_and_back(model: PreTrainedModel) -> None:
    gate_of(model).to(torch.bfloat16).to(torch.float32)


def parametrised(model: PreTrainedModel) -> None:
    class Scaled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * SCALE

    nn.utils.parametrize.register_parametrization(gate_of(model), "weight", Scaled())


def forward_patched(model: PreTrainedModel) -> None:
    gate = gate_of(model)
    scale, forward = SCALE[:, 0] + 1, gate.forward
    gate.forward = lambda x: forward(x) * scale  # type: ignore[method-assign]


CHANGES: list[Change] = [
    edited_in_place,
    edited_through_data,
    edited_through_numpy,
    data_replaced,
    parameter_replaced,
    module_replaced,
    layer_replaced,
    state_loaded,
    state_assigned,
    trained,
    cast_and_back,
    parametrised,
    forward_patched,
]


def truth(model: PreTrainedModel) -> np.ndarray:
    """Mean distance of the texts in the layer, from what its gate answers in float64."""
    exact: Any = copy.deepcopy(model).double()
    gate, seen = gate_of(exact), []
    if "forward" in vars(gate):  # the copy's own, not the original's
        del gate.forward
        scale = SCALE[:, 0].double() + 1
        forward = gate.forward
        gate.forward = lambda x: forward(x) * scale  # type: ignore[method-assign]
    hook = gate.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        exact(input_ids=IDS)
        hook.remove()
        rows = gate(torch.eye(32, dtype=torch.float64)).T.numpy()  # (K, D): there is no bias
    h = seen[0].flatten(0, 1).numpy() @ rows.T
    nearest: np.ndarray = (np.abs(h) / np.linalg.norm(rows, axis=1)).min(axis=1)
    return nearest.reshape(2, -1).mean(axis=1)  # type: ignore[no-any-return]


def column(table: FeatureTable, layer: int = 1) -> np.ndarray:
    values: np.ndarray = table.array[:, layer, table.schema.features.index("distance_mean")]
    return values


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_change_within_a_block_and_between_blocks(
    change: Change,
) -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features="spline") as recorder:
        model(input_ids=IDS)
        change(model)
        model(input_ids=IDS)
        found = column(recorder.table)
    np.testing.assert_allclose(found, truth(model), rtol=5e-4)
    with torch.no_grad(), attach(model, features="spline") as recorder:
        model(input_ids=IDS)
    assert (column(recorder.table) == found).all()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_change_before_the_first_pass_of_a_block(change: Change) -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features="spline") as recorder:
        change(model)
        model(input_ids=IDS)
    np.testing.assert_allclose(column(recorder.table), truth(model), rtol=5e-4)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_change_between_two_calls_of_an_extractor(
    change: Change,
) -> None:
    model = causal_lm()
    backbone = Backbone(model.base_model, tiny_tokenizer(), "tiny")
    extractor = SplineExtractor(backbone, features="spline")
    extractor.extract(IDS.tolist())
    change(model)
    np.testing.assert_allclose(column(extractor.extract(IDS.tolist())), truth(model), rtol=5e-4)
    assert extractor.verify().passed


def test_weights_that_change_between_the_batches_of_one_call() -> None:
    # Rows scaled by positive numbers are the same hyperplanes: the first layer's distances stay.
    model = causal_lm()
    backbone = Backbone(model.base_model, tiny_tokenizer(), "tiny")
    extractor = SplineExtractor(backbone, features="spline", layers="1", batch_tokens=8)
    plain = extractor.extract(IDS.tolist())
    found = extractor.extract(IDS.tolist(), on_progress=lambda *_: edited_in_place(model))
    np.testing.assert_allclose(column(found, 0), column(plain, 0), rtol=1e-4)


@pytest.mark.parametrize("edit", [edited_in_place, data_replaced, parameter_replaced])
def test_change_in_the_middle_of_a_text(edit: Change) -> None:
    # Scaling rows moves no hyperplane, so the layer's distances stay what they would have been.
    found = []
    for change in (lambda _model: None, edit):
        model = causal_lm()
        with torch.no_grad(), attach(model, features="spline") as recorder:
            cache = model(input_ids=IDS).past_key_values
            change(model)
            for token in (4, 9, 5):
                model(input_ids=torch.tensor([[token], [6]]), past_key_values=cache)
            found.append(column(recorder.table))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_change_of_weights_without_a_counter(kind: str) -> None:
    # Rows that are scaled by positive numbers are the same hyperplanes, so the layer's distances
    # stay what they would have been; nothing before the gates has changed.
    found = []
    with torch.inference_mode():
        for scale in (1.0, 4.0):
            # Not from the fixtures: its tensors are made in inference mode. Without biases.
            model: Any = causal_lm() if kind == "llama" else with_head(case_model(kind))
            mlp = model.model.layers[1].mlp
            rows = mlp.experts.gate_up_proj if kind == "mixtral" else mlp.gate_proj.weight
            assert rows.is_inference()
            n_gates = rows.shape[-2] // 2 if kind == "mixtral" else rows.shape[-2]
            with attach(model, features="spline") as recorder:
                cache = model(input_ids=IDS).past_key_values
                for token in (4, 9):
                    rows[..., :n_gates, :] *= scale
                    model(input_ids=torch.tensor([[token], [6]]), past_key_values=cache)
            found.append(column(recorder.table))
    np.testing.assert_allclose(*found, rtol=5e-4)


def test_layers_that_change_places() -> None:
    model: Any = causal_lm()
    with torch.no_grad(), attach(model, features="paper") as recorder:
        model(input_ids=IDS)
        model.model.layers = torch.nn.ModuleList(reversed([*model.model.layers]))
        model(input_ids=IDS, use_cache=False)
    expected = extractor_of(copy.deepcopy(model), "paper").extract(IDS.tolist())
    np.testing.assert_allclose(recorder.table.values, expected.values, rtol=2e-3, atol=2e-6)


def test_layer_of_another_model_shows_its_attention() -> None:
    model: Any = causal_lm()
    other: Any = causal_lm()
    with torch.no_grad():
        other.model.layers[1].self_attn.q_proj.weight.mul_(2)
    with torch.no_grad(), attach(model, features="paper") as recorder:
        model(input_ids=IDS)
        model.model.layers[1] = other.model.layers[1]
        model(input_ids=IDS)
    assert other.config._attn_implementation == "sdpa"
    found = recorder.table.values
    whole: Any = causal_lm()
    whole.load_state_dict(model.state_dict())
    expected = extractor_of(whole, "paper").extract(IDS.tolist())
    np.testing.assert_allclose(found, expected.values, rtol=2e-3, atol=2e-6)


def test_layers_that_are_taken_out() -> None:
    model: Any = causal_lm()
    extractor = SplineExtractor(Backbone(model.base_model, tiny_tokenizer(), "tiny"))
    extractor.extract(IDS.tolist())
    with torch.no_grad(), attach(model) as recorder:
        model(input_ids=IDS)
        model.model.layers = model.model.layers[:2]
        model.config.num_hidden_layers = 2
        model(input_ids=IDS)
        with pytest.raises(NothingRecordedError, match="gate of layer 2 was not seen"):
            _ = recorder.table
    with pytest.raises(ConfigurationError, match="layer 2 is wanted"):
        extractor.extract(IDS.tolist())


@pytest.mark.filterwarnings("ignore::splinellm.errors.PrecisionWarning")
def test_model_that_is_converted_between_two_texts() -> None:
    model: Any = causal_lm().to(torch.bfloat16)
    with torch.no_grad(), attach(model, features="spline") as recorder:
        for dtype in (torch.bfloat16, torch.float32, torch.bfloat16, torch.float32):
            model.to(dtype)
            model(input_ids=IDS)
            assert recorder.table.provenance.dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_allclose(column(recorder.table), truth(model), rtol=5e-4)


def test_dense_norms_are_made_once_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = causal_lm(), []
    monkeypatch.setattr(
        norms, "row_norms", lambda rows: calls.append(1) or torch.linalg.vector_norm(rows, dim=1)
    )
    options = {"do_sample": False, "pad_token_id": 3, "eos_token_id": None}
    with attach(model, features="spline"):
        model.generate(input_ids=IDS, max_new_tokens=9, **options)
        assert len(calls) == 3
        model.generate(input_ids=IDS, max_new_tokens=9, **options)
        assert len(calls) == 6


EXPERTS: dict[str, Callable[[Any, torch.Tensor], None]] = {
    "in place": lambda experts, scale: experts.gate_up_proj.detach().mul_(scale),
    "through data": lambda experts, scale: experts.gate_up_proj.data.mul_(scale),
    "data replaced": lambda experts, scale: setattr(
        experts.gate_up_proj, "data", experts.gate_up_proj.data * scale
    ),
    "parameter replaced": lambda experts, scale: setattr(
        experts, "gate_up_proj", nn.Parameter(experts.gate_up_proj.detach() * scale)
    ),
    "state loaded": lambda experts, scale: experts.load_state_dict(
        {"gate_up_proj": experts.gate_up_proj.detach() * scale, "down_proj": experts.down_proj}
    ),
}


@pytest.mark.parametrize("kind", EXPERTS)
@pytest.mark.parametrize("way", ["block", "blocks", "extractor"])
@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe"])
def test_edited_experts(name: str, way: str, kind: str) -> None:
    # Scaled rows are the same hyperplanes, so the first layer's distances must not move.
    model = with_head(case_model(name))
    layer = next(
        index
        for index, layer in enumerate(model.base_model.layers)
        if hasattr(layer.mlp, "experts")
    )
    mlp = model.base_model.layers[layer].mlp
    n_experts, both, _ = mlp.experts.gate_up_proj.shape
    scale = torch.linspace(0.2, 4, n_experts * both).view(n_experts, both, 1)
    if way == "extractor":
        backbone = Backbone(model.base_model, tiny_tokenizer(), "tiny")
        extractor = SplineExtractor(backbone, features="spline")
        read = lambda: extractor.extract(IDS.tolist())  # noqa: E731
        tables = [read()]
        EXPERTS[kind](mlp.experts, scale)
        tables.append(read())
    else:
        tables = []
        with torch.no_grad(), attach(model, features="spline") as recorder:
            model(input_ids=IDS)
            tables.append(recorder.table)
            if way == "block":
                EXPERTS[kind](mlp.experts, scale)
                model(input_ids=IDS)
                tables.append(recorder.table)
        if way == "blocks":
            EXPERTS[kind](mlp.experts, scale)
            with torch.no_grad(), attach(model, features="spline") as recorder:
                model(input_ids=IDS)
            tables.append(recorder.table)
    np.testing.assert_allclose(column(tables[1], layer), column(tables[0], layer), rtol=1e-4)


def test_weights_in_float64() -> None:
    model = causal_lm().double()
    with torch.no_grad(), attach(model, features="spline") as recorder:
        model(input_ids=IDS)
    np.testing.assert_allclose(column(recorder.table), truth(model), rtol=1e-5)


def test_edited_shared_expert() -> None:
    model = with_head(case_model("qwen2_moe"))
    shared = model.base_model.layers[0].mlp.shared_expert.gate_proj
    with torch.no_grad(), attach(model, features="spline") as recorder:
        model(input_ids=IDS)
        before = column(recorder.table, 0)
        shared.weight.data.mul_(7)
        model(input_ids=IDS)
    np.testing.assert_allclose(column(recorder.table, 0), before, rtol=1e-4)
