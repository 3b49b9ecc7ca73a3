"""Layers that share modules: each has its own numbers, those of a twin that shares nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.errors import NothingRecordedError
from tests.architectures import case_model
from tests.live.models import ALL, PROMPTS, extractor_of, left_padded, options, with_head
from tests.tiny import tiny_tokenizer

Share = Callable[[Any], None]


def gates(layers: Any) -> None:
    layers[2].mlp.gate_proj = layers[0].mlp.gate_proj


def whole_mlps(layers: Any) -> None:
    layers[2].mlp = layers[1].mlp = layers[0].mlp


def whole_layers(layers: Any) -> None:
    layers[2] = layers[0]


def experts(layers: Any) -> None:
    layers[2].mlp.experts = layers[1].mlp.experts


def flat_gates(layers: Any) -> None:
    layers[2].fc1 = layers[1].fc1


WAYS = [
    ("llama", gates),
    ("llama", whole_mlps),
    ("llama", whole_layers),
    ("mixtral", experts),
    ("opt", flat_gates),
]


def twins(name: str, share: Share) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model whose layers share modules, and one with the same weights in modules of their own."""
    tied = with_head(case_model(name))
    layers: Any = tied.model.decoder.layers if name == "opt" else tied.model.layers
    share(layers)
    apart = copy.deepcopy(tied)
    theirs: Any = apart.model.decoder.layers if name == "opt" else apart.model.layers
    for index, layer in enumerate(layers):
        theirs[index] = copy.deepcopy(layer)
    return tied, apart


@pytest.mark.parametrize(("name", "share"), WAYS)
def test_a_pass_and_an_extraction(name: str, share: Share) -> None:
    tied, apart = twins(name, share)
    expected = extractor_of(apart).extract(PROMPTS).array
    assert not np.allclose(expected[:, 0], expected[:, 2])
    with torch.no_grad(), attach(tied, features=ALL) as recorder:
        for prompt in PROMPTS:  # of several lengths
            tied(input_ids=torch.tensor([prompt]), use_cache=False)
        tied(**left_padded(), use_cache=False)
        np.testing.assert_allclose(recorder.table.array, expected, rtol=2e-3, atol=2e-6)
    extractor = SplineExtractor(Backbone(tied.base_model, tiny_tokenizer(), "tied"), features=ALL)
    np.testing.assert_allclose(extractor.extract(PROMPTS).array, expected, rtol=1e-4, atol=2e-6)
    assert extractor.verify(PROMPTS).passed


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize(("name", "share"), WAYS)
def test_some_of_the_layers(name: str, share: Share, layer: int) -> None:
    tied, apart = twins(name, share)
    expected = extractor_of(apart).extract(PROMPTS).array[:, [layer]]
    one = SplineExtractor(
        Backbone(tied.base_model, tiny_tokenizer(), "tied"), features=ALL, layers=[layer]
    )
    np.testing.assert_allclose(one.extract(PROMPTS).array, expected, rtol=1e-4, atol=2e-6)
    assert one.verify(PROMPTS).passed


@pytest.mark.parametrize(("name", "share"), [way for way in WAYS if way[1] is not whole_layers])
def test_generation(name: str, share: Share) -> None:
    tied, apart = twins(name, share)
    tables = []
    for model in (tied, apart):
        with torch.no_grad(), attach(model, features=ALL) as recorder:
            model.generate(**left_padded(), **options())
            tables.append(recorder.table.array)
    np.testing.assert_allclose(*tables, rtol=1e-4, atol=2e-6)


def test_a_shared_gate_that_one_of_its_layers_does_not_call() -> None:
    tied, _ = twins("llama", gates)
    with torch.no_grad(), attach(tied, features="sign_mean") as recorder:
        tied(**left_padded())
        tied.model.config.num_hidden_layers = 2
        tied(**left_padded())
        with pytest.raises(NothingRecordedError, match="gate of layer 2 was not seen"):
            _ = recorder.table
