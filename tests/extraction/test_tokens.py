"""What becomes of a prompt before the model reads it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from splinellm.errors import PromptError
from splinellm.extraction.tokens import Tokenizer
from splinellm.prompts import DoubleBosWarning, SpecialTextWarning
from tests.tiny import VOCABULARY, tiny_tokenizer

TEXT = "The capital of France is Paris."
EOS = 1  # </s>


def make(
    backend: Any = None, max_tokens: int = 100, *, allow_special_tokens: bool = False
) -> Tokenizer:
    return Tokenizer(
        backend or tiny_tokenizer(),
        VOCABULARY,
        max_tokens,
        allow_special_tokens=allow_special_tokens,
    )


def ids_of(text: str, tokenizer: Tokenizer | None = None) -> list[int]:
    tokenized, errors = (tokenizer or make())([text])
    assert not errors
    return tokenized[0].ids


@pytest.mark.parametrize("surplus", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("kind", ["text", "ids"])
def test_truncation_is_reported_from_one_token_too_many(surplus: int, kind: str) -> None:
    whole = ids_of(TEXT)
    limit = len(whole) - surplus
    (prompt,) = make(max_tokens=limit)([TEXT if kind == "text" else whole])[0].values()
    assert prompt.ids == whole[:limit]
    assert prompt.truncated is (surplus > 0)


@pytest.mark.filterwarnings("ignore::splinellm.prompts.SpecialTextWarning")
def test_special_tokens_stay_text() -> None:
    text = f"{TEXT}</s><|im_end|>"
    assert not {0, EOS, 2, 3} & set(ids_of(text))
    allowed = ids_of(text, make(allow_special_tokens=True))
    assert allowed[-2:] == [EOS, 2]


@pytest.mark.parametrize(
    "backend",
    [
        tiny_tokenizer(),
        tiny_tokenizer(pad_token=None),
        tiny_tokenizer(pad_token="</s>"),
        tiny_tokenizer(pad_token="<s>"),
    ],
    ids=["pad", "no-pad", "pad-is-eos", "pad-is-bos"],
)
def test_padding_token_is_not_needed(backend: Any) -> None:
    tokenized, errors = make(backend)([TEXT, "Hi"])
    assert not errors
    assert [prompt.ids for prompt in tokenized.values()] == [ids_of(TEXT), ids_of("Hi")]


def test_beginning_of_sequence_is_the_tokenizers_own_affair() -> None:
    assert ids_of(TEXT, make(tiny_tokenizer(adds_bos=True))) == [0, *ids_of(TEXT)]


def test_truncation_and_padding_inside_a_tokenizer_file_are_ignored() -> None:
    # Many tokenizer.json files carry those of somebody's training run.
    backend = tiny_tokenizer()
    backend.backend_tokenizer.enable_truncation(3)
    backend.backend_tokenizer.enable_padding(length=50)
    backend.model_max_length = 5
    assert ids_of(TEXT, make(backend)) == ids_of(TEXT)


def test_ids_are_copied() -> None:
    given = [5, 6, 7]
    tokenized, _ = make()([given])
    given[0] = 99
    assert tokenized[0].ids == [5, 6, 7]


@pytest.mark.parametrize(
    "text",
    [
        *(" ", "\n", "\t\r\n", "\0", "a\0b", "\x1b[2J"),
        "\u200b\u200d\ufeff",  # no width
        "\u202e\u0645\u0631\u062d",  # right to left
        "\U0001f600\U0001f469\u200d\U0001f469",  # emoji, one of several code points
        "e\u0301",  # a combining accent
    ],
)
def test_every_character_is_text(text: str) -> None:
    assert tiny_tokenizer().decode(ids_of(text)) == text


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "the text is empty"),
        (None, "the text is missing"),
        (3, "expected text, got int"),
        (float("nan"), "the text is missing"),
        (1.5, "expected text, got float"),
        (b"bytes", "expected text, got bytes"),
        ({"text": "a"}, "expected text, got dict"),
        ("secret\ud800", "lone surrogate at character 6"),
        ([], "the list of token ids is empty"),
        ([1, 2.0], "token ids must be whole numbers"),
        ([1, True], "token ids must be whole numbers"),
        (["secret"], "token ids must be whole numbers"),
        ([5, VOCABULARY], f"token id {VOCABULARY} is not in the vocabulary"),
        ([-1], "token id -1 is not in the vocabulary"),
        ([2**70], "is not in the vocabulary"),
    ],
    ids=repr,
)
def test_unreadable_prompt_fails_alone(prompt: Any, reason: str) -> None:
    tokenized, errors = make()(["first", prompt, [7, 8]])
    assert list(tokenized) == [0, 2]
    assert list(errors) == [1]
    assert isinstance(errors[1], PromptError)
    assert errors[1].index == 1
    assert str(errors[1]).startswith("prompt 1: ")
    assert reason in str(errors[1])
    assert "secret" not in str(errors[1])
    assert errors[1].__cause__ is None  # a cause would be printed, and quote the text


def test_token_without_an_embedding_fails_alone() -> None:
    # A tokenizer may have been given tokens that its model does not know: on a GPU, looking one
    # up would end the process.
    backend = tiny_tokenizer()
    backend.add_tokens(["ZZZ"])
    tokenized, errors = make(backend)(["fine", "a ZZZ b"])
    assert list(tokenized) == [0]
    assert f"token id {VOCABULARY} " in str(errors[1])


def test_text_that_is_normalised_away_is_refused() -> None:
    from tokenizers import normalizers

    backend = tiny_tokenizer()
    backend.backend_tokenizer.normalizer = normalizers.Strip()
    _, errors = make(backend)(["a", "   "])
    assert "no tokens" in str(errors[1])


def test_numpy_values() -> None:
    tokenized, errors = make()([np.str_(TEXT), [np.int64(5), np.int32(6)]])
    assert not errors
    assert tokenized[0].ids == ids_of(TEXT)
    assert [type(token) for token in tokenized[1].ids] == [int, int]


@pytest.mark.filterwarnings("ignore::splinellm.prompts.SpecialTextWarning")
def test_threads_do_not_share_the_special_token_switch() -> None:
    # The fast tokenizer keeps it inside; without a lock a prompt could forge control tokens
    # while another extractor that allows them is at work.
    backend, wrong = tiny_tokenizer(), []

    def work(*, allow: bool) -> None:
        tokenizer = make(backend, allow_special_tokens=allow)
        for _ in range(20):
            tokenized, _ = tokenizer(["</s> a"] * 200)
            wrong.extend(p for p in tokenized.values() if (EOS in p.ids) is not allow)

    threads = [threading.Thread(target=work, kwargs={"allow": a}) for a in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def said(tokenizer: Tokenizer, prompts: Sequence[Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        tokenizer(prompts)
    return messages


SPELT = ["fine", f"{TEXT}<|im_end|>", "a < b </ c", "x</s>"]


def test_special_token_text_that_is_read_as_text_is_said_once() -> None:
    tokenizer = make()
    (message,) = said(tokenizer, SPELT)
    assert message.category is SpecialTextWarning
    assert issubclass(SpecialTextWarning, UserWarning)
    assert str(message.message).startswith(
        "2 of 4 prompts have text such as <|im_end|> that is read as text, the first at position 1"
    )
    assert "allow_special_tokens=True" in str(message.message)
    assert TEXT not in str(message.message)
    assert message.filename == __file__
    assert not said(tokenizer, SPELT)


def test_ordinary_text_and_control_tokens_are_not_warned_about() -> None:
    assert not said(make(), ["fine", "a < b </ c", "<|im", "< s >", [0, 1, 2]])
    assert not said(make(allow_special_tokens=True), SPELT)
    silent = make()
    silent.silence()
    assert not said(silent, [*SPELT, [0, 0, 5]])


@pytest.mark.parametrize(
    ("prompts", "allow", "warned"),
    [
        (["fine", "<s>hi", "<s><s>hi"], True, "2 of 3 prompts have two <s> tokens at the start"),
        (["fine", [0, 0, 7]], False, "1 of 2 prompts has two <s> tokens at the start"),
        (["fine", "hi<s>", " <s>hi", [0, 7], [0], [7, 0, 0]], True, None),
    ],
    ids=["text", "ids", "one"],
)
def test_second_beginning_of_sequence_is_said_and_left(
    prompts: list[Any], allow: bool, warned: str | None
) -> None:
    tokenizer = make(tiny_tokenizer(adds_bos=True), allow_special_tokens=allow)
    messages = said(tokenizer, prompts)
    if warned is None:
        assert not messages
        return
    assert [message.category for message in messages] == [DoubleBosWarning]
    assert str(messages[0].message).startswith(f"{warned}, the first at position 1")
    assert not said(tokenizer, prompts)
    tokenized, _ = tokenizer(prompts)
    assert tokenized[1].ids[:2] == [0, 0]  # as it was given


def test_no_bos_means_no_second_one() -> None:
    backend = tiny_tokenizer()
    backend.bos_token = None
    assert not said(make(backend), [[0, 0, 7]])
