"""Forward passes by hand, with and without a cache of what came before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    DynamicCache,
    StaticCache,
)

from splinellm import attach
from splinellm.errors import ConfigurationError, NothingRecordedError
from tests.live.models import (
    ALL,
    PROMPTS,
    causal_lm,
    check,
    extractor_of,
    left_padded,
    options,
    real,
)
from tests.tiny import (
    pad,
    random_prompts,
)


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


@pytest.mark.parametrize(
    "rows",
    [
        [1],
        [-2],
        (row for row in [1]),
        np.array([1]),
        np.array([1, 1, 1], np.uint8),  # which torch would take for a mask
        torch.tensor([1]),
        [False, True, False],
        torch.tensor([False, True, False]),
    ],
    ids=["row", "from the end", "generator", "array", "bytes", "tensor", "mask", "mask of torch"],
)
def test_rows_are_numbers_or_a_mask(rows: Any) -> None:
    with torch.no_grad(), attach(model := causal_lm()) as recorder:
        model(**left_padded())
        recorder.finish([])
        assert not recorder.is_finished.any()
        recorder.finish(rows)
        assert recorder.is_finished.tolist() == [False, True, False]


@pytest.mark.parametrize("rows", [1, None, [3], [0.5], [True], "a"], ids=repr)
def test_what_names_no_rows_is_refused(rows: Any) -> None:
    with torch.no_grad(), attach(model := causal_lm()) as recorder:
        model(**left_padded())
        with pytest.raises(ConfigurationError, match=r"rows of the batch, which has 3 \(.*0 to 2"):
            recorder.finish(rows)
