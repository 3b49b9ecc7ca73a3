"""What is compiled runs as it is written within the block; what was not seen leaves no table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, StaticCache, StoppingCriteria

from splinellm import SplineExtractor, attach
from splinellm.backbone.eager import run_eagerly
from splinellm.backbone.loading import Backbone
from splinellm.errors import ConfigurationError, NothingRecordedError, SplineLLMError
from splinellm.live.conditions import DropoutWarning
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
    with_head,
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


def test_two_threads_at_once_are_told() -> None:
    model = causal_lm()
    inside, told = Barrier(2), list[str]()
    slow = model.model.layers[1].register_forward_pre_hook(lambda *_: [inside.wait(20)].clear())
    plain = extractor_of(causal_lm())

    def work() -> None:
        with torch.no_grad():
            model(input_ids=torch.tensor([[7, 8, 9]]))
        inside.wait(20)
        try:
            _ = recorder.table
        except SplineLLMError as error:
            told.append(str(error))

    with attach(model, features=ALL) as recorder:
        threads = [Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 2
        assert all("thread" in message for message in told)
        slow.remove()
        with torch.no_grad():
            model(**left_padded())
        check(recorder.table, plain, PROMPTS)


def test_two_threads_that_generate_are_told() -> None:
    model = causal_lm()
    meet = Barrier(2)
    told = list[str]()

    class Meet(StoppingCriteria):
        """Both threads are in the middle of `generate`, and no pass is running."""

        def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
            meet.wait(20)
            return torch.zeros(len(input_ids), dtype=torch.bool)

    def work() -> None:
        model.generate(**left_padded(), **options(max_new_tokens=3), stopping_criteria=[Meet()])
        meet.wait(20)
        try:
            _ = recorder.table
        except NothingRecordedError as error:
            told.append(str(error))

    with attach(model) as recorder:
        threads = [Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 2
        out = model.generate(**left_padded(), **options(max_new_tokens=3))
        assert out.shape == (3, 12)
        assert recorder.n_tokens.tolist() == [7, 11, 5]


def test_threads_that_take_turns() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    inputs = left_padded()
    wait, ask = Barrier(2), Barrier(2)
    failed = list[BaseException]()

    def other() -> None:
        try:
            with torch.no_grad():
                model(input_ids=torch.tensor([PROMPTS[0]]))
            check(recorder.table, extractor, PROMPTS[:1])
            wait.wait(20)
            ask.wait(20)
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failed.append(error)

    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(**inputs)
        thread = Thread(target=other)
        thread.start()
        wait.wait(20)
        with pytest.raises(NothingRecordedError, match="another thread has run the model"):
            _ = recorder.table  # it is not that of this thread's pass
        ask.wait(20)
        thread.join()
        assert not failed
        check(recorder.table, extractor, PROMPTS[:1])  # once it has ended, it can be asked for


def test_a_thread_that_generates_while_this_one_looks() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    with attach(model, features=ALL) as recorder:
        out = list[Tensor]()
        thread = Thread(target=lambda: out.append(model.generate(**left_padded(), **options())))
        thread.start()
        thread.join()
        table = recorder.table
    texts = [[*prompt, *row[9:-1].tolist()] for prompt, row in zip(PROMPTS, out[0], strict=True)]
    check(table, extractor, texts)
