"""From prompts to token ids; the one place that takes text and ids alike."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from splinellm.errors import PromptError
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
    """

    ids: list[int]
    truncated: bool

    @cached_property
    def key(self) -> bytes:
        """Equal for prompts that are read alike, however long they were; bytes keep their hash."""
        return array("q", self.ids).tobytes()


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
    ) -> None:
        self._tokenizer = tokenizer
        self._n_vocabulary = n_vocabulary
        self.max_tokens = max_tokens
        self._keeps_end = keeps_end
        self._split_special_tokens = not allow_special_tokens
        self._notices = Notices(tokenizer, reads_special_tokens=allow_special_tokens)

    def silence(self) -> None:
        """Warn about no prompt: those of a service come from strangers, who do not see it."""
        self._notices.silence()

    def __call__(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise what can be tokenised.

        Parameters
        ----------
        prompts : sequence of str or sequence of int
            Texts or token ids.

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
        for index, prompt in enumerate(prompts):
            try:
                check_prompt(prompt, index)
                if isinstance(prompt, str):
                    texts[index] = prompt
                else:
                    ids[index] = [int(token) for token in prompt]
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
                )["input_ids"]
            ids.update(zip(texts, encoded, strict=True))
        self._notices.look_at_ids(ids, len(prompts))
        tokenized = {}
        for index in sorted(ids):
            try:
                if not len(ids[index]):  # some normalisers strip a text to nothing
                    raise PromptError("the text has no tokens", index=index)
                # Of texts, too: a tokenizer may have tokens that its model has no embedding for.
                self._check_vocabulary(ids[index], index)
                cut = cut_to(ids[index], self.max_tokens, self._n_kept(ids[index]))
                tokenized[index] = TokenizedPrompt(cut, len(ids[index]) > self.max_tokens)
            except PromptError as error:
                errors[index] = error
        return tokenized, errors

    @property
    def prefix(self) -> list[int]:
        """Ids that every text starts with, such as that of a BOS token."""
        return self._around[0]

    @property
    def suffix(self) -> list[int]:
        """Ids that every text ends with, however it is cut; none for a decoder."""
        return self._around[1] if self._keeps_end else []

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        with _one_at_a_time:
            bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
            whole = self._tokenizer("a")["input_ids"]
        starts = range(len(whole) - len(bare) + 1)
        first = next((i for i in starts if whole[i : i + len(bare)] == bare), None)
        if first is None:
            return [], []
        return list(whole[:first]), list(whole[first + len(bare) :])

    def _n_kept(self, ids: Sequence[int]) -> int:
        """How many of the last tokens stay where they are cut."""
        suffix = self.suffix
        return len(suffix) if suffix and [*ids[-len(suffix) :]] == suffix else 0

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
        prompts : mapping of int to str or sequence of int
            By position among those given.
        tokenized : mapping of int to TokenizedPrompt
            Of the same prompts.
        """
        places = [position for position, prompt in prompts.items() if isinstance(prompt, str)]
        offsets = dict(zip(places, self.offsets([str(prompts[p]) for p in places]), strict=True))
        tokens: list[str] = []
        spans: list[tuple[int, int]] = []
        for position, prompt in prompts.items():
            ids = tokenized[position].ids
            where = offsets.get(position, [(NOWHERE, NOWHERE)] * len(ids))
            where = cut_to(where, len(ids), self._n_kept(ids))
            text = prompt if isinstance(prompt, str) else ""
            spans.extend(where)
            tokens.extend(
                text[begin:end] or self._tokenizer.decode([token])
                for token, (begin, end) in zip(ids, where, strict=True)
            )
        lengths = [len(tokenized[position].ids) for position in prompts]
        spread = np.array(spans, np.int64).reshape(-1, 2)
        return TokenIndex(
            np.repeat(np.array([*prompts], np.int64), lengths),
            np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in lengths)]),
            tokens,
            spread[:, 0],
            spread[:, 1],
        )

    def _check_vocabulary(self, ids: Sequence[int], index: int) -> None:
        for token in ids:
            if not 0 <= token < self._n_vocabulary:
                raise PromptError(
                    f"token id {token} is not in the vocabulary",
                    index=index,
                    hint=f"ids are 0 to {self._n_vocabulary - 1}",
                )
