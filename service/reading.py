"""Windows: how the prompts of a request are read, each in one piece or in several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.errors import InputTooLongError
from service.inputs import Inputs, blame
from splinellm.errors import PromptError
from splinellm.extraction.tokens import TokenizedPrompt, cut_to
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
        See :func:`window_places`.

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
        ids = prompt.ids
        too_long = len(ids) > limit
        if too_long and overflow == "error":
            raise too_many_tokens(name, len(ids), limit, can_window=window is not None)
        is_cut = too_long and overflow == "truncate"
        n_end = len(_end_of(ids, suffix))
        kept = cut_to(range(len(ids)), limit, n_end) if is_cut else [*range(len(ids))]
        cut = [ids[place] for place in kept]
        parts = window_places(cut, window or len(cut), prefix, suffix, grows=grows)
        windows = [_window(prompt, [kept[i] for i in part], is_cut=is_cut) for part in parts]
        # A window without any token that counts has nothing to say.
        windows = [it for it in windows if it.counted is None or any(it.counted)]
        if not windows:
            raise blame(PromptError("no token that counts is among those that are read"), name)
        reading.windows.extend(windows)
        reading.owners.extend([owner] * len(windows))
        reading.n_tokens.append(len(kept))
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
    """Cut token ids into windows; see :func:`window_places`, which says where they are."""
    return [[ids[place] for place in part] for part in window_places(ids, size, prefix, suffix)]


def window_places(
    ids: list[int],
    size: int,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
    *,
    grows: bool = False,
) -> list[list[int]]:
    """Say which token ids make windows: they overlap by a quarter, and all are full.

    Parameters
    ----------
    ids : list of int
        All tokens of a text.
    size : int
        Tokens of a window.
    prefix : sequence of int
        If `ids` starts with them, so does every window.
    suffix : sequence of int
        If `ids` ends with them, so does every window.
    grows : bool
        Windows stay where they are when more is behind, so that each begins as it did before; the
        last one need not be full.

    Returns
    -------
    list of list of int
        Places in `ids`; one list, if the text fits one window.
    """
    places = [*range(len(ids))]
    if len(ids) <= size:
        return [places]
    head = list(prefix)
    if not head or len(head) >= size or ids[: len(head)] != head:
        head = []
    tail = _end_of(ids, suffix)
    if len(head) + len(tail) >= size:
        tail = []
    body = places[len(head) : len(ids) - len(tail)]
    first, end = places[: len(head)], places[len(ids) - len(tail) :]
    room = size - len(head) - len(tail)
    step = max(1, room - room // 4)
    last = len(body) - room
    starts = [*range(0, last, step), last]
    if grows:
        starts = [*range(0, len(body) - (room - step), step)]
    return [first + body[start : start + room] + end for start in starts]


def _window(prompt: TokenizedPrompt, places: Sequence[int], *, is_cut: bool) -> TokenizedPrompt:
    """Some tokens of a prompt, and whether they count."""
    counted = prompt.counted
    return TokenizedPrompt(
        [prompt.ids[place] for place in places],
        is_cut,
        None if counted is None else tuple(counted[place] for place in places),
    )


def _end_of(ids: list[int], suffix: Sequence[int]) -> list[int]:
    """The suffix, if `ids` ends with it."""
    tail = list(suffix)
    return tail if tail and ids[-len(tail) :] == tail else []
