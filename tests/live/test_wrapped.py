"""What is around a model changes nothing: the table is that of the bare model, or says why not."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.errors import (
    ConfigurationError,
    NothingRecordedError,
    UnsupportedArchitectureError,
)
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

# peft asks transformers for an attribute that goes by another name now.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def one_process() -> Iterator[None]:
    """A process group of this process alone, without a port."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def bare() -> np.ndarray:
    model = causal_lm()
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(**left_padded())
    check(recorder.table, extractor_of(model), PROMPTS)
    return recorder.table.array


class Around(nn.Module):
    """A module of somebody's own, whose arguments have other names."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.policy = inner

    def forward(self, **inputs: Tensor) -> Any:
        return self.policy(**inputs)


class WithValueHead(nn.Module):
    """As reinforcement learners do: the language model and a head for values beside it."""

    def __init__(self, inner: PreTrainedModel) -> None:
        super().__init__()
        self.pretrained_model = inner
        self.v_head = nn.Linear(32, 1)
        self.config = None  # no configuration of a transformers model

    def forward(self, **inputs: Tensor) -> Any:
        output = self.pretrained_model(**inputs, output_hidden_states=True)
        return output.logits, self.v_head(output.hidden_states[-1])


def sharded_by_layer(model: PreTrainedModel, *, use_orig_params: bool) -> nn.Module:
    policy = functools.partial(
        transformer_auto_wrap_policy, transformer_layer_cls={LlamaDecoderLayer}
    )
    return FullyShardedDataParallel(
        model,
        auto_wrap_policy=policy,
        device_id=torch.device("cpu"),
        use_orig_params=use_orig_params,
    )


def sharded_whole(model: PreTrainedModel) -> nn.Module:
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"))


def sharded_in_place(model: PreTrainedModel) -> nn.Module:
    for layer in model.model.layers:
        fully_shard(layer)
    return fully_shard(model)


def adapted(model: PreTrainedModel, **settings: Any) -> nn.Module:
    """With an adapter that changes nothing yet, away from the gates."""
    config = peft.LoraConfig(target_modules=["q_proj", "down_proj"], r=2, **settings)
    return peft.get_peft_model(model, config)


DDP = nn.parallel.DistributedDataParallel

WRAPPERS = {
    "module": Around,
    "nested modules": lambda model: Around(Around(Around(model))),
    "around the decoder": lambda model: Around(model.model),
    "sequential": lambda model: nn.ModuleDict({"llm": model})["llm"],
    "value head": WithValueHead,
    "data parallel": nn.DataParallel,
    "distributed": DDP,
    "distributed in a module": lambda model: Around(DDP(model)),
    "adapter": adapted,
    "adapter, distributed": lambda model: DDP(adapted(model)),
    "dora": lambda model: adapted(model, use_dora=True),
    "task adapter": lambda model: adapted(model, task_type="CAUSAL_LM"),
    "ia3": lambda model: peft.get_peft_model(
        model, peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    ),
    "sharded by layer": functools.partial(sharded_by_layer, use_orig_params=False),
    "sharded, with its parameters": functools.partial(sharded_by_layer, use_orig_params=True),
    "sharded whole": sharded_whole,
    "sharded in place": sharded_in_place,
    "compiled": functools.partial(torch.compile, backend="eager"),
    "compiled, distributed": lambda model: torch.compile(DDP(model), backend="eager"),
    "distributed, compiled": lambda model: DDP(torch.compile(model, backend="eager")),
}


@pytest.mark.filterwarnings("ignore:Dynamo does not know:UserWarning")
@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`:UserWarning")
@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.usefixtures("one_process")
def test_the_table_is_that_of_the_bare_model(name: str, bare: np.ndarray) -> None:
    model = causal_lm()
    model.config._name_or_path = model.model.config._name_or_path = "somebody/llama"
    wrapped = WRAPPERS[name](model).eval()
    with torch.no_grad():
        wrapped(**left_padded())  # transformers and FSDP place hooks of their own
    hooks = [len(part._forward_hooks) for part in wrapped.modules()]
    with torch.no_grad(), attach(wrapped, features=ALL) as recorder:
        wrapped(**left_padded())
        table = recorder.table
    np.testing.assert_allclose(table.array, bare, rtol=1e-5, atol=1e-6)
    assert table.provenance.model == "somebody/llama"
    assert table.provenance.dtype == "float32"
    assert [len(part._forward_hooks) for part in wrapped.modules()] == hooks


@pytest.mark.parametrize("name", ["module", "adapter", "distributed", "compiled"])
@pytest.mark.usefixtures("one_process")
def test_extraction_is_that_of_the_bare_model(name: str) -> None:
    expected = extractor_of(causal_lm()).extract(PROMPTS)
    wrapped: Any = WRAPPERS[name](causal_lm())
    extractor = SplineExtractor(Backbone(wrapped, tiny_tokenizer(), "wrapped"), features=ALL)
    assert (extractor.extract(PROMPTS).values == expected.values).all()
    assert extractor.verify(PROMPTS).passed


@pytest.mark.parametrize("name", ["module", "adapter", "task adapter", "distributed", "compiled"])
@pytest.mark.usefixtures("one_process")
def test_generation_of_the_inner_model(name: str) -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    wrapped = WRAPPERS[name](model).eval()
    inputs = left_padded()
    with nothing_left_behind(model), attach(wrapped, features=ALL) as recorder:
        out = model.generate(**inputs, **options())
        table = recorder.table
    texts = [[*prompt, *row[9:-1].tolist()] for prompt, row in zip(PROMPTS, out, strict=True)]
    check(table, extractor, texts)


def test_an_adapted_model_generates_itself() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    wrapped = adapted(model, task_type="CAUSAL_LM").eval()
    with attach(wrapped, features=ALL) as recorder:
        out = wrapped.generate(**left_padded(), **options())
        assert recorder.n_prompt_columns == 9
    texts = [[*prompt, *row[9:-1].tolist()] for prompt, row in zip(PROMPTS, out, strict=True)]
    check(recorder.table, extractor, texts)


def test_learned_prompts_are_counted_as_the_model_reads_them() -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    wrapped = peft.get_peft_model(causal_lm(), config).eval()
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad(), attach(wrapped, features=ALL) as recorder:
        wrapped(input_ids=ids, attention_mask=torch.ones_like(ids))
        assert recorder.n_tokens.tolist() == [4 + 5]


def test_learned_keys_come_from_a_cache_that_nobody_read() -> None:
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    wrapped = peft.get_peft_model(causal_lm(num_key_value_heads=4, head_dim=8), config).eval()
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad(), attach(wrapped) as recorder:
        wrapped(input_ids=ids, attention_mask=torch.ones_like(ids))
        with pytest.raises(NothingRecordedError, match="went on from 4 cached tokens"):
            _ = recorder.table


class Pair(nn.Module):
    """Two models in one, as in preference training."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = causal_lm()
        self.reference = causal_lm(seed=1)


