"""Passes that are not of every layer once: what was not seen leaves no table of the pass before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.errors import NothingRecordedError
from splinellm.live.conditions import DropoutWarning
from tests.architectures import case_model
from tests.live.models import (
    ALL,
    PROMPTS,
    causal_lm,
    check,
    extractor_of,
    left_padded,
    with_head,
)
from tests.tiny import tiny_tokenizer


class Skipped(nn.Module):
    """A layer that does nothing, as layer drop and early exit do."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


def test_layers_that_are_left_out() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(**left_padded())
    model.model.layers[1] = Skipped(model.model.layers[1])
    with torch.no_grad(), recorder:
        model(**left_padded())
        with pytest.raises(NothingRecordedError, match="gate of layer 1 was not seen"):
            _ = recorder.table
    extractor = SplineExtractor(Backbone(model.model, tiny_tokenizer(), "tiny"), features=ALL)
    with pytest.raises(NothingRecordedError, match="gate of layer 1 was not seen"):
        extractor.extract(PROMPTS)
    with torch.no_grad(), attach(model, features=ALL, layers="0,2") as recorder:
        model(**left_padded())
        assert recorder.n_tokens.tolist() == [5, 9, 3]  # of those that are wanted, none is missing


def test_an_early_exit_is_no_table_of_the_pass_before() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features="spline") as recorder:
        model(**left_padded())
        model.model.config.num_hidden_layers = 1
        model(**left_padded())
        with pytest.raises(NothingRecordedError, match="gate of layers 1, 2 was not seen"):
            _ = recorder.table
        model.model.config.num_hidden_layers = 3
        model(**left_padded())
        assert recorder.n_tokens.tolist() == [5, 9, 3]


def test_a_layer_that_runs_twice() -> None:
    model: Any = causal_lm()
    mlp = model.model.layers[1].mlp
    forward = mlp.forward
    mlp.forward = lambda x: forward(forward(x))
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        model(**left_padded(), use_cache=False)
        with pytest.raises(NothingRecordedError, match="seen more than once"):
            _ = recorder.table


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["llama", "qwen2_moe", "opt"])
def test_checkpoints_run_again_in_the_backward_pass(name: str, reentrant: bool) -> None:
    model = with_head(case_model(name)).train()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    ids = torch.tensor([PROMPTS[0], PROMPTS[1][:5]])
    with attach(model, features=ALL) as recorder:
        loss = model(ids, labels=ids, use_cache=False).loss
        before = recorder.table
        loss.backward()
        assert (recorder.table.values == before.values).all()
        assert recorder.n_tokens.tolist() == [5, 5]
    model.eval()
    check(before, extractor_of(model), ids.tolist())
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_dropout_is_said_once() -> None:
    model = causal_lm(attention_dropout=0.5)
    model.train()
    extractor = extractor_of(model, "paper")
    with torch.no_grad(), attach(model) as recorder:
        with pytest.warns(DropoutWarning, match=r"dropout of 0\.5"):
            model(**left_padded())
        model(**left_padded())
        model.eval()
        model(**left_padded())
        check(recorder.table, extractor, PROMPTS)
