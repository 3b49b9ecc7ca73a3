"""Windows: how the prompts of a request are read, each in one piece or in several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.errors import InputTooLongError
from service.inputs import Inputs, blame
from splinellm.errors import PromptError
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.extraction.windows import window_places, windows_of
from splinellm.prompts import Prompt

Overflow = Literal["error", "truncate", "window"]


@dataclass(frozen=True)
class Reading:
    """How the prompts of a request are read: each in one window or in several.

    Parameters
    ----------
    windows : list of TokenizedPrompt
        Of all inputs, in order.
    owners : list of int
        The input that each window is of.
    n_tokens : list of int
        Tokens of each input that are read, those of overlapping windows once.
    truncated : list of bool
        Whether the end of an input is not read.
    names : list of str
        What to call each input.
    """

    windows: list[TokenizedPrompt]
    owners: list[int]
    n_tokens: list[int]
    truncated: list[bool]
    names: list[str]

    def __len__(self) -> int:
        return len(self.n_tokens)

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's usage object."""
        total = sum(self.n_tokens)
        return {"prompt_tokens": total, "total_tokens": total}

    @property
    def n_windows(self) -> list[int]:
        """Windows of each input."""
        counts = [0] * len(self)
        for owner in self.owners:
            counts[owner] += 1
        return counts


def read(
    inputs: Inputs,
    tokenize: Callable[
        [Sequence[Prompt]], tuple[Mapping[int, TokenizedPrompt], Mapping[int, PromptError]]
    ],
    *,
    limit: int,
    overflow: Overflow,
    window: int | None = None,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
    grows: bool = False,
) -> Reading:
    """Tokenise, and apply the limit.

    Parameters
    ----------
    inputs : Inputs
        Prompts.
    tokenize : callable
        Gives all tokens of a prompt, however many, or an error.
    limit : int
        Tokens from which on `overflow` decides.
    overflow : {"error", "truncate", "window"}
        Refuse a longer text, cut it, or read all of it.
    window : int, optional
        Longer texts are read in overlapping windows of so many tokens; by default in one, which
        `overflow` must not forbid.
    prefix : sequence of int
        Token ids that the tokenizer starts every text with; every window starts with them.
    suffix : sequence of int
        Token ids that the tokenizer ends every text with, if what is cut is to keep them; every
        window ends with them.
    grows : bool
        See :func:`splinellm.extraction.windows.window_places`.

    Raises
    ------
    PromptError, InputTooLongError
        Names the first input that cannot be read.
    """
    tokenized, errors = tokenize(inputs.prompts)
    if errors:
        first = min(errors)
        raise blame(errors[first], inputs.names[first])
    reading = Reading([], [], [], [], inputs.names)
    for owner, name in enumerate(inputs.names):
        prompt = tokenized[owner]
        if len(prompt.ids) > limit and overflow == "error":
            n = len(prompt.ids)
            raise too_many_tokens(name, n, limit, can_window=window is not None)
        try:
            windows, n_tokens, is_cut = windows_of(
                prompt,
                limit=limit,
                cuts=overflow == "truncate",
                window=window,
                prefix=prefix,
                suffix=suffix,
                grows=grows,
            )
        except PromptError as error:
            raise blame(error, name) from None
        reading.windows.extend(windows)
        reading.owners.extend([owner] * len(windows))
        reading.n_tokens.append(n_tokens)
        reading.truncated.append(is_cut)
    return reading


def too_many_tokens(name: str, n: int, limit: int, *, can_window: bool) -> InputTooLongError:
    """Say that an input is too long, how long it may be, and what to do about it."""
    ways = (
        '"overflow": "window" reads all of it, "truncate" its beginning'
        if can_window
        else '"overflow": "truncate" reads its beginning, or send it in parts'
    )
    return InputTooLongError(
        f"{name} has {n} tokens, but the limit is {limit}", param=name, hint=ways
    )


def split_windows(
    ids: list[int], size: int, prefix: Sequence[int] = (), suffix: Sequence[int] = ()
) -> list[list[int]]:
    """Cut token ids into windows, as :func:`~splinellm.extraction.windows.window_places` says."""
    return [[ids[place] for place in part] for part in window_places(ids, size, prefix, suffix)]
