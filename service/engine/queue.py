"""Prompts that wait, and which of them make the next batch.

Nothing here blocks or looks at the clock; :class:`service.engine.worker.Engine` holds a lock around
every call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from service.engine.request import Request
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.plan import Plan

LOOKAHEAD = 1024
"""Waiting prompts of a plan, the oldest, among which the oldest one's batch mates are sought."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One waiting prompt.

    Parameters
    ----------
    request : Request
        Where its answer goes.
    position : int
        Of the prompt in the request.
    prompt : TokenizedPrompt
        What is to be read.
    arrived_s : float
        When it came, on the engine's clock.
    """

    request: Request
    position: int
    prompt: TokenizedPrompt
    arrived_s: float

    @property
    def key(self) -> bytes:
        """Equal for prompts that are computed once."""
        return self.prompt.key

    @property
    def n_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt.ids)


class Queue:
    """First in, first out, but for prompts that fit a batch whose turn has come."""

    def __init__(self) -> None:
        self._by_plan: dict[Plan, OrderedDict[int, Entry]] = {}
        self._arrivals = 0
        self.n_tokens = 0
        self.n_inputs = 0

    def __bool__(self) -> bool:
        return self.n_inputs > 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Put entries of one request at the end."""
        for entry in entries:
            waiting = self._by_plan.setdefault(entry.request.plan, OrderedDict())
            waiting[self._arrivals] = entry
            self._arrivals += 1
            self.n_inputs += 1
            self.n_tokens += entry.n_tokens

    @property
    def oldest(self) -> Entry:
        """The entry that has waited longest; the queue must not be empty."""
        return self._oldest_line()[1]

    def has_batch(self, budget: int) -> bool:
        """Whether nothing that may still come could join the next batch."""
        oldest, mates = self._choose(budget)
        longest = max(entry.n_tokens for entry in (oldest, *mates.values()))
        distinct = {oldest.key, *(entry.key for entry in mates.values())}
        return (len(distinct) + 1) * longest > budget

    def take(self, budget: int) -> list[Entry]:
        """Remove the next batch: the oldest entry and what fits beside it.

        Parameters
        ----------
        budget : int
            Padded tokens of the batch; only the oldest entry may be beyond it, and then alone.

        Returns
        -------
        list of Entry
            All of one plan, the oldest first. Entries with equal token ids count once.
        """
        oldest, mates = self._choose(budget)
        waiting = self._by_plan[oldest.request.plan]
        number = next(iter(waiting))
        self._remove(oldest.request.plan, [number, *mates])
        return [oldest, *mates.values()]

    def remove(self, request: Request) -> int:
        """Remove what is left of a request; tell how many prompts that was."""
        waiting = self._by_plan.get(request.plan, OrderedDict())
        numbers = [number for number, entry in waiting.items() if entry.request is request]
        self._remove(request.plan, numbers)
        return len(numbers)

    def clear(self) -> list[Entry]:
        """Remove and return everything."""
        entries = [entry for waiting in self._by_plan.values() for entry in waiting.values()]
        self._by_plan.clear()
        self.n_inputs = self.n_tokens = 0
        return entries

    def _oldest_line(self) -> tuple[int, Entry]:
        return min(next(iter(waiting.items())) for waiting in self._by_plan.values())

    def _choose(self, budget: int) -> tuple[Entry, dict[int, Entry]]:
        """Pick the oldest entry's batch mates, nearest in length first."""
        _, oldest = self._oldest_line()
        near = sorted(
            islice(self._by_plan[oldest.request.plan].items(), 1, LOOKAHEAD),
            key=lambda item: abs(item[1].n_tokens - oldest.n_tokens),
        )
        distinct, longest = {oldest.key}, oldest.n_tokens
        mates = {}
        for number, entry in near:
            if entry.key not in distinct:
                padded = max(longest, entry.n_tokens)
                if (len(distinct) + 1) * padded > budget:
                    continue
                distinct.add(entry.key)
                longest = padded
            mates[number] = entry
        return oldest, mates

    def _remove(self, plan: Plan, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        waiting = self._by_plan[plan]
        for number in numbers:
            self.n_tokens -= waiting.pop(number).n_tokens
        self.n_inputs -= len(numbers)
        if not waiting:
            del self._by_plan[plan]
