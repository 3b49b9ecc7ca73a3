"""A model of the user's own computes the same as ever, and its features are those of its texts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    DynamicCache,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LogitsProcessor,
    PreTrainedModel,
    StaticCache,
    StoppingCriteria,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from splinellm import FeatureTable, SplineExtractor, attach
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.errors import (
    AttentionUnavailableError,
    ConfigurationError,
    NonFiniteFeaturesError,
    NothingRecordedError,
    SchemaError,
    UnsupportedArchitectureError,
)
from splinellm.live import LiveRecorder
from tests.architectures import ATTACH_CASES, CASES, case_model
from tests.backbone.test_recorder import state_of
from tests.tiny import (
    WINDOW,
    pad,
    random_prompts,
    tiny_model,
    tiny_tokenizer,
)

ALL = "paper,blocks"
PAD = 3
PROMPTS = random_prompts(5, 9, 3)


def causal_lm(kind: str = "llama", **overrides: Any) -> PreTrainedModel:
    """A tiny model with a head of its own, around the base model of the other tests."""
    return with_head(tiny_model(kind, **overrides))


def with_head(base: PreTrainedModel) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_config(
        base.config, attn_implementation=base.config._attn_implementation
    ).eval()
    getattr(model, model.base_model_prefix).load_state_dict(base.state_dict())
    if not model.config.get_text_config().tie_word_embeddings:
        with torch.no_grad():
            model.get_output_embeddings().weight.normal_(std=0.3)
    return model


def left_padded(prompts: list[list[int]] = PROMPTS) -> dict[str, Tensor]:
    longest = max(map(len, prompts))
    ids = [[PAD] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def options(**changed: Any) -> dict[str, Any]:
    return {
        "max_new_tokens": 12,
        "do_sample": False,
        "pad_token_id": PAD,
        "eos_token_id": None,
        **changed,
    }


class Watch(StoppingCriteria):
    """Notes the ids that were read, and the table, after every step of `generate`."""

    def __init__(self, recorder: LiveRecorder) -> None:
        self.recorder = recorder
        self.seen: list[tuple[Tensor, FeatureTable]] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.seen.append((input_ids[:, :-1].clone(), self.recorder.table))
        return torch.zeros(len(input_ids), dtype=torch.bool)


def extractor_of(model: PreTrainedModel, features: str = ALL) -> SplineExtractor:
    """Extraction from the same weights, in a model of its own."""
    base = copy.deepcopy(model.base_model)
    return SplineExtractor(Backbone(base, tiny_tokenizer(), "tiny"), features=features)


def check(table: FeatureTable, extractor: SplineExtractor, texts: list[list[int]]) -> None:
    """Compare with an extraction of the same token ids."""
    expected = extractor.extract(texts)
    assert table.names == expected.names
    assert table.n_tokens.tolist() == expected.n_tokens.tolist()
    distances = np.array(["distance" in name for name in table.names])
    np.testing.assert_allclose(
        table.values[:, ~distances], expected.values[:, ~distances], atol=2e-6, rtol=0
    )
    np.testing.assert_allclose(
        table.values[:, distances], expected.values[:, distances], atol=4e-6, rtol=2e-3
    )


def real(ids: Tensor, mask: Tensor) -> list[list[int]]:
    """Texts of left-padded rows, the padding of the prompts left out."""
    return [row[int((own == 0).sum()) :].tolist() for row, own in zip(ids, mask, strict=True)]


@contextmanager
def nothing_left_behind(model: PreTrainedModel) -> Iterator[None]:
    def own_methods() -> list[str]:
        return [
            name
            for module in model.modules()
            for name in vars(module)
            if name in ("generate", "forward", "_get_stopping_criteria")
        ]

    def parameters() -> list[tuple[bool, bool]]:
        return [(p.requires_grad, p.is_inference()) for p in model.parameters()]

    def state() -> tuple[Any, ...]:
        configs = [m.config for m in model.modules() if isinstance(m, PreTrainedModel)]
        attention = [config._attn_implementation for config in configs]
        return state_of(model), own_methods(), parameters(), attention

    before = state()
    try:
        yield
    finally:
        assert state() == before


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


class Force(LogitsProcessor):
    """Chooses the tokens of every row."""

    def __init__(self, tokens: list[list[int]], n_prompt: int) -> None:
        self.tokens = torch.tensor(tokens)  # (B, steps)
        self.n_prompt = n_prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wanted = self.tokens[:, input_ids.shape[1] - self.n_prompt]
        return torch.full_like(scores, -1e9).scatter(1, wanted[:, None], 0.0)


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


def test_static_cache_without_padding() -> None:
    # Then there is no mask, and the cache's empty places must not be counted.
    model = causal_lm()
    ids = torch.tensor(random_prompts(7, 7))
    cache = StaticCache(model.config, max_cache_len=20)
    extractor = extractor_of(model)
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(ids, past_key_values=cache)
        check(recorder.table, extractor, ids.tolist())


@pytest.mark.parametrize("sizes", [[9], [4, 5], [1, 1, 7], [8, 1]])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_cache_continued_by_hand(kind: str, sizes: list[int]) -> None:
    model = causal_lm(kind)
    inputs = left_padded()
    pieces = inputs["input_ids"].split(sizes, dim=1)
    cache = None
    extractor = extractor_of(model)
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        n_read = 0
        for piece in pieces:
            n_read += piece.shape[1]
            mask = inputs["attention_mask"][:, :n_read]
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -piece.shape[1] :]
            cache = model(
                piece, attention_mask=mask, position_ids=positions, past_key_values=cache
            ).past_key_values
        assert recorder.n_columns == 9
        assert recorder.n_prompt_columns == sizes[0]
        check(recorder.table, extractor, PROMPTS)
        # `generate` goes on from it.
        out = model.generate(
            input_ids=torch.cat([inputs["input_ids"], torch.tensor([[5], [6], [7]])], dim=1),
            attention_mask=torch.cat([inputs["attention_mask"], torch.ones(3, 1)], dim=1).long(),
            past_key_values=cache,
            **options(max_new_tokens=4),
        )
    assert recorder.n_prompt_columns == 10
    texts = real(out[:, :-1], inputs["attention_mask"])
    check(recorder.table, extractor_of(model), texts)


def test_a_conversation_of_several_generations_in_one_cache() -> None:
    model = causal_lm()
    ids, cache = torch.tensor(random_prompts(6)), DynamicCache(config=model.config)
    extractor = extractor_of(model)
    with attach(model, features=ALL) as recorder:
        for turn in range(3):
            ids = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                past_key_values=cache,
                **options(max_new_tokens=5),
            )
            check(recorder.table, extractor, ids[:, :-1].tolist())
            ids = torch.cat([ids, torch.tensor(random_prompts(3, seed=turn))], dim=1)


def test_chunked_prefill() -> None:
    model = causal_lm()
    inputs = left_padded()
    with attach(model, features=ALL) as recorder:
        out = model.generate(**inputs, **options(prefill_chunk_size=4))
    assert recorder.n_prompt_columns == 9
    check(recorder.table, extractor_of(model), real(out[:, :-1], inputs["attention_mask"]))


def test_passes_without_a_past_begin_anew() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        for lengths in ([4, 7], [1], [2, 2, 2]):
            prompts = random_prompts(*lengths, seed=len(lengths))
            ids, n_tokens = pad(prompts, filler=9)
            mask = torch.arange(ids.shape[1]) < n_tokens[:, None]  # padded on the right
            model(ids, attention_mask=mask.long())
            check(recorder.table, extractor, prompts)
    with torch.no_grad(), recorder:  # again
        with pytest.raises(NothingRecordedError, match="no forward pass"):
            _ = recorder.table
        model(torch.tensor([PROMPTS[0]]))
        check(recorder.table, extractor, PROMPTS[:1])


def test_embeddings_instead_of_ids() -> None:
    model = causal_lm()
    inputs = left_padded()
    embedded = model.get_input_embeddings()(inputs["input_ids"]).detach()
    extractor = extractor_of(model)
    with attach(model, features=ALL) as recorder:
        with torch.no_grad():
            model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"])
        check(recorder.table, extractor, PROMPTS)
        model.generate(inputs_embeds=embedded, attention_mask=inputs["attention_mask"], **options())
        assert recorder.n_tokens.tolist() == [16, 20, 14]


@pytest.mark.parametrize("kind", ["bool", "additive"])
def test_masks_for_every_pair_of_tokens(kind: str) -> None:
    model = causal_lm()
    inputs = left_padded()
    keys = inputs["attention_mask"].bool()[:, None, None, :]
    mask = torch.ones(9, 9).tril().bool() & keys  # (B, 1, T, T)
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    if kind == "additive":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(inputs["input_ids"], attention_mask=mask, position_ids=positions)
    check(recorder.table, extractor_of(model), PROMPTS)


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


def crop(cache: Any) -> Any:
    cache.crop(-2)
    return cache


@pytest.mark.parametrize(
    "change", [crop, copy.deepcopy, lambda _: None], ids=["cut", "copied", "another"]
)
def test_a_past_that_was_not_recorded(change: Callable[[Any], Any]) -> None:
    model = causal_lm()
    inputs = left_padded()
    with torch.no_grad():
        other = model(**inputs).past_key_values
        with attach(model) as recorder:
            cache = change(model(**inputs).past_key_values) or other
            model(torch.ones(3, 1, dtype=torch.long), past_key_values=cache)
            with pytest.raises(NothingRecordedError, match="cached tokens of 3 rows"):
                _ = recorder.table
            with pytest.raises(NothingRecordedError):
                recorder.finish([0])
            model(**inputs)
            assert recorder.n_tokens.tolist() == [5, 9, 3]


def test_a_cut_cache_is_known_at_once() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model) as recorder:
        model(**left_padded()).past_key_values.crop(-1)
        with pytest.raises(NothingRecordedError, match="taken out of the cache"):
            _ = recorder.table


def test_rows_that_are_selected_keep_their_features() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        cache = model(**left_padded()).past_key_values
        cache.batch_select_indices(torch.tensor([1]))
        check(recorder.table, extractor, PROMPTS[1:2])
        model(torch.tensor([[8]]), past_key_values=cache)
        check(recorder.table, extractor, [[*PROMPTS[1], 8]])


def test_rows_can_be_ended_by_hand() -> None:
    model = causal_lm()
    inputs = left_padded()
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        cache = model(**inputs).past_key_values
        recorder.finish([1])
        assert recorder.is_finished.tolist() == [False, True, False]
        mask = inputs["attention_mask"]
        for token in (5, 6):
            mask = torch.cat([mask, torch.ones(3, 1, dtype=torch.long)], dim=1)
            model(torch.full((3, 1), token), attention_mask=mask, past_key_values=cache)
    texts = [[*PROMPTS[0], 5, 6], PROMPTS[1], [*PROMPTS[2], 5, 6]]
    check(recorder.table, extractor_of(model), texts)


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
        assert not any(d.requires_grad for d in recorder._reduction._distances.values())
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
            model(torch.tensor([[5], [6], [7]]), past_key_values=cache)
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
            assert torch.equal(model(**inputs).logits, plain)
            table = recorder.table
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


def test_base_models_and_other_heads() -> None:
    base = tiny_model()
    extractor = extractor_of(base)
    classifier = LlamaForSequenceClassification(base.config).eval()
    classifier.model.load_state_dict(base.state_dict())
    classifier.config.pad_token_id = PAD
    ids, lengths = pad(PROMPTS, filler=PAD)
    mask = (torch.arange(9) < lengths[:, None]).long()
    for model in (base, classifier):
        with torch.no_grad():
            plain = model(ids, attention_mask=mask)[0]
            with nothing_left_behind(model), attach(model, features=ALL) as recorder:
                found = model(ids, attention_mask=mask, return_dict=False)[0]
                assert torch.equal(found, plain)
            check(recorder.table, extractor, PROMPTS)


def test_one_recorder_at_a_time() -> None:
    model = causal_lm()
    with nothing_left_behind(model), attach(model) as recorder:
        model(**left_padded())
        with pytest.raises(ConfigurationError, match="watched already"):
            attach(model, features="sign_mean").__enter__()
        with pytest.raises(ConfigurationError), recorder:
            pytest.fail("entered twice")
        extractor = SplineExtractor(Backbone(model.model, tiny_tokenizer(), "tiny"))
        with pytest.raises(ConfigurationError):
            extractor.extract(PROMPTS)
        assert recorder.n_tokens.tolist() == [5, 9, 3]
    assert extractor.extract(PROMPTS).n_tokens.tolist() == [5, 9, 3]


def test_other_attention_refuses_the_dimension_and_nothing_else() -> None:
    AttentionInterface.register("of_my_own", sdpa_attention_forward)
    AttentionMaskInterface.register("of_my_own", sdpa_mask)
    model = causal_lm()
    model.set_attn_implementation("of_my_own")
    with nothing_left_behind(model):
        with pytest.raises(AttentionUnavailableError, match="without intrinsic_dimension"):
            attach(model).__enter__()
        with torch.no_grad(), attach(model, features="spline,blocks") as recorder:
            model(**left_padded())
        assert recorder.provenance.attention == "of_my_own"
    model.set_attn_implementation("sdpa")
    check(recorder.table, extractor_of(model, "spline,blocks"), PROMPTS)


def test_what_cannot_be_attached_to() -> None:
    encoder = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1))
    with pytest.raises(UnsupportedArchitectureError, match="BertModel holds no decoder"):
        attach(encoder)
    model = causal_lm()
    with pytest.raises(SchemaError):
        attach(model, layers="7")
    with pytest.raises(SchemaError):
        attach(model, features="sign_men")
    with pytest.raises(ConfigurationError):
        attach(model, dimension_threshold=2.0)
    with pytest.raises(NothingRecordedError):
        _ = attach(model).table


def test_layers_features_and_rules() -> None:
    model = causal_lm()
    backbone = Backbone(copy.deepcopy(model.model), tiny_tokenizer(), "tiny")
    settings: dict[str, Any] = {
        "layers": "0,2",
        "features": "sign_max,intrinsic_dimension",
        "dimension_rule": "absolute",
        "dimension_threshold": 0.2,
    }
    with torch.no_grad(), attach(model, **settings) as recorder:
        model(**left_padded())
    expected = SplineExtractor(backbone, **settings).extract(PROMPTS)
    assert recorder.table.names == expected.names
    np.testing.assert_allclose(recorder.table.values, expected.values, atol=2e-6)
    assert recorder.table.provenance.first_difference(expected.provenance)  # weights not hashed


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
    with nothing_left_behind(model), attach(model, features=ALL) as recorder:
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
