"""Warnings about prompts that can be read, but perhaps not as they were meant."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Self

from splinellm.prompts import DoubleBosWarning, PromptWarning, SpecialTextWarning


class Notices:
    """Looks at prompts on their way through a tokenizer, and says each kind of thing once.

    No message holds the text of a prompt, and nothing is changed. A look costs far less than the
    tokenising: only texts with the first character of a special token are scanned, and none once
    there is nothing new to say.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Whose BOS and special tokens are looked for.
    reads_special_tokens : bool
        Whether special tokens in a text become control tokens.
    """

    def __init__(self, tokenizer: Any, *, reads_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._bos = getattr(tokenizer, "bos_token_id", None)
        self._kinds: set[type[PromptWarning]] = {DoubleBosWarning}
        if not reads_special_tokens:
            self._kinds.add(SpecialTextWarning)
        self._pending = set(self._kinds)

    def anew(self) -> Self:
        """The same ones, none of them said."""
        _ = self._special  # found once for all of them
        twin = copy(self)
        twin._pending = set(self._kinds)  # noqa: SLF001 (its own)
        return twin

    def silence(self) -> None:
        """Say nothing from now on."""
        self._pending.clear()

    def look_at_texts(self, texts: Mapping[int, str], n_prompts: int) -> None:
        """Warn about texts, by position, that spell a special token which stays text."""
        if SpecialTextWarning not in self._pending or self._special is None:
            return
        beginnings, pattern = self._special
        found = {
            position: match[0]
            for position, text in texts.items()
            if any(beginning in text for beginning in beginnings)
            and (match := pattern.search(text))
        }
        if found:
            first = min(found)
            self._say(
                SpecialTextWarning,
                f"{_count(found, n_prompts)} text such as {found[first]} that is read as text, the "
                f"first at position {first}; allow_special_tokens=True (--allow-special-tokens) "
                "makes it control tokens",
            )

    def look_at_ids(self, ids: Mapping[int, Sequence[int]], n_prompts: int) -> None:
        """Warn about prompts, by position, that begin with two BOS tokens."""
        bos = self._bos
        if DoubleBosWarning not in self._pending or bos is None:
            return
        found = [i for i, one in ids.items() if len(one) > 1 and one[0] == bos and one[1] == bos]
        if found:
            self._say(
                DoubleBosWarning,
                f"{_count(found, n_prompts)} two {self._tokenizer.bos_token} tokens at the start, "
                f"the first at position {min(found)}; leave it out of the text where the tokenizer "
                "adds it",
            )

    @cached_property
    def _special(self) -> tuple[list[str], re.Pattern[str]] | None:
        """First characters of special tokens, quickly searched for, and a pattern of all."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        names = {token.content for token in added if token.special}
        names |= {str(token) for token in getattr(self._tokenizer, "all_special_tokens", ())}
        names.discard("")
        if not names:
            return None
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        return (
            sorted({name[0] for name in names}),
            re.compile("|".join(map(re.escape, longest_first))),
        )

    def _say(self, kind: type[PromptWarning], message: str) -> None:
        self._pending.discard(kind)
        warnings.warn(message, kind, stacklevel=_frames_inside())


def _count(found: Any, n_prompts: int) -> str:
    return f"{len(found):,} of {n_prompts:,} prompts {'has' if len(found) == 1 else 'have'}"


def _frames_inside() -> int:
    """Stack level, for `_say`, of the code that called the library."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith("splinellm."):
        frame, level = frame.f_back, level + 1
    return max(1, level)
