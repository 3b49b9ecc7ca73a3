"""From prompts to token ids; the one place that takes text and ids alike."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Any, Self, TypeVar, cast

import numpy as np

from splinellm.conversations import (
    Count,
    Message,
    is_conversation,
    messages_of,
    of_count,
    require_counted,
)
from splinellm.errors import PromptError
from splinellm.extraction.affixes import Affixes
from splinellm.extraction.chat import ChatReader, Place, ReadChat, require_template
from splinellm.extraction.notices import Notices
from splinellm.prompts import Prompt, check_prompt
from splinellm.token_index import NOWHERE, TokenIndex

_T = TypeVar("_T")

_one_at_a_time = Lock()
"""A fast tokenizer keeps whether to split special tokens in itself: for another thread's, too."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """Token ids of one prompt, cut to the limit.

    Parameters
    ----------
    ids : list of int
        At least one, at most ``max_tokens``.
    truncated : bool
        Whether the prompt had more.
    counted : tuple of bool, optional
        Of every token, whether the statistics are over it; all of them by default.
    count : str
        Which those are.
    encoding : tokenizers.Encoding, optional
        Of a text, before it was cut: it knows where the tokens are without tokenising again.
    is_rendered : bool
        Whether a chat template has made them of a conversation.
    """

    ids: list[int]
    truncated: bool
    counted: tuple[bool, ...] | None = None
    count: Count = field(default="all", compare=False)
    encoding: Any = field(default=None, compare=False, repr=False)
    is_rendered: bool = field(default=False, compare=False)

    @cached_property
    def key(self) -> bytes:
        """Equal for prompts that are read alike, however long they were; bytes keep their hash."""
        ids = array("q", self.ids).tobytes()
        return ids if self.counted is None else ids + b"counted" + bytes(self.counted)


def cut_to(tokens: Sequence[_T], size: int, n_kept: int = 0) -> list[_T]:
    """Cut what is too long, one item a token.

    Parameters
    ----------
    tokens : sequence
        Ids of a prompt, or whatever goes with them.
    size : int
        At most so many are left.
    n_kept : int
        So many at the end stay, as transformers cuts texts, if there is room for others.

    Returns
    -------
    list
    """
    if len(tokens) <= size:
        return list(tokens)
    n_kept = n_kept if n_kept < size else 0
    return [*tokens[: size - n_kept], *tokens[len(tokens) - n_kept :]]


class Tokenizer:
    """Tokenise prompts the same way everywhere.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer; its own BOS and EOS rules apply.
    n_vocabulary : int
        Token ids must be below this.
    max_tokens : int
        Prompts are cut to their first so many tokens.
    keeps_end : bool
        Whether a prompt that is cut keeps the special tokens that the tokenizer ends texts with.
    allow_special_tokens : bool
        Whether strings such as ``</s>`` in a text become control tokens. By default they stay
        text: whoever writes a prompt must not be able to forge them.
    count : str
        Tokens of a conversation that the statistics are over; see
        :data:`splinellm.conversations.Count`.
    chat_template : str, optional
        Renders conversations, in place of the tokenizer's own.

    Raises
    ------
    ChatTemplateError
        `chat_template` cannot be parsed; or conversations are counted, and there is none to render
        them with.

    Notes
    -----
    A text that spells a special token which stays text, and a prompt that begins with two BOS
    tokens, are read as they are and warned about, each once.
    """

    def __init__(
        self,
        tokenizer: Any,
        n_vocabulary: int,
        max_tokens: int,
        *,
        allow_special_tokens: bool,
        keeps_end: bool = False,
        count: Count = "all",
        chat_template: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._n_vocabulary = n_vocabulary
        self.max_tokens = max_tokens
        self._split_special_tokens = not allow_special_tokens
        self._count = count
        self._chat = ChatReader(tokenizer, chat_template, allow_special_tokens=allow_special_tokens)
        if chat_template is not None or count != "all":  # else there may be texts alone
            self.require_messages()
        self._notices = Notices(tokenizer, reads_special_tokens=allow_special_tokens)
        # Once they are known, of all twins.
        self._affixes = Affixes(self._ids_of, keeps_end=keeps_end)
        self._spelt: dict[int, str] = {}

    def anew(self) -> Self:
        """The same one, which has warned of nothing."""
        twin = copy(self)
        twin._notices = self._notices.anew()  # noqa: SLF001 (its own)
        return twin

    def require_messages(self) -> None:
        """Refuse to read conversations, before there is any; see :func:`require_template`."""
        require_template(self._chat.template)

    def silence(self) -> None:
        """Warn about no prompt: those of a service come from strangers, who do not see it."""
        self._notices.silence()

    def __call__(
        self, prompts: Sequence[Prompt], *, cuts: bool = True
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise what can be tokenised.

        Parameters
        ----------
        prompts : sequence of str or sequence of int
            Texts, token ids or conversations.
        cuts : bool
            Whether what is too long is cut to the limit.

        Returns
        -------
        tokenized : dict of int to TokenizedPrompt
            By position among the prompts.
        errors : dict of int to PromptError
            For the positions that are not among the above.
        """
        ids: dict[int, Sequence[int]] = {}
        errors: dict[int, PromptError] = {}
        texts: dict[int, str] = {}
        encodings: dict[int, Any] = {}
        chats: dict[int, list[Message]] = {}
        for index, prompt in enumerate(prompts):
            try:
                if is_conversation(prompt):
                    chat = messages_of(prompt, index)
                    of_count(chat, self._count, index)  # which there must be some of
                    chats[index] = chat
                    continue
                check_prompt(prompt, index)
                self._require_messages(index)
                if isinstance(prompt, str):
                    texts[index] = prompt
                else:
                    ids[index] = [int(cast(int, token)) for token in prompt]
            except PromptError as error:
                errors[index] = error
        if texts:
            self._notices.look_at_texts(texts, len(prompts))
            with _one_at_a_time:
                encoded = self._tokenizer(
                    list(texts.values()),
                    split_special_tokens=self._split_special_tokens,
                    return_attention_mask=False,
                    verbose=False,
                )
            ids.update(zip(texts, encoded["input_ids"], strict=True))
            # A tokenizer in Python has none: places are looked up when they are wanted.
            known = getattr(encoded, "encodings", None)
            encodings.update(zip(texts, known or [None] * len(texts), strict=True))
        counted = self._read_chats(chats, ids, errors, len(prompts))
        self._notices.look_at_ids(ids, len(prompts))
        tokenized = {}
        for index in sorted(ids):
            try:
                cut = self._cut(
                    ids[index], counted.get(index), encodings.get(index), index, cuts=cuts
                )
            except PromptError as error:
                errors[index] = error
            else:
                tokenized[index] = replace(cut, is_rendered=True) if index in chats else cut
        return tokenized, errors

    def _read_chats(
        self,
        chats: Mapping[int, list[Message]],
        ids: dict[int, Sequence[int]],
        errors: dict[int, PromptError],
        n_prompts: int,
    ) -> dict[int, tuple[bool, ...] | None]:
        """Add the ids of conversations, or why they have none; say which of them count."""
        said = {i: "\n".join(message.text for message in chat) for i, chat in chats.items()}
        self._notices.look_at_texts(said, n_prompts)
        counted = {}
        for index, chat in chats.items():
            try:
                found = self._read_chat(chat)
            except PromptError as error:
                errors[index] = error.at(index)
            else:
                ids[index] = found.ids
                counted[index] = found.counted(self._count, chat)
        return counted

    def _read_chat(self, chat: Sequence[Message]) -> ReadChat:
        with _one_at_a_time:
            return self._chat(chat)

    def _require_messages(self, index: int) -> None:
        if self._count != "all":
            raise PromptError(
                f"a text has no messages, of which '{self._count}' could be counted",
                index=index,
                hint="give a conversation, or count all",
            )

    def _cut(
        self,
        ids: Sequence[int],
        counted: tuple[bool, ...] | None,
        encoding: Any,
        index: int,
        *,
        cuts: bool,
    ) -> TokenizedPrompt:
        if not len(ids):  # some normalisers strip a text to nothing
            raise PromptError("the text has no tokens", index=index)
        # Of texts, too: a tokenizer may have tokens that its model has no embedding for.
        self._check_vocabulary(ids, index)
        limit = self.max_tokens if cuts else len(ids)
        is_cut = len(ids) > limit
        n_kept = self._affixes.n_kept(ids) if is_cut else 0  # nothing but a tokenizer tells
        cut = cut_to(ids, limit, n_kept)
        if counted is not None:
            counted = tuple(cut_to(counted, limit, n_kept))
            require_counted(counted, self._count, index, is_cut=is_cut)
        return TokenizedPrompt(cut, is_cut, counted, self._count, encoding)

    @property
    def prefix(self) -> list[int]:
        """Ids that every text starts with, such as that of a BOS token."""
        return self._affixes.prefix

    @property
    def suffix(self) -> list[int]:
        """Ids that every text ends with, however it is cut; none for a decoder."""
        return self._affixes.suffix

    def _ids_of(self, text: str, **options: Any) -> Sequence[int]:
        with _one_at_a_time:
            ids: Sequence[int] = self._tokenizer(text, **options)["input_ids"]
        return ids

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where in its text each token is.

        Parameters
        ----------
        texts : sequence of str
            That can be tokenised.

        Returns
        -------
        list of list of (int, int)
            Begin and end of every token, in characters, of each text; a special token that is not
            in the text begins where it ends.
        """
        if not texts:  # which transformers' tokenizers do not expect
            return []
        with _one_at_a_time:
            encoded = self._tokenizer(
                list(texts),
                split_special_tokens=self._split_special_tokens,
                return_offsets_mapping=True,
                verbose=False,
            )
        return [[(begin, end) for begin, end in one] for one in encoded["offset_mapping"]]

    def index(
        self, prompts: Mapping[int, Prompt], tokenized: Mapping[int, TokenizedPrompt]
    ) -> TokenIndex:
        """Say which tokens were read, prompt by prompt.

        Parameters
        ----------
        prompts : mapping of int to str, sequence of int or conversation
            By position among those given.
        tokenized : mapping of int to TokenizedPrompt
            Of the same prompts.
        """
        texts = [
            p
            for p, one in prompts.items()
            if isinstance(one, str) and tokenized[p].encoding is None
        ]
        offsets = dict(zip(texts, self.offsets([str(prompts[p]) for p in texts]), strict=True))
        parts = []
        for position, prompt in prompts.items():
            ids = tokenized[position].ids
            if is_conversation(prompt):
                parts.append(self._index_chat(position, messages_of(prompt), ids))
                continue
            if (encoding := tokenized[position].encoding) is not None:
                offsets[position] = encoding.offsets
            where = offsets.get(position, [(NOWHERE, NOWHERE)] * len(ids))
            where = cut_to(where, len(ids), self._affixes.n_kept(ids))
            text = prompt if isinstance(prompt, str) else ""
            parts.append(self._index_one(position, [text] * len(ids), where, ids))
        return parts[0] if len(parts) == 1 else TokenIndex.concatenate(parts)

    def _index_chat(self, position: int, chat: Sequence[Message], ids: Sequence[int]) -> TokenIndex:
        places: list[Place | None] = self._read_chat(chat).places
        places = cut_to(places, len(ids), self._affixes.n_kept(ids))
        texts = ["" if place is None else chat[place.message].text for place in places]
        where = [(NOWHERE, NOWHERE) if it is None else (it.begin, it.end) for it in places]
        index = self._index_one(position, texts, where, ids)
        return replace(
            index,
            role=[None if place is None else chat[place.message].role for place in places],
            message=np.array([NOWHERE if it is None else it.message for it in places], np.int64),
        )

    def _index_one(
        self,
        position: int,
        texts: Sequence[str],
        where: Sequence[tuple[int, int]],
        ids: Sequence[int],
    ) -> TokenIndex:
        """Tokens of one prompt; `texts` has for each what its place is in."""
        spread = np.array(where, np.int64).reshape(-1, 2)
        return TokenIndex(
            np.full(len(ids), position, np.int64),
            np.arange(len(ids)),
            [
                text[begin:end] or self._spelling(token)
                for text, token, (begin, end) in zip(texts, ids, where, strict=True)
            ],
            spread[:, 0],
            spread[:, 1],
        )

    def _spelling(self, token: int) -> str:
        """A token that is nowhere in its text, such as ``[CLS]``, of which every text has some."""
        if token not in self._spelt:
            self._spelt[token] = self._tokenizer.decode([token])
        return self._spelt[token]

    def _check_vocabulary(self, ids: Sequence[int], index: int) -> None:
        if min(ids) >= 0 and max(ids) < self._n_vocabulary:
            return
        token = next(token for token in ids if not 0 <= token < self._n_vocabulary)
        raise PromptError(
            f"token id {token} is not in the vocabulary",
            index=index,
            hint=f"ids are 0 to {self._n_vocabulary - 1}",
        )
