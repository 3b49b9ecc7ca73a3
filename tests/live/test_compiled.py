"""What is compiled runs as it is written within the block, and is compiled again after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, StaticCache

from splinellm import SplineExtractor, attach
from splinellm.backbone.eager import run_eagerly
from splinellm.backbone.loading import Backbone
from splinellm.errors import ConfigurationError, NothingRecordedError
from tests.live.models import (
    ALL,
    PROMPTS,
    causal_lm,
    check,
    extractor_of,
    left_padded,
    nothing_left_behind,
    options,
)
from tests.tiny import tiny_tokenizer

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Code of one test is not that of another."""
    yield
    torch.compiler.reset()


def whole_in_place(model: PreTrainedModel) -> Run:
    model.compile(backend="eager", dynamic=False)
    return model


def whole(model: PreTrainedModel) -> Run:
    return torch.compile(model, backend="eager", dynamic=False)


def whole_traced_ahead(model: PreTrainedModel) -> Run:
    model.compile(backend="aot_eager", dynamic=False)
    return model


def decoder_in_place(model: PreTrainedModel) -> Run:
    model.model.compile(backend="eager", dynamic=False)
    return model


def decoder_replaced(model: PreTrainedModel) -> Run:
    model.model = torch.compile(model.model, backend="eager", dynamic=False)
    return model


def layers_in_place(model: PreTrainedModel) -> Run:
    for layer in model.model.layers:
        layer.compile(backend="eager", dynamic=False)
    return model


def layers_replaced(model: PreTrainedModel) -> Run:
    for index, layer in enumerate(model.model.layers):
        model.model.layers[index] = torch.compile(layer, backend="eager", dynamic=False)
    return model


def mlp_in_place(model: PreTrainedModel) -> Run:
    for layer in model.model.layers:
        layer.mlp.compile(backend="eager", dynamic=False)
    return model


def mlp_replaced(model: PreTrainedModel) -> Run:
    for layer in model.model.layers:
        layer.mlp = torch.compile(layer.mlp, backend="eager", dynamic=False)
    return model


def gate_in_place(model: PreTrainedModel) -> Run:
    for layer in model.model.layers:
        layer.mlp.gate_proj.compile(backend="eager", dynamic=False)
    return model


def forward_of_a_part(model: PreTrainedModel) -> Run:
    for layer in model.model.layers:
        layer.mlp.forward = torch.compile(layer.mlp.forward, backend="eager", dynamic=False)
    return model


def function_around(model: PreTrainedModel) -> Run:
    def step(**inputs: Tensor) -> Any:
        return model(**inputs)

    return torch.compile(step, backend="eager", dynamic=False)


WAYS = [
    whole_in_place,
    whole,
    whole_traced_ahead,
    decoder_replaced,
    layers_in_place,
    layers_replaced,
    mlp_in_place,
    mlp_replaced,
    gate_in_place,
    forward_of_a_part,
    function_around,
]


def one_layer() -> PreTrainedModel:
    """A quick one to compile."""
    return causal_lm(num_hidden_layers=1)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_models_compiled_before_are_seen_in_every_shape(way: Any) -> None:
    model = one_layer()
    extractor = extractor_of(model)
    run = way(model)
    short = {"input_ids": torch.tensor([PROMPTS[0]])}
    with torch.no_grad():
        run(**short)  # compiled without hooks for this shape
        watched = run if isinstance(run, nn.Module) else model
        with attach(watched, features=ALL) as recorder:
            run(**left_padded())
            check(recorder.table, extractor, PROMPTS)
            run(**short)
            check(recorder.table, extractor, PROMPTS[:1])


@pytest.mark.parametrize("way", [whole_in_place, whole, layers_replaced, mlp_in_place])
def test_models_compiled_inside_are_seen_and_keep_nothing_of_it(way: Any) -> None:
    model = one_layer()
    extractor = extractor_of(model)
    with torch.no_grad():
        with attach(model, features=ALL) as recorder:
            run = way(model)
            run(**left_padded())
            check(recorder.table, extractor, PROMPTS)
        run(input_ids=torch.tensor([PROMPTS[0]]))  # compiled now, without the hooks of the block
        check(recorder.table, extractor, PROMPTS)


