"""A model of the user's own computes, trains and fails as ever."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
)

from splinellm import attach
from splinellm.errors import (
    NonFiniteFeaturesError,
    NothingRecordedError,
)
from splinellm.extraction import PrecisionWarning
from tests.architectures import case_model
from tests.live.models import (
    ALL,
    PROMPTS,
    causal_lm,
    check,
    extractor_of,
    left_padded,
    nothing_left_behind,
    options,
    real,
    with_head,
)


def test_nothing_is_left_behind_after_an_exception() -> None:
    model = causal_lm()
    inputs = left_padded()

    class Failing(LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            raise ZeroDivisionError

    with (
        nothing_left_behind(model),
        pytest.raises(ZeroDivisionError),
        attach(model) as recorder,
    ):
        model.generate(**inputs, **options(), logits_processor=[Failing()])
    assert recorder.table.n_tokens.tolist() == [5, 9, 3]  # what was read can still be asked for


def test_a_pass_that_fails_half_way_leaves_no_numbers() -> None:
    model = causal_lm()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with attach(model) as recorder:
        model(**left_padded())
        handle = model.model.layers[1].mlp.up_proj.register_forward_hook(fail)
        with pytest.raises(ZeroDivisionError):
            model(**left_padded())
        handle.remove()
        with pytest.raises(NothingRecordedError, match="did not come to its end"):
            _ = recorder.table
        model(**left_padded())
        assert recorder.table.n_tokens.tolist() == [5, 9, 3]


def test_nothing_stays_on_a_cache() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model) as recorder:
        output = model(**left_padded())
        assert "reorder_cache" in vars(output.past_key_values)
        aside = copy.deepcopy(output.past_key_values)
        copy.deepcopy(aside).reorder_cache(torch.tensor([2, 1, 0]))
        assert recorder.n_tokens.tolist() == [5, 9, 3]  # a copy is another matter
    assert "reorder_cache" not in vars(output.past_key_values)
    keys = output.past_key_values.layers[0].keys.clone()
    aside.reorder_cache(torch.tensor([2, 1, 0]))  # a copy is reordered itself
    assert torch.equal(aside.layers[0].keys, keys.flip(0))
    assert torch.equal(output.past_key_values.layers[0].keys, keys)


def test_gradients_and_training_mode_are_as_without() -> None:
    model = causal_lm()
    model.train()
    model.model.embed_tokens.weight.requires_grad_(False)
    inputs = left_padded()

    def step() -> list[Tensor]:
        model.zero_grad()
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = step()
    with nothing_left_behind(model), attach(model, features=ALL) as recorder:
        found = step()
        assert model.training
        # No graph is kept alive.
        distances = recorder._reduction._values["hyperplane_distance"]
        assert not any(d.requires_grad for d in distances.values())
    assert all(map(torch.equal, found, plain))
    model.eval()
    check(recorder.table, extractor_of(model), PROMPTS)


def test_what_others_do_to_the_gate_later_is_not_seen() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        gate = model.model.layers[-1].mlp.gate_proj
        gate.register_forward_hook(lambda _module, _args, output: output.zero_())
        model(torch.tensor([[5], [6]]))
    check(recorder.table, extractor, [[5], [6]])


@pytest.mark.parametrize("name", ["qwen2_moe", "mixtral"])
def test_mixtures_train_though_their_norms_were_made_in_inference_mode(name: str) -> None:
    model = with_head(case_model(name))
    inputs = left_padded()
    with torch.inference_mode(), attach(model, features="spline,blocks"):
        model(**inputs)
    with attach(model, features="spline,blocks") as recorder:
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
    check(recorder.table, extractor_of(model, "spline,blocks"), PROMPTS)
    assert model.model.layers[0].mlp.experts.gate_up_proj.grad is not None


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inference_mode_and_out_of_it(context: Callable[[], Any]) -> None:
    model = causal_lm()
    inputs = left_padded()
    with attach(model, features=ALL) as recorder:
        with context():
            cache = model(**inputs).past_key_values
        recorder.finish([2])
        with context():
            mask = torch.cat([inputs["attention_mask"], torch.ones(3, 1, dtype=torch.long)], dim=1)
            model(torch.tensor([[5], [6], [7]]), attention_mask=mask, past_key_values=cache)
        assert recorder.n_tokens.tolist() == [6, 10, 3]
        model.generate(**inputs, **options())
        assert recorder.n_tokens.tolist() == [16, 20, 14]


@pytest.mark.filterwarnings("ignore::splinellm.extraction.PrecisionWarning")
def test_half_precision() -> None:
    model = causal_lm().to(torch.bfloat16)
    inputs = left_padded()
    with attach(model, features=ALL) as recorder:
        out = model.generate(**inputs, **options())
    table = recorder.table
    assert table.provenance.dtype == "bfloat16"
    assert table.provenance.distance_precision == "reduced"
    exact = extractor_of(model.float()).extract(real(out[:, :-1], inputs["attention_mask"]))
    blocks = np.array(["block" in name or "sign_mean" in name for name in table.names])
    assert np.abs(table.values - exact.values)[:, blocks].max() < 0.1


def test_autocast() -> None:
    model = causal_lm()
    inputs = left_padded()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = model(**inputs).logits
        with attach(model, features=ALL) as recorder:
            with pytest.warns(PrecisionWarning, match="computes in bfloat16"):
                assert torch.equal(model(**inputs).logits, plain)
            model(**inputs)  # says it once
            table = recorder.table
    assert table.provenance.dtype == "bfloat16"
    assert table.provenance.distance_precision == "reduced"
    exact = extractor_of(model).extract(PROMPTS)
    assert np.abs(table.array - exact.array)[..., :4].max() < 0.1


def test_overflow_is_an_error_and_no_number() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        model.model.embed_tokens.weight[PROMPTS[1][0]] = torch.nan
        model(torch.tensor([[4, 4], [PROMPTS[1][0], 4]]))
        with pytest.raises(NonFiniteFeaturesError) as caught:
            _ = recorder.table
    assert caught.value.index == 1
