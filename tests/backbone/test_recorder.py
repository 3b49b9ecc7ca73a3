"""The recorder sees everything it should, changes nothing and leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splinellm.backbone.architectures import Architecture
from splinellm.backbone.loading import Backbone
from splinellm.errors import AttentionUnavailableError
from tests.tiny import N_LAYERS, pad, random_prompts, recorder_of, tiny_backbone
from tests.watched import state_of

IDS, LENGTHS = pad(random_prompts(1, 9, 14))

pytestmark = pytest.mark.usefixtures("_inference")


@pytest.fixture
def _inference() -> Any:
    with torch.inference_mode():
        yield


def inputs_of(module: nn.Module) -> list[Tensor]:
    """Record what a module receives; a hook as a user might have one."""
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].clone()))
    return seen


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("features", ["paper,blocks", "intrinsic_dimension", "sign_mean"])
def test_nothing_is_left_behind(kind: str, features: str) -> None:
    backbone = tiny_backbone(kind)
    mine = inputs_of(backbone.model.layers[1].mlp)  # a user's hook survives
    before = state_of(backbone.model)
    output = backbone.model(IDS).last_hidden_state
    with recorder_of(backbone, features) as recorder:
        assert state_of(backbone.model) != before
        recorder.read(IDS, LENGTHS)
    assert state_of(backbone.model) == before
    assert torch.equal(backbone.model(IDS).last_hidden_state, output)
    assert len(mine) == 3


def test_nothing_is_left_behind_when_the_forward_pass_fails() -> None:
    backbone = tiny_backbone()
    before = state_of(backbone.model)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    handle = backbone.model.layers[1].mlp.up_proj.register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError), recorder_of(backbone) as recorder:
        recorder.read(IDS, LENGTHS)
    handle.remove()
    assert state_of(backbone.model) == before


def test_nothing_is_left_behind_when_attaching_fails_half_way() -> None:
    backbone = tiny_backbone()
    before = state_of(backbone.model)
    backbone.model.layers[2].mlp.gate_proj = nn.Identity()
    del backbone.model.layers[2].mlp.gate_proj  # the last layer's gate cannot be found
    with pytest.raises(AttributeError), recorder_of(backbone, "intrinsic_dimension,sign_mean"):
        pytest.fail("attached to a model without its last gate")
    assert state_of(backbone.model)[0] == before[0]
    assert state_of(backbone.model)[2:] == before[2:]


def test_model_whose_attention_cannot_be_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    before = state_of(backbone.model)
    monkeypatch.setattr(backbone.model, "set_attn_implementation", lambda _name: None)
    with pytest.raises(AttentionUnavailableError, match=r"LlamaModel.*intrinsic_dimension"):
        recorder_of(backbone).__enter__()
    assert state_of(backbone.model) == before
    with recorder_of(backbone, "spline") as recorder:  # the gate needs no attention
        assert recorder.read(IDS, LENGTHS).isfinite().all()


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_watched_layers_compute_the_same_bits(kind: str) -> None:
    backbone = tiny_backbone(kind)
    seen = inputs_of(backbone.model.layers[-1].mlp.gate_proj)
    backbone.model(IDS, use_cache=False)
    with recorder_of(backbone) as recorder:
        recorder.read(IDS, LENGTHS)
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])


def test_values_do_not_depend_on_what_stands_at_padding(llama: Backbone) -> None:
    with recorder_of(llama) as recorder:
        expected = recorder.read(IDS, LENGTHS)
        for filler in (2, 3, 300):
            assert torch.equal(recorder.read(*pad(random_prompts(1, 9, 14), filler)), expected)


def test_second_batch_owes_nothing_to_the_first(llama: Backbone) -> None:
    small = pad(random_prompts(3, 2, seed=5))
    with recorder_of(llama) as recorder:
        expected = recorder.read(*small)
        recorder.read(IDS, LENGTHS)
        assert torch.equal(recorder.read(*small), expected)


@pytest.mark.parametrize(
    ("features", "unused"),
    [
        ("sign_mean", ["mlp.up_proj", "mlp.down_proj"]),
        ("paper,blocks", ["mlp.up_proj", "mlp.down_proj"]),
        ("intrinsic_dimension", ["self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"]),
    ],
)
def test_forward_pass_stops_when_all_is_seen(features: str, unused: list[str]) -> None:
    backbone = tiny_backbone()
    layers = backbone.model.layers
    with recorder_of(backbone, features, "0-1") as recorder:
        expected = recorder.read(IDS, LENGTHS)
    calls: list[str] = []
    later = {"layer 2": layers[2], "final norm": backbone.model.norm}
    for name, module in later.items() | {(n, layers[1].get_submodule(n)) for n in unused}:
        module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    with recorder_of(backbone, features, "0-1") as recorder:
        assert torch.equal(recorder.read(IDS, LENGTHS), expected)
    assert calls == []


@pytest.mark.parametrize("layers", ["0", "1", "2", "0,2", "1-2"])
def test_subset_of_layers_equals_their_columns(mistral: Backbone, layers: str) -> None:
    with recorder_of(mistral) as recorder:
        everything = recorder.read(IDS, LENGTHS)
    with recorder_of(mistral, layers=layers) as recorder:
        found = recorder.read(IDS, LENGTHS)
    wanted = recorder._reduction.schema.layers
    assert everything.shape[1] == N_LAYERS
    assert torch.equal(found, everything[:, list(wanted)])


@pytest.mark.parametrize(
    "features",
    [
        "intrinsic_dimension",
        "sign_std",
        "distance_std",
        "distance_min,sign_max",
        "spline",
        "sign_block_03,sign_block_31,intrinsic_dimension",
    ],
)
def test_subset_of_features_equals_their_columns(llama: Backbone, features: str) -> None:
    with recorder_of(llama) as recorder:
        everything = recorder.read(IDS, LENGTHS)
    names = recorder._reduction.schema.features
    with recorder_of(llama, features) as recorder:
        found = recorder.read(IDS, LENGTHS)
    columns = [names.index(name) for name in recorder._reduction.schema.features]
    assert torch.equal(found, everything[..., columns])


def test_gate_is_not_hooked_for_the_dimension_alone() -> None:
    backbone = tiny_backbone()
    with recorder_of(backbone, "intrinsic_dimension"):
        assert not any(layer.mlp.gate_proj._forward_hooks for layer in backbone.model.layers)
        assert backbone.model.config._attn_implementation == "splinellm_sdpa"
    with recorder_of(backbone, "spline"):
        assert backbone.model.config._attn_implementation == "sdpa"


def test_eager_model_is_eager_again_afterwards() -> None:
    backbone = tiny_backbone()
    with recorder_of(backbone) as recorder:
        expected = recorder.read(IDS, LENGTHS)
    backbone.model.set_attn_implementation("eager")
    with recorder_of(backbone) as recorder:
        assert torch.equal(recorder.read(IDS, LENGTHS), expected)
    assert backbone.model.config._attn_implementation == "eager"


def test_architecture_entry_is_all_that_names_the_parts() -> None:
    # As if the parts had other names: another entry finds them, the same numbers come out.
    backbone = tiny_backbone()
    with recorder_of(backbone) as recorder:
        expected = recorder.read(IDS, LENGTHS)
    shell = nn.Module()
    shell.blocks = nn.ModuleList([_Renamed(layer) for layer in backbone.model.layers])
    backbone.model.shell = shell
    backbone.architecture = Architecture("x", "shell.blocks", "inner.attention", "inner.first")
    with recorder_of(backbone) as recorder:
        assert torch.equal(recorder.read(IDS, LENGTHS), expected)


class _Renamed(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.attention, self.inner.first = layer.self_attn, layer.mlp.gate_proj


def test_dropped_model_is_freed() -> None:
    backbone = tiny_backbone()
    with recorder_of(backbone) as recorder:
        recorder.read(IDS, LENGTHS)
    model = weakref.ref(backbone.model)
    del backbone, recorder
    gc.collect()
    assert model() is None
