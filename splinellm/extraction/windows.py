"""Texts beyond a token limit, read to their end: in overlapping windows of as many tokens.

The one place that says where windows are; the library reads them at once, the service in batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from splinellm.conversations import require_counted
from splinellm.errors import ConfigurationError, PromptError
from splinellm.extraction.tokens import TokenizedPrompt, cut_to
from splinellm.table import FeatureTable

Overflow = Literal["windows", "error", "truncate"]
OVERFLOWS: tuple[Overflow, ...] = ("windows", "error", "truncate")
"""What happens to a text beyond the limit: read all of it, refuse it, or cut it."""


@dataclass(frozen=True, eq=False)
class WindowedTable:
    """Features of the windows of prompts, in the prompts' order.

    Parameters
    ----------
    table : FeatureTable
        A row per window.
    owners : ndarray of int64, shape (rows,)
        The prompt of each window: 0, 1, 2, ... among those that were read, ascending.
    n_tokens : ndarray of int64, shape (N,)
        Tokens that were read of each of these prompts, those of overlapping windows once.
    truncated : ndarray of bool, shape (N,)
        Whether its end was not read.
    errors : dict of int to PromptError
        Why others were not, by position among the prompts given.
    """

    table: FeatureTable
    owners: np.ndarray
    n_tokens: np.ndarray
    truncated: np.ndarray
    errors: dict[int, PromptError]


def require_overflow(overflow: str) -> None:
    """Refuse what is no way to treat long texts."""
    if overflow not in OVERFLOWS:
        raise ConfigurationError(
            f"unknown overflow '{str(overflow)[:40]}'", hint=f"use {', '.join(OVERFLOWS)}"
        )


def windows_of(
    prompt: TokenizedPrompt,
    *,
    limit: int,
    cuts: bool,
    window: int | None = None,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
    grows: bool = False,
) -> tuple[list[TokenizedPrompt], int, bool]:
    """Cut one prompt into windows.

    Parameters
    ----------
    prompt : TokenizedPrompt
        All of its tokens.
    limit : int
        Tokens that are read at most, if it is to be cut.
    cuts : bool
        Whether it is.
    window : int, optional
        Tokens of a window; one window by default.
    prefix, suffix, grows
        See :func:`window_places`.

    Returns
    -------
    windows : list of TokenizedPrompt
    n_tokens : int
        That are in them, each counted once.
    is_cut : bool
        Whether there were more.

    Raises
    ------
    PromptError
        None of its tokens counts.
    """
    ids = prompt.ids
    is_cut = cuts and len(ids) > limit
    kept = [*range(len(ids))]
    if is_cut:
        kept = cut_to(kept, limit, len(_end_of(ids, suffix)))
    cut = [ids[place] for place in kept]
    parts = window_places(cut, window or len(cut), prefix, suffix, grows=grows)
    windows = [_window(prompt, [kept[i] for i in part], is_cut=is_cut) for part in parts]
    # A window without any token that counts has nothing to say.
    windows = [it for it in windows if it.counted is None or any(it.counted)]
    if not windows:
        require_counted([], prompt.count, is_cut=is_cut)
    return windows, len(kept), is_cut


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
        prompt.count,
        is_rendered=prompt.is_rendered,
    )


def _end_of(ids: list[int], suffix: Sequence[int]) -> list[int]:
    """The suffix, if `ids` ends with it."""
    tail = list(suffix)
    return tail if tail and ids[-len(tail) :] == tail else []
