"""Token ids that a tokenizer puts around every text, such as BOS, or [CLS] and [SEP]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property


class Affixes:
    """What every text begins and ends with, found when it is first asked for.

    Parameters
    ----------
    ids_of : callable
        Gives the token ids of a text; with ``add_special_tokens=False`` those of the text alone.
    keeps_end : bool
        Whether a text that is cut still ends as every text does.
    """

    def __init__(self, ids_of: Callable[..., Sequence[int]], *, keeps_end: bool) -> None:
        self._ids_of = ids_of
        self._keeps_end = keeps_end

    @property
    def prefix(self) -> list[int]:
        """Ids that every text starts with, such as that of a BOS token."""
        return self._around[0]

    @property
    def suffix(self) -> list[int]:
        """Ids that every text ends with, however it is cut; none for a decoder."""
        return self._around[1] if self._keeps_end else []

    def n_kept(self, ids: Sequence[int]) -> int:
        """How many of the last tokens stay where they are cut."""
        suffix = self.suffix
        return len(suffix) if suffix and [*ids[-len(suffix) :]] == suffix else 0

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        bare, whole = self._ids_of("a", add_special_tokens=False), self._ids_of("a")
        starts = range(len(whole) - len(bare) + 1)
        first = next((i for i in starts if whole[i : i + len(bare)] == bare), None)
        if first is None:
            return [], []
        return list(whole[:first]), list(whole[first + len(bare) :])