def test_two_decoders_are_both_named() -> None:
    pair = Pair()
    with pytest.raises(ConfigurationError, match=r"policy\.model.*reference\.model"):
        attach(pair)
    with torch.no_grad(), attach(pair.policy, features=ALL) as recorder:
        pair.policy(**left_padded())
    check(recorder.table, extractor_of(pair.policy), PROMPTS)


def test_one_decoder_found_in_two_places_is_one() -> None:
    model = causal_lm()
    both = nn.ModuleDict({"a": Around(model), "b": Around(model.model)})
    with torch.no_grad(), attach(both, features=ALL) as recorder:
        both["b"](**left_padded())
    check(recorder.table, extractor_of(model), PROMPTS)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (SimpleNamespace(tokenizer=1, model=causal_lm(), task="x"), "its attribute 'model'"),
        (SimpleNamespace(critic=causal_lm()), "its attribute 'critic'"),
        ("gpt2", "from_pretrained"),
        (None, "from_pretrained"),
        ([causal_lm()], "from_pretrained"),
    ],
)
def test_what_is_no_module_says_what_to_pass(given: Any, hint: str) -> None:
    with pytest.raises(ConfigurationError, match="is no PyTorch module") as caught:
        attach(given)
    assert hint in str(caught.value)


def test_what_lost_its_modules_is_no_decoder() -> None:
    class Exported(nn.Module):
        """As `torch.export` and tracing make: the weights, and no module of transformers."""

    with pytest.raises(UnsupportedArchitectureError, match="Exported holds no model"):
        attach(Exported())


def test_a_call_that_goes_past_the_decoder_leaves_no_old_table() -> None:
    model = causal_lm()

    class Cached(Around):
        """Answers from memory, as a captured graph does."""

        answers: Any = None

        def forward(self, **inputs: Tensor) -> Any:
            if self.answers is None:
                self.answers = super().forward(**inputs)
            return self.answers

    wrapped = Cached(model)
    with torch.no_grad(), attach(wrapped) as recorder:
        wrapped(**left_padded())
        assert recorder.n_tokens.tolist() == [5, 9, 3]
        wrapped(input_ids=torch.tensor([[5, 6]]))
        with pytest.raises(NothingRecordedError, match="its layers were not seen"):
            _ = recorder.table
        model(**left_padded())  # the decoder itself is still there
        assert recorder.n_tokens.tolist() == [5, 9, 3]
