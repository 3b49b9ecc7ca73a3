"""Every step of `generate` has the features of the texts that were read; its output is as ever."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    LlamaForCausalLM,
    LogitsProcessor,
    StoppingCriteria,
)

from splinellm import FeatureTable, SplineExtractor, attach
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.errors import (
    NothingRecordedError,
)
from tests.architectures import ATTACH_CASES, CASES, case_model
from tests.live.models import (
    ALL,
    PROMPTS,
    Force,
    Watch,
    causal_lm,
    check,
    extractor_of,
    left_padded,
    nothing_left_behind,
    options,
    real,
    with_head,
)
from tests.tiny import (
    WINDOW,
    random_prompts,
)


@pytest.mark.parametrize("sampling", [False, True], ids=["greedy", "sampling"])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_step_equals_a_fresh_extraction(kind: str, attention: str, sampling: bool) -> None:
    model = causal_lm(kind)
    model.set_attn_implementation(attention)
    inputs, wanted = left_padded(), options(max_new_tokens=20, do_sample=sampling)
    if sampling:
        wanted |= {"top_k": 0, "temperature": 1.3}
    everything = {
        "return_dict_in_generate": True,
        "output_logits": True,
        "output_hidden_states": True,
        "output_attentions": attention == "eager",
    }
    torch.manual_seed(3)
    plain = model.generate(**inputs, **wanted, **everything)
    with nothing_left_behind(model), attach(model, features=ALL) as recorder:
        watch = Watch(recorder)
        torch.manual_seed(3)
        found = model.generate(**inputs, **wanted, **everything, stopping_criteria=[watch])
    assert torch.equal(found.sequences, plain.sequences)
    for name in ("logits", "hidden_states", "attentions"):
        mine, theirs = flat(getattr(found, name)), flat(getattr(plain, name))
        assert len(mine) == len(theirs)
        assert all(map(torch.equal, mine, theirs))
    assert (attention == "eager") == bool(flat(plain.attentions))
    extractor = extractor_of(model)
    assert len(watch.seen) == 20
    for ids, table in watch.seen:
        check(table, extractor, real(ids, inputs["attention_mask"]))
    assert len(np.unique(watch.seen[-1][1].array[..., 7])) > 4, "attention is uniform"


def flat(nested: Any) -> list[Tensor]:
    if isinstance(nested, Tensor):
        return [nested]
    return [tensor for item in nested or () for tensor in flat(item)]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("end", [[7], [7, 11]], ids=["one end token", "two"])
def test_a_row_ends_before_its_end_token_whatever_the_others_do(
    end: list[int], use_cache: bool
) -> None:
    # The model's own configuration says 2: that of the call counts.
    model = causal_lm()
    inputs = left_padded()
    tokens = random_prompts(8, 8, 8, seed=4)
    for row in tokens:
        row[:] = [2 if token in end else token for token in row]
    tokens[0][3], tokens[2][5] = end[0], end[-1]
    wanted = options(max_new_tokens=8, eos_token_id=end, use_cache=use_cache)
    with attach(model, features=ALL) as recorder:
        model.generate(**inputs, **wanted, logits_processor=[Force(tokens, 9)])
        assert recorder.n_columns == 9 + 7
    texts = [PROMPTS[0] + tokens[0][:3], PROMPTS[1] + tokens[1][:7], PROMPTS[2] + tokens[2][:5]]
    check(recorder.table, extractor_of(model), texts)
    # Alone, the row has the same numbers.
    with attach(model, features=ALL) as alone:
        model.generate(
            **left_padded(PROMPTS[:1]), **wanted, logits_processor=[Force(tokens[:1], 5)]
        )
    np.testing.assert_allclose(alone.table.values, recorder.table.values[:1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("n_beams", [2, 3])
def test_features_follow_their_beams(n_beams: int) -> None:
    model = causal_lm()
    inputs = left_padded()
    wanted = options(num_beams=n_beams, max_new_tokens=9)
    read: list[Tensor] = []
    tables: list[FeatureTable] = []

    class Rows(LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            read.append(input_ids.clone())
            tables.append(recorder.table)
            return scores

    plain = model.generate(**inputs, **wanted)
    with nothing_left_behind(model), attach(model, features=ALL) as recorder:
        found = model.generate(**inputs, **wanted, logits_processor=[Rows()])
    assert torch.equal(found, plain)
    extractor = extractor_of(model)
    mask = inputs["attention_mask"].repeat_interleave(n_beams, dim=0)
    for ids, table in zip(read, tables, strict=True):
        check(table, extractor, real(ids, mask))
    swaps = [not torch.equal(a, b[:, :-1]) for a, b in pairwise(read)]
    assert any(swaps), "no beam was ever reordered"


@pytest.mark.parametrize("name", ["gemma2", "gemma3_text", "mistral", "llama"])
def test_windows_and_static_caches(name: str) -> None:
    base = case_model(name)
    if name == "gemma2":
        base.set_attn_implementation("eager")
    model = with_head(base)
    inputs = left_padded()
    extractor = extractor_of(model)
    for cache in ("dynamic", "static"):
        wanted = options(max_new_tokens=3 * WINDOW, cache_implementation=cache)
        plain = model.generate(**inputs, **wanted)
        with nothing_left_behind(model), attach(model, features=ALL) as recorder:
            watch = Watch(recorder)
            found = model.generate(**inputs, **wanted, stopping_criteria=[watch])
        assert torch.equal(found, plain)
        for ids, table in watch.seen[::4]:
            check(table, extractor, real(ids, inputs["attention_mask"]))


def test_chunked_prefill() -> None:
    model = causal_lm()
    inputs = left_padded()
    with attach(model, features=ALL) as recorder:
        out = model.generate(**inputs, **options(prefill_chunk_size=4))
    assert recorder.n_prompt_columns == 9
    check(recorder.table, extractor_of(model), real(out[:, :-1], inputs["attention_mask"]))


def test_several_texts_per_prompt() -> None:
    model = causal_lm()
    inputs = left_padded()
    with attach(model, features=ALL) as recorder:
        out = model.generate(**inputs, **options(do_sample=True, num_return_sequences=2))
    mask = inputs["attention_mask"].repeat_interleave(2, dim=0)
    check(recorder.table, extractor_of(model), real(out[:, :-1], mask))


def test_assisted_generation_tells_nothing_rather_than_something_wrong() -> None:
    model = causal_lm()
    ids = torch.tensor([[*PROMPTS[1], *PROMPTS[1]]])
    wanted = options(prompt_lookup_num_tokens=3, max_new_tokens=10)
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), **wanted)
    outcomes: list[str] = []
    extractor = extractor_of(model)

    class Ask(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
            try:
                check(recorder.table, extractor, input_ids[:, :-1].tolist())
                outcomes.append("right")
            except NothingRecordedError:
                outcomes.append("refused")
            return torch.zeros(len(input_ids), dtype=torch.bool)

    with attach(model, features=ALL) as recorder:
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), stopping_criteria=[Ask()], **wanted
        )
    assert torch.equal(found, plain)
    assert "refused" in outcomes


@pytest.mark.parametrize("name", sorted(ATTACH_CASES))
def test_every_architecture(name: str) -> None:
    base = case_model(name)
    if name.startswith("gemma2"):
        base.set_attn_implementation("eager")
    features = ALL if CASES[name].has_dimension else "spline,blocks"
    prompts = random_prompts(5, WINDOW + 3, 1)
    inputs = left_padded(prompts)
    model = with_head(base)
    extractor = extractor_of(model, features)
    wanted = options(max_new_tokens=WINDOW)
    plain = model.generate(**inputs, **wanted)
    with nothing_left_behind(model), attach(model, features=features) as recorder:
        watch = Watch(recorder)
        found = model.generate(**inputs, **wanted, stopping_criteria=[watch])
    assert torch.equal(found, plain)
    for ids, table in (watch.seen[0], watch.seen[2], watch.seen[-1]):
        check(table, extractor, real(ids, inputs["attention_mask"]))


@pytest.mark.model
def test_the_default_model_at_every_sixteenth_step(default_extractor: SplineExtractor) -> None:
    backbone = load_backbone("smollm2-135m")
    model = default_lm(backbone)
    prompts = [
        "The capital of France is",
        "If it rains tomorrow, I will stay at home, because the last time I went out in the rain I",
        "def area(width, height):\n    return",
    ]
    inputs = backbone.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    with nothing_left_behind(model), attach(model, features="paper,blocks") as recorder:
        watch = Watch(recorder)
        model.generate(**inputs, **options(max_new_tokens=64, stopping_criteria=[watch]))
    assert len(watch.seen) == 64
    for ids, table in [*watch.seen[::16], watch.seen[-1]]:
        texts = real(ids, inputs["attention_mask"])
        expected = default_extractor.extract(texts)
        assert table.n_tokens.tolist() == expected.n_tokens.tolist()
        signs = np.array(["sign" in name for name in table.names])
        dimensions = np.array(["dimension" in name for name in table.names])
        gap = np.abs(table.values - expected.values)
        assert gap[:, signs].max() < 1.5e-3
        off = gap[:, dimensions]
        assert off.max() <= 1
        assert (off > 0).mean() <= 1 / 200
        distances = ~signs & ~dimensions
        far = gap[:, distances] > np.maximum(2e-6, 2e-2 * expected.values[:, distances])
        assert far.mean() <= 1e-3


def default_lm(backbone: Backbone) -> LlamaForCausalLM:
    """Put the default model's head on, which is its embedding, without a copy of either."""
    with torch.device("meta"):
        model = LlamaForCausalLM(backbone.model.config)
    model.model = backbone.model
    model.lm_head.weight = nn.Parameter(
        backbone.model.embed_tokens.weight.detach(), requires_grad=False
    )
    return model.eval()
