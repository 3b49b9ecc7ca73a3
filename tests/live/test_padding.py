"""Padding that moves tokens, and rows that hold several texts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, StaticCache

from splinellm import attach
from splinellm.backbone.architectures import ARCHITECTURES
from splinellm.backbone.decoder import Decoder
from splinellm.errors import NothingRecordedError
from splinellm.live.padding import PaddingWarning
from splinellm.live.recorder import LiveRecorder
from tests.architectures import CASES, case_model
from tests.live.models import PAD, causal_lm, check, extractor_of, left_padded, options, with_head
from tests.tiny import random_prompts

TEXT, OTHER = random_prompts(6, 15)
FEATURES = "spline,blocks"  # the dimension is not for all architectures


def padded(*places: int, filler: int = PAD) -> dict[str, Tensor]:
    """TEXT with padding before these of its tokens, beside a row without; 9 at each place."""
    row, mask = list[int](), list[int]()
    for index, token in enumerate(TEXT):
        if index in places:
            row, mask = row + [filler] * 9, mask + [0] * 9
        row, mask = [*row, token], [*mask, 1]
    if len(TEXT) in places:
        row, mask = row + [filler] * 9, mask + [0] * 9
    other = (OTHER * 2)[: len(row)]
    return {
        "input_ids": torch.tensor([row, other]),
        "attention_mask": torch.tensor([mask, [1] * len(other)]),
    }


def distance_from(model: PreTrainedModel, inputs: dict[str, Tensor], alone: Tensor) -> float:
    """How far what a model says of the padded text is from what it says of the text alone."""
    real = inputs["attention_mask"][0].bool()
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state[0, real]
    return float((hidden - alone).abs().max() / alone.abs().max())


def run(recorder: LiveRecorder, model: PreTrainedModel, **inputs: Any) -> list[str]:
    """What is said of a pass."""
    with torch.no_grad(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model(**inputs)
    return [str(it.message) for it in said if issubclass(it.category, PaddingWarning)]


COUNT_IDS = {"mpnet", "roberta", "xlm-roberta"}
"""They pass over the id of padding, which is 1 in them, and over no other one."""


@pytest.mark.parametrize(
    ("name", "filler"),
    [*((name, PAD) for name in CASES), *((name, 1) for name in sorted(COUNT_IDS))],
)
def test_flags_and_warnings_are_what_the_model_does(name: str, filler: int) -> None:
    model = case_model(name)
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([TEXT])).last_hidden_state[0]
    for inputs in (padded(at, filler=filler) for at in (0, 3, 6)):  # left, in the middle, right
        is_moved = distance_from(model, inputs, alone) > 1e-4
        with attach(model, features="sign_mean") as recorder:
            said = run(recorder, model, **inputs)
            again = run(recorder, model, **inputs)
        assert bool(said) == is_moved, said
        assert not again  # once in a block
    left, middle = (distance_from(model, padded(at, filler=filler), alone) > 1e-4 for at in (0, 3))
    found = {(True, True): "columns", (False, True): "relative", (False, False): "mask"}
    inputs = padded(0, filler=filler)
    decoder, real = Decoder(model), inputs["attention_mask"].bool()
    assert decoder.positions_among(inputs["input_ids"], real) == found[left, middle]
    assert (decoder.positions == "ids") == (name in COUNT_IDS)


@pytest.mark.parametrize("name", ["gpt2", "gpt_bigcode", "biogpt", "ministral3", "falcon", "llama"])
@pytest.mark.parametrize("place", [0, 3])
def test_positions_that_are_given_make_it_right_and_quiet(name: str, place: int) -> None:
    model = with_head(case_model(name))
    extractor = extractor_of(model, FEATURES)
    inputs = padded(place)
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad(), attach(model, features=FEATURES) as recorder:
        model(**inputs, position_ids=positions)
    check(recorder.table, extractor, [TEXT, OTHER])


@pytest.mark.parametrize("name", ["gpt2", "biogpt", "opt"])
def test_generate_passes_positions(name: str) -> None:
    model = with_head(case_model(name))
    extractor = extractor_of(model, FEATURES)
    with attach(model, features=FEATURES) as recorder:
        out = model.generate(**padded(0), **options(max_new_tokens=4))
    texts = [out[0, 9:-1].tolist(), out[1, :-1].tolist()]
    check(recorder.table, extractor, texts)


def test_features_are_of_what_the_model_computed() -> None:
    model = case_model("gpt2")
    inputs = padded(0)
    with attach(model, features="sign_mean") as recorder:
        said = run(recorder, model, **inputs)
    (message,) = said
    assert message.startswith("row 0 is padded on the left, and gpt2 counts its positions")
    assert message.endswith("(pass position_ids, pad on the right, or use generate, which does)")
    # The text alone, at the positions where the model saw it.
    with torch.no_grad(), attach(model, features="sign_mean") as alone:
        model(torch.tensor([TEXT]), position_ids=torch.arange(9, 15)[None])
    np.testing.assert_allclose(recorder.table.array[0], alone.table.array[0], atol=1e-6)


def test_a_warning_that_is_an_error_leaves_no_old_table() -> None:
    model = case_model("gpt2")
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        model(torch.tensor([TEXT]))
        with pytest.raises(PaddingWarning):
            model(**padded(0))
        with pytest.raises(NothingRecordedError, match="did not come to its end"):
            _ = recorder.table
        model(torch.tensor([TEXT]))
        assert recorder.n_tokens.tolist() == [6]


@pytest.mark.parametrize("kind", ["bool", "additive"])
def test_masks_for_every_pair(kind: str) -> None:
    model = case_model("gpt2")
    inputs = padded(0)
    mask = torch.ones(15, 15).tril().bool() & inputs["attention_mask"].bool()[:, None, None]
    if kind == "additive":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    with attach(model, features="sign_mean") as recorder:
        said = run(recorder, model, input_ids=inputs["input_ids"], attention_mask=mask)
    assert "row 0 is padded on the left" in said[0]
    assert recorder.n_tokens.tolist() == [6, 15]


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "opt", "bloom"])
def test_a_prompt_padded_on_the_right_that_is_continued(name: str) -> None:
    model = with_head(case_model(name))
    extractor = extractor_of(model, FEATURES)
    inputs = padded(6)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 2, dtype=torch.long)], dim=1)
    new = torch.tensor([[7, 8], [9, 10]])
    texts = [[*TEXT, 7, 8], [*OTHER, 9, 10]]
    with torch.no_grad(), attach(model, features=FEATURES) as recorder:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache = model(**inputs).past_key_values
        said = run(recorder, model, input_ids=new, attention_mask=mask, past_key_values=cache)
        is_counted = ARCHITECTURES[model.config.model_type].positions == "mask"
        assert bool(said) != is_counted
        if is_counted:
            check(recorder.table, extractor, texts)
        else:
            assert "padding lies between the tokens of row 0" in said[0]
            cache = model(**inputs).past_key_values
            places = torch.tensor([[6, 7], [15, 16]])
            model(new, attention_mask=mask, past_key_values=cache, position_ids=places)
            check(recorder.table, extractor, texts)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generate_after_a_prompt_padded_on_the_right(name: str) -> None:
    model = with_head(case_model(name))
    asked = options(max_new_tokens=4)
    for place, is_moved in ((0, False), (6, True)):
        inputs = padded(place)
        seen = list[Tensor]()
        hook = model.base_model.register_forward_pre_hook(
            lambda _module, _args, kwargs, seen=seen: seen.append(kwargs["position_ids"][0, -1:]),
            with_kwargs=True,
        )
        with torch.no_grad(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with attach(model, features="sign_mean"):
                model.generate(**inputs, **asked)
        hook.remove()
        assert (int(seen[1]) != len(TEXT)) == is_moved  # as the model was told
        told = [str(it.message) for it in said if issubclass(it.category, PaddingWarning)]
        assert len(told) == is_moved
        assert all("padding lies between the tokens of row 0" in it for it in told)


def test_a_row_of_padding_has_no_features() -> None:
    model = causal_lm()
    inputs = left_padded()
    inputs["attention_mask"][1] = 0
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        model(**inputs)
        with pytest.raises(NothingRecordedError, match="row 1 holds no token"):
            _ = recorder.table
        assert recorder.n_tokens.tolist() == [5, 0, 3]


def test_positions_that_were_given_and_are_no_more() -> None:
    model = causal_lm()
    inputs = padded(0)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, 1, dtype=torch.long)], dim=1)
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        cache = model(**inputs, position_ids=positions).past_key_values
        new = {"input_ids": torch.tensor([[7], [8]]), "past_key_values": cache}
        said = run(recorder, model, **new, attention_mask=mask)
    assert "padding lies between the tokens of row 0" in said[0]


def test_a_mask_that_is_forgotten_when_going_on() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        cache = model(**left_padded()).past_key_values
        new = {"input_ids": torch.tensor([[5], [6], [7]]), "past_key_values": cache}
        said = run(recorder, model, **new)
        assert "the padding in the cache is read as text" in said[0]
        cache = model(**left_padded()).past_key_values
        cache.batch_select_indices(torch.tensor([1]))  # the row without padding
        assert not run(recorder, model, input_ids=torch.tensor([[5]]), past_key_values=cache)


def test_nothing_is_said_of_static_caches() -> None:
    model = causal_lm()
    with attach(model, features="sign_mean") as recorder:
        cache = StaticCache(model.config, max_cache_len=24)
        model.generate(**left_padded(), **options(), past_key_values=cache)
        assert recorder.n_tokens.tolist() == [16, 20, 14]


PACKED = torch.tensor([[*TEXT[:2], *TEXT]])


@pytest.mark.parametrize(
    "inputs",
    [
        {"position_ids": torch.tensor([[0, 1, 0, 1, 2, 3, 4, 5]])},
        {"position_ids": torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0]])},
        {"position_ids": torch.tensor([[3, 4, 0, 1, 2, 3, 4, 5]])},
        {"position_ids": torch.tensor([[0, 1, 7, 8, 9, 10, 11, 12]])},  # a cut, as no mask is there
        {
            "position_ids": torch.tensor([[0, 1, 0, 1, 2, 3, 4, 5]]),
            "attention_mask": torch.ones(1, 8, dtype=torch.long),
        },
        {"cu_seq_lens_q": torch.tensor([0, 2, 8]), "cu_seq_lens_k": torch.tensor([0, 2, 8])},
    ],
)
def test_several_texts_in_a_row_have_no_features(inputs: dict[str, Tensor]) -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        model(**left_padded())
        plain = model(PACKED, **inputs).logits
        with pytest.raises(NothingRecordedError, match="several texts behind each other"):
            _ = recorder.table
        model(**left_padded())
        assert recorder.n_tokens.tolist() == [5, 9, 3]
    with torch.no_grad():
        assert torch.equal(model(PACKED, **inputs).logits, plain)


@pytest.mark.parametrize("start", [0, 5])
def test_positions_of_one_text(start: int) -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features=FEATURES) as recorder:
        model(PACKED, position_ids=torch.arange(start, start + 8)[None])
    check(recorder.table, extractor_of(model, FEATURES), PACKED.tolist())
