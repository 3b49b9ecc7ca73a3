"""Statistics over some of the tokens are those of the oracle with the same mask, holes and all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splinellm import SplineExtractor
from splinellm.conversations import COUNTS, Count
from splinellm.errors import ConfigurationError, ConversationError, PromptError
from splinellm.extraction import SplineExtractor as Extractor
from splinellm.extraction.tokens import TokenizedPrompt
from tests import oracle
from tests.chats import CHATML
from tests.tiny import random_prompts, tiny_backbone

FEATURES = "paper,blocks:8,sign_entropy_mean,sign_entropy_std"

CHATS = [
    [
        {"role": "system", "content": "You are all wonderful"},
        {"role": "user", "content": "The capital of France\n\nis"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "If it rains"},
        {"role": "assistant", "content": "bring the washing in."},
    ],
    [
        {"role": "system", "content": "You are all wonderful"},
        {"role": "user", "content": "The capital of France\n\nis"},
        {"role": "assistant", "content": "add(a, b)"},
    ],
]


TURNS = [
    [
        {"role": ("user", "assistant")[turn % 2], "content": f"{turn}{'is ' * (i % 3)}{i}"}
        for turn in range(n_turns)
    ]
    for i, n_turns in enumerate([2, 3, 4, 5, 6] * 2)
]


def _masked(view: Any, mask: Any) -> Any:
    x = None if view.x is None else view.x[mask]
    return replace(view, h=view.h[mask], x=x)


def expected(extractor: Extractor, ids: list[int], counted: Any) -> np.ndarray:
    """Features by the oracle: those tokens, and the attention of the last of them."""
    model = extractor.backbone.model
    weights = {name: it.double().numpy() for name, it in model.state_dict().items()}
    mask = np.array(counted, bool)
    last = int(np.flatnonzero(mask)[-1])
    views = oracle.read_prompt(weights, model.config, ids[: last + 1])
    rows = [oracle.features(_masked(view, mask[: last + 1]), n_blocks=8) for view in views]
    names = extractor.schema.features
    return np.array([[row[name] for name in names] for row in rows])


def check(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_masks_with_holes(cache_bytes: int) -> None:
    backbone = tiny_backbone()
    extractor = SplineExtractor(backbone, features=FEATURES, prefix_cache_bytes=cache_bytes)
    random = np.random.default_rng(0)
    prompts = {}
    (beginning,) = random_prompts(70)
    for i, tail in enumerate([*random_prompts(1, 5, 40, 90, seed=3)] * 2):
        ids = beginning + tail if i % 2 else tail  # some share a beginning, of which other counts
        mask = random.random(len(ids)) < 0.4
        mask[random.integers(len(ids))] = True
        mask[-1] &= i > 3
        mask[0] |= not mask.any()
        prompts[i] = TokenizedPrompt(ids, False, tuple(mask.tolist()))
    for _ in range(2):  # the second time, what there is of a cache is full
        for i, rows in extractor.read(prompts).items():
            assert not isinstance(rows, PromptError)
            wanted = expected(extractor, prompts[i].ids, prompts[i].counted)
            check(rows.reshape(wanted.shape), wanted)


def test_ten_conversations_of_two_to_six_turns() -> None:
    """Of all tokens the bits of the same ids; of each other count the oracle's, with that mask."""
    backbone = tiny_backbone()
    for count in ("all", "content", "user", "assistant", "last"):
        extractor = SplineExtractor(backbone, features=FEATURES, count=count, chat_template=CHATML)
        table = extractor.extract(TURNS)
        read = extractor.tokenize(TURNS)[0]
        if count == "all":
            by_ids = extractor.extract([read[i].ids for i in range(10)])
            np.testing.assert_array_equal(table.values, by_ids.values)
        for i in range(10):
            counted = read[i].counted or (True,) * len(read[i].ids)
            check(table.array[i], expected(extractor, read[i].ids, counted))


@pytest.mark.parametrize("count", COUNTS)
def test_every_count_of_conversations(count: Count) -> None:
    backbone = tiny_backbone()
    extractor = SplineExtractor(backbone, features=FEATURES, count=count, chat_template=CHATML)
    by_token = SplineExtractor(backbone, features="sign_mean", chat_template=CHATML)
    tokens = by_token.extract(CHATS, granularity="token").tokens
    assert tokens is not None
    assert tokens.role is not None
    assert tokens.message is not None
    table = extractor.extract(CHATS)
    assert table.provenance.count == count
    for i, chat in enumerate(CHATS):
        mine = tokens.row == i
        role, message = np.array(tokens.role)[mine], tokens.message[mine]
        counted = {
            "all": np.ones(len(role), bool),
            "content": message >= 0,
            "last": message == len(chat) - 1,
        }.get(count, role == count)
        ids = by_token.tokenize([chat])[0][0].ids
        assert table.n_tokens[i] == len(ids)  # the model reads them all
        check(table.array[i], expected(extractor, ids, counted))


def test_the_same_ids_give_the_same_bits() -> None:
    extractor = SplineExtractor(tiny_backbone(), features=FEATURES, chat_template=CHATML)
    ids = extractor.tokenize(CHATS)[0]
    by_ids = extractor.extract([ids[0].ids, ids[1].ids])
    np.testing.assert_array_equal(extractor.extract(CHATS).values, by_ids.values)


def test_tokens_tell_who_says_them() -> None:
    extractor = SplineExtractor(tiny_backbone(), features="sign_mean", chat_template=CHATML)
    table = extractor.extract([CHATS[1], "a text"], granularity="token")
    frame = table.to_pandas()
    said = frame[frame["role"].notna()]
    for (message, role), rows in said.groupby(["message", "role"]):
        text = CHATS[1][int(message)]["content"]
        assert CHATS[1][int(message)]["role"] == role
        spans = {(int(b), int(e)) for b, e in zip(rows["begin"], rows["end"], strict=True)}
        assert "".join(text[b:e] for b, e in sorted(spans)) == text
    assert frame[frame["row"] == 1]["message"].isna().all()
    assert frame[frame["row"] == 1]["begin"].notna().all()
    again = type(table).from_arrow(table.to_arrow())
    assert again.tokens is not None
    assert again.tokens.role == table.tokens.role  # type: ignore[union-attr]


def test_what_cannot_be_counted() -> None:
    backbone = tiny_backbone()
    extractor = SplineExtractor(backbone, count="last", chat_template=CHATML, max_tokens=20)
    _, errors = extractor.extract_valid([CHATS[0], "a text", CHATS[0][1:2]])
    assert "cut: raise max_tokens" in str(errors[0])
    assert "a text has no messages" in str(errors[1])
    assert set(errors) == {0, 1}
    other = SplineExtractor(backbone, count="system", chat_template=CHATML)
    with pytest.raises(PromptError, match="count something else"):
        other.extract([CHATS[0][1:]])
    with pytest.raises(ConversationError) as caught:
        other.extract([CHATS[0], CHATS[0][1:]])
    assert str(caught.value) == (
        "prompt 1: messages have no message of the system, and its tokens are what counts "
        "(count something else: user, assistant)"
    )
    with pytest.raises(ConfigurationError, match="rows of prefixes count all"):
        other.extract(CHATS, granularity="prefix")
    with pytest.raises(ConfigurationError, match="unknown count 'first'"):
        SplineExtractor(backbone, count="first")  # type: ignore[arg-type]
