"""Whoever changes a model in memory gets the changed model's numbers, and its name in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from accelerate.utils import offload_weight
from torch import nn

from splinellm.backbone.loading import Backbone
from splinellm.extraction import SplineExtractor
from splinellm.extraction.caching import CachedExtractor
from splinellm.extraction.hidden_states import mean_hidden_states
from splinellm.extraction.stores import DiskStore, MemoryStore
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # of PEFT

TEXTS = ["one two three four", "five"]


def _row_in_place(model: Any) -> None:
    with torch.no_grad():
        model.layers[0].mlp.gate_proj.weight[3] *= 2


def _row_through_data(model: Any) -> None:
    model.layers[0].mlp.gate_proj.weight.data[3] = 0.5


def _column_through_data(model: Any) -> None:
    model.layers[0].mlp.down_proj.weight.data[:, 5] = 0


def _data_replaced(model: Any) -> None:
    weight = model.layers[1].self_attn.q_proj.weight
    weight.data = weight.data * 1.5


def _parameter_replaced(model: Any) -> None:
    up = model.layers[0].mlp.up_proj
    up.weight = nn.Parameter(up.weight.detach() * -1)


def _rows_swapped_through_data(model: Any) -> None:
    weight = model.embed_tokens.weight
    weight.data = weight.data.flip(0)


def _state_loaded(model: Any) -> None:
    model.load_state_dict({name: 0.9 * it for name, it in model.state_dict().items()})


def _optimiser_step(model: Any) -> None:
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    model(input_ids=torch.tensor([[4, 5, 6]])).last_hidden_state.square().mean().backward()
    optimiser.step()
    model.eval()


EDITS: list[Callable[[Any], None]] = [
    _row_in_place,
    _row_through_data,
    _column_through_data,
    _data_replaced,
    _parameter_replaced,
    _rows_swapped_through_data,
    _state_loaded,
    _optimiser_step,
]
SEEN_AT_A_GLANCE = [edit for edit in EDITS if edit not in (_row_through_data, _column_through_data)]


def _fresh(model: Any, **settings: Any) -> SplineExtractor:
    tokenizer = None if isinstance(model, Backbone) else tiny_tokenizer()
    return SplineExtractor(model, tokenizer, **settings)


def _extractor(kind: str, model: Any, folder: Path) -> SplineExtractor | CachedExtractor:
    if kind == "prefix":
        return _fresh(model, prefix_cache_bytes=2**24)
    extractor = _fresh(model)
    if kind == "plain":
        return extractor
    store = MemoryStore() if kind == "memory" else DiskStore(folder / "store.sqlite")
    return CachedExtractor(extractor, store)


def _is_read_anew(extractor: SplineExtractor | CachedExtractor, model: Any, edit: Any) -> None:
    texts = [*TEXTS, "one two three four " * 20]  # more than a block of the prefix cache
    before = extractor.extract(texts)
    edit(model)
    after, fresh = extractor.extract(texts), _fresh(model).extract(texts)
    np.testing.assert_allclose(after.array, fresh.array, rtol=1e-5, atol=1e-5)
    assert not np.allclose(after.array, before.array, rtol=1e-4, atol=1e-4)
    assert after.provenance.weights_sha256 == fresh.provenance.weights_sha256
    assert after.provenance.weights_sha256 != before.provenance.weights_sha256
    again = extractor.extract(texts)
    np.testing.assert_allclose(again.array, after.array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "memory", "disk", "prefix"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_edits_of_a_model_that_was_given(edit: Any, kind: str, tmp_path: Path) -> None:
    model = tiny_model()
    _is_read_anew(_extractor(kind, model, tmp_path), model, edit)


@pytest.mark.parametrize("kind", ["memory", "prefix"])
@pytest.mark.parametrize("edit", SEEN_AT_A_GLANCE, ids=lambda edit: edit.__name__)
def test_edits_of_a_model_that_was_loaded(edit: Any, kind: str, tmp_path: Path) -> None:
    backbone = Backbone(tiny_model(), tiny_tokenizer(), "loaded", "0" * 64)
    extractor = _extractor(kind, backbone, tmp_path)
    assert extractor.provenance.weights_sha256 == "0" * 64
    _is_read_anew(extractor, backbone.model, edit)


def _edit_kept_in_memory(model: Any) -> None:
    hook = model.layers[1].mlp.down_proj._hf_hook
    with torch.no_grad():
        hook.weights_map["weight"].mul_(2)


def _edit_kept_on_disk(model: Any) -> None:
    loader = model.layers[1].mlp.down_proj._hf_hook.weights_map.dataset
    name = "layers.1.mlp.down_proj.weight"
    offload_weight(loader[name] * 2, name, loader.save_folder)


@pytest.mark.parametrize("kind", ["plain", "memory", "prefix"])
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_edits_of_weights_that_are_kept_elsewhere(kind: str, place: str, tmp_path: Path) -> None:
    model, here = tiny_model(), torch.device("cpu")
    if place == "memory":
        cpu_offload(model, execution_device=here)
        _is_read_anew(_extractor(kind, model, tmp_path), model, _edit_kept_in_memory)
    else:
        disk_offload(model, str(tmp_path / "kept"), execution_device=here)
        _is_read_anew(_extractor(kind, model, tmp_path), model, _edit_kept_on_disk)


def test_edits_of_a_loaded_models_weights_that_are_kept_in_memory(tmp_path: Path) -> None:
    model = tiny_model()
    cpu_offload(model, execution_device=torch.device("cpu"))
    backbone = Backbone(model, tiny_tokenizer(), "loaded", "0" * 64)
    _is_read_anew(_extractor("memory", backbone, tmp_path), model, _edit_kept_in_memory)


def test_a_model_that_was_changed_once_is_looked_at_in_full() -> None:
    backbone = Backbone(tiny_model(), tiny_tokenizer(), "loaded", "0" * 64)
    cached = CachedExtractor(SplineExtractor(backbone), MemoryStore())
    _is_read_anew(cached, backbone.model, _row_in_place)
    _is_read_anew(cached, backbone.model, _column_through_data)


def test_weights_that_are_as_they_were_are_found_again(tmp_path: Path) -> None:
    model = tiny_model()
    cached = CachedExtractor(_fresh(model), DiskStore(tmp_path / "store.sqlite"))
    before = cached.extract(TEXTS)
    kept = model.layers[0].mlp.gate_proj.weight.detach().clone()
    _row_in_place(model)
    cached.extract(TEXTS)
    model.layers[0].mlp.gate_proj.weight.data.copy_(kept)
    cached.extractor.reader.read = None  # type: ignore[attr-defined]  # nothing is computed
    after = cached.extract(TEXTS)
    assert (after.array == before.array).all()
    assert after.provenance == before.provenance


@pytest.mark.parametrize("move", [lambda m: m.to("cpu"), lambda m: m.double().float()])
def test_a_loaded_model_that_is_moved_is_the_same(move: Any) -> None:
    backbone = Backbone(tiny_model(), tiny_tokenizer(), "loaded", "0" * 64)
    extractor = SplineExtractor(backbone)
    move(backbone.model)
    assert extractor.provenance.weights_sha256 == "0" * 64


def test_a_loaded_model_that_is_converted_is_another() -> None:
    backbone = Backbone(tiny_model(), tiny_tokenizer(), "loaded", "0" * 64)
    extractor = SplineExtractor(backbone, features="sign_mean")
    backbone.model.to(torch.bfloat16)
    assert extractor.provenance.dtype == "bfloat16"
    assert extractor.provenance.weights_sha256 != "0" * 64


def _steered(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    return output + 0.5


@pytest.mark.parametrize("kind", ["memory", "disk", "prefix"])
@pytest.mark.parametrize("is_given", [True, False])
def test_hooks_that_come_and_go(kind: str, tmp_path: Path, *, is_given: bool) -> None:
    model = tiny_model()
    given: Any = model if is_given else Backbone(model, tiny_tokenizer(), "loaded", "0" * 64)
    extractor = _extractor(kind, given, tmp_path)
    texts = ["one two three four " * 20]
    before = extractor.extract(texts).array
    handle = model.layers[0].mlp.register_forward_hook(_steered)
    steered = extractor.extract(texts).array
    np.testing.assert_allclose(steered, _fresh(model).extract(texts).array, rtol=1e-5, atol=1e-5)
    assert not np.allclose(steered, before)
    handle.remove()
    np.testing.assert_allclose(extractor.extract(texts).array, before, rtol=1e-5, atol=1e-5)


def test_a_store_on_disk_does_not_confuse_hooked_models(tmp_path: Path) -> None:
    tables = []
    for is_hooked in (False, True, False):
        model = tiny_model()
        if is_hooked:
            model.layers[0].mlp.register_forward_hook(_steered)
        extractor = CachedExtractor(_fresh(model), DiskStore(tmp_path / "store.sqlite"))
        tables.append(extractor.extract(TEXTS).array)
    assert not np.allclose(tables[1], tables[0])
    assert (tables[2] == tables[0]).all()


@pytest.mark.parametrize("kind", ["plain", "memory", "disk", "prefix"])
def test_adapters_that_are_switched(kind: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["gate_proj"], init_lora_weights=False)
    model = peft.get_peft_model(tiny_model(), config)
    extractor = _extractor(kind, model, tmp_path)
    texts = ["one two three four " * 20]
    on = extractor.extract(texts)
    with model.disable_adapter():
        off, fresh = extractor.extract(texts), _fresh(model).extract(texts)
        np.testing.assert_allclose(off.array, fresh.array, rtol=1e-5, atol=1e-5)
        assert off.provenance.weights_sha256 == fresh.provenance.weights_sha256
    assert not np.allclose(on.array, off.array)
    assert on.provenance.weights_sha256 != off.provenance.weights_sha256
    again = extractor.extract(texts)
    np.testing.assert_allclose(again.array, on.array, rtol=1e-5, atol=1e-5)
    assert again.provenance == on.provenance


def test_transformers_own_hooks_change_nothing(tmp_path: Path) -> None:
    model = tiny_model()
    cached = CachedExtractor(_fresh(model), DiskStore(tmp_path / "store.sqlite"))
    before = cached.extract(TEXTS)
    model(input_ids=torch.tensor([[4, 5]]), output_hidden_states=True)
    assert any(module._forward_hooks for module in model.modules())
    for extractor in (cached, CachedExtractor(_fresh(model), cached.store)):
        extractor.extractor.reader.read = None  # type: ignore[attr-defined]  # nothing is computed
        assert (extractor.extract(TEXTS).array == before.array).all()


def test_adapters_of_another_strength_have_another_hash() -> None:
    peft = pytest.importorskip("peft")
    hashes = set()
    for alpha in (8, 16):
        torch.manual_seed(0)
        config = peft.LoraConfig(
            target_modules=["gate_proj"], lora_alpha=alpha, init_lora_weights=False
        )
        model = peft.get_peft_model(tiny_model(), config)
        hashes.add(_fresh(model).provenance.weights_sha256)
    assert len(hashes) == 2


def test_a_model_in_training_is_read_without_dropout() -> None:
    model = tiny_model()
    for layer in model.layers:
        layer.self_attn.attention_dropout = 0.9
    extractor = _fresh(model)
    before = extractor.extract(TEXTS)
    model.train()
    after = extractor.extract(TEXTS)
    assert (after.array == before.array).all()
    assert after.provenance == before.provenance
    assert all(module.training for module in model.modules())


def test_whatever_reads_a_model_in_training_reads_it_without_dropout() -> None:
    model = tiny_model()
    for layer in model.layers:
        layer.self_attn.attention_dropout = 0.9
    extractor = _fresh(model)
    model.train()
    assert extractor.verify().passed
    first, second = (extractor.layer_inputs(TEXTS[0], [2])[2] for _ in range(2))
    assert (first == second).all()
    assert (mean_hidden_states(extractor, TEXTS) == mean_hidden_states(extractor, TEXTS)).all()
    assert all(module.training for module in model.modules())
