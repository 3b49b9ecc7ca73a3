"""Find prompts that begin alike: what they share is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_SHARED_TOKENS = 32
"""A shorter beginning costs more bookkeeping than it saves."""
MIN_SAVING = 0.2
"""Share of a group's tokens that reading the beginning once must save."""


@dataclass(frozen=True)
class Group:
    """Prompts with a common beginning.

    Parameters
    ----------
    members : list of int
        Positions of the prompts.
    n_shared : int
        Tokens that all of them begin with; 0 if that is not worth while. Every prompt has more.
    """

    members: list[int]
    n_shared: int


def group_by_beginning(prompts: Sequence[Sequence[int]]) -> list[Group]:
    """Group prompts so that reading shared beginnings once saves the most.

    In sorted order prompts with a common beginning stand side by side; a group grows for as long
    as that saves more tokens.

    Parameters
    ----------
    prompts : sequence of sequence of int
        Token ids, at least one each.

    Returns
    -------
    list of Group
        Every prompt is in one; those that share nothing are together in a last one.
    """
    order = sorted(range(len(prompts)), key=lambda position: [*prompts[position]])
    groups: list[Group] = []
    alone: list[int] = []
    start = 0
    while start < len(order):
        end, n_shared = _extent(prompts, order, start)
        members = order[start:end]
        saved = (len(members) - 1) * n_shared
        if n_shared and saved >= MIN_SAVING * sum(len(prompts[i]) for i in members):
            groups.append(Group(members, n_shared))
        else:
            alone.extend(members)
        start = end
    if alone:
        groups.append(Group(sorted(alone), 0))
    return groups


def _extent(prompts: Sequence[Sequence[int]], order: list[int], start: int) -> tuple[int, int]:
    """Where the group that starts at `start` ends, and the tokens that it shares."""
    n_shared, saving = len(prompts[order[start]]) - 1, 0
    end = start + 1
    while end < len(order):
        first, second = prompts[order[end - 1]], prompts[order[end]]
        common = min(n_shared, _common(first, second, n_shared), len(second) - 1)
        if common < MIN_SHARED_TOKENS or common * (end - start) <= saving:
            break
        n_shared, saving = common, common * (end - start)
        end += 1
    return end, n_shared if end > start + 1 else 0


def _common(first: Sequence[int], second: Sequence[int], limit: int) -> int:
    """Length of the common beginning of two prompts, looking at `limit` tokens at most."""
    limit = min(limit, len(first), len(second))
    return next((i for i in range(limit) if first[i] != second[i]), limit)