def test_compiled_code_is_there_again_after_the_block() -> None:
    n_calls = 0

    def backend(graph: Any, _inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            nonlocal n_calls
            n_calls += 1
            return graph.forward(*args)

        return run

    model = one_layer()
    model.compile(backend=backend, dynamic=False)
    with torch.no_grad():
        plain = model(**left_padded()).logits
        before = n_calls
        assert before > 0
        with nothing_left_behind(model), attach(model):
            assert torch.equal(model(**left_padded()).logits, plain)
            assert n_calls == before
        model(**left_padded())
        assert n_calls == 2 * before


def test_blocks_of_two_models_that_overlap_give_the_stance_back() -> None:
    first, second = causal_lm(), causal_lm(seed=1)
    function = torch.compile(lambda x: torch.compiler.is_compiling(), backend="eager")
    one, two = attach(first), attach(second)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)  # not in the order of a stack
    assert not function(torch.ones(1))
    two.__exit__(None, None, None)
    assert function(torch.ones(1))


@pytest.mark.filterwarnings("ignore:Dynamo does not know:UserWarning")
@pytest.mark.parametrize("way", [whole_in_place, layers_in_place])
def test_another_stance_within_the_block_leaves_no_old_table(way: Any) -> None:
    model = one_layer()
    run = way(model)
    with torch.no_grad():
        run(input_ids=torch.tensor([PROMPTS[0]]))
        with attach(run, features="spline") as recorder:
            run(**left_padded())
            with torch.compiler.set_stance("default"):
                run(input_ids=torch.tensor([PROMPTS[0]]))
            try:
                table = recorder.table
            except NothingRecordedError:
                return
            assert table.n_tokens.tolist() == [5]


def test_a_block_inside_of_compiled_code() -> None:
    linear = nn.Linear(2, 2)

    @torch.compile(backend="eager")
    def step(x: Tensor) -> Tensor:
        y = x + 1
        with run_eagerly(linear):
            return linear(y)

    with pytest.raises(ConfigurationError, match="from inside of compiled code"):
        step(torch.ones(2))


@pytest.mark.parametrize("way", [layers_in_place, None])
def test_generate_with_a_static_cache(way: Any) -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    if way is not None:
        way(model)
    # As on an accelerator, where transformers compiles the steps by itself.
    model._compiled_call = torch.compile(model.__call__, backend="eager")
    model._last_compile_config = model._default_compile_config()
    inputs = left_padded()
    with attach(model, features=ALL) as recorder:
        cache = StaticCache(model.config, max_cache_len=24)
        out = model.generate(**inputs, **options(), past_key_values=cache)
        table = recorder.table
    texts = [[*prompt, *row[9:-1].tolist()] for prompt, row in zip(PROMPTS, out, strict=True)]
    check(table, extractor, texts)


@pytest.mark.parametrize(
    "way", [decoder_in_place, layers_in_place, layers_replaced, forward_of_a_part]
)
def test_extraction_from_compiled_models(way: Any) -> None:
    model = one_layer()
    expected = extractor_of(model).extract(PROMPTS)
    way(model)
    with torch.no_grad():
        model.model(torch.tensor([PROMPTS[1]]))
    extractor = SplineExtractor(Backbone(model.model, tiny_tokenizer(), "tiny"), features=ALL)
    found = extractor.extract(PROMPTS)
    assert (found.values == expected.values).all()
    assert extractor.verify(PROMPTS).passed


@pytest.mark.parametrize("part", ["self_attn", "mlp", "mlp.gate_proj"])
def test_a_part_that_was_replaced_by_its_compiled_self(part: str) -> None:
    model: Any = causal_lm()
    expected = extractor_of(model).extract(PROMPTS)
    owner, _, name = f"model.layers.1.{part}".rpartition(".")
    setattr(
        model.get_submodule(owner),
        name,
        torch.compile(getattr(model.get_submodule(owner), name), backend="eager"),
    )
    with torch.no_grad():
        model(torch.tensor([PROMPTS[1]]))
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(**left_padded())
    np.testing.assert_allclose(recorder.table.values, expected.values, rtol=2e-3, atol=2e-6)
    extractor = SplineExtractor(Backbone(model, tiny_tokenizer(), "tiny"), features=ALL)
    found = extractor.extract(PROMPTS)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-7)
    assert extractor.verify(PROMPTS).passed
