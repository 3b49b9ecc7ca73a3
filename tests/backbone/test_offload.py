"""Weights that a dispatcher keeps on disk or in memory until a module is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone, load_backbone
from tests.architectures import CASES, case_model
from tests.tiny import random_prompts, tiny_tokenizer

PROMPTS = random_prompts(1, 5, 14)
KINDS = ["llama", "gpt2", "phi3", "mixtral", "qwen2_moe", "opt", "gemma2"]


def offloaded(name: str, folder: Path, dtype: torch.dtype, *, everything: bool) -> Backbone:
    """Load a model of which the last two layers, or all of it, stay on disk."""
    model = case_model(name)
    model.save_pretrained(folder / "model")
    layers = CASES[name].read.split(".{}")[0]
    places: dict[str, str] = {"": "disk"}
    if not everything:
        on_disk = [f"{layers}.{index}" for index in (1, 2)]
        owners = {parameter.rpartition(".")[0] for parameter, _ in model.named_parameters()}
        places = {owner: "cpu" for owner in owners if not owner.startswith(tuple(on_disk))}
        places |= dict.fromkeys(on_disk, "disk")
    loaded = AutoModel.from_pretrained(
        folder / "model", dtype=dtype, device_map=places, offload_folder=folder / "offload"
    )
    return Backbone(loaded, tiny_tokenizer(), "offloaded", "0" * 64)


@pytest.mark.filterwarnings("ignore::splinellm.extraction.PrecisionWarning")
@pytest.mark.parametrize("everything", [False, True], ids=["layers", "everything"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_offloaded_model_reads_like_one_in_memory(
    name: str, dtype: torch.dtype, everything: bool, tmp_path: Path
) -> None:
    backbone = offloaded(name, tmp_path, dtype, everything=everything)
    assert any(parameter.is_meta for parameter in backbone.model.parameters())
    # Not `.to(dtype)`, which would round the frequencies of the position embedding, too.
    whole = AutoModel.from_pretrained(tmp_path / "model", dtype=dtype)
    memory = Backbone(whole, tiny_tokenizer(), "memory", "0" * 64)
    for layer in range(3):
        assert torch.equal(backbone.norms(layer).cpu(), memory.norms(layer))
    extractor = SplineExtractor(backbone, features="paper,blocks")
    expected = SplineExtractor(memory, features="paper,blocks").extract(PROMPTS)
    assert (extractor.extract(PROMPTS).values == expected.values).all()
    assert any(parameter.is_meta for parameter in backbone.model.parameters())
    if dtype == torch.float32:
        assert extractor.verify(PROMPTS).passed


def test_device_map_of_a_folder(tmp_path: Path) -> None:
    case_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), device="cpu", device_map="cpu")
    found = SplineExtractor(backbone).extract(PROMPTS)
    memory = Backbone(case_model("llama"), tiny_tokenizer(), "memory")
    assert (found.values == SplineExtractor(memory).extract(PROMPTS).values).all()
