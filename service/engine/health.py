"""Whether an engine can answer: what went wrong with its thread or its model, and whether it ended.

Three things can: the thread ends (and is started anew), the model fails on whatever it is given
(and is tried with a prompt that it once answered), or a batch takes so long that nobody waits for
it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from splinellm.extraction.base import Reader
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.plan import Plan

MAX_DEATHS = 4
"""So many ends of the thread in a row, without a batch between, and it is not started again."""
LOST_AFTER = 10
"""A batch that takes so many times as long as prompts may wait never ends."""
RETRY_S = 5
"""When to look again whether the model answers, and what clients are told."""


@dataclass
class Health:
    """What is known of an engine. Its lock is held around every call but for :meth:`answers`.

    Parameters
    ----------
    max_batch_s : float
        A batch that takes longer is one that nobody waits for.
    clock : callable
        Seconds, never running backwards.
    """

    max_batch_s: float
    clock: Callable[[], float]
    deaths: int = 0
    is_failing: bool = False
    batch_began_s: float | None = None
    good: tuple[Plan, TokenizedPrompt] | None = None
    """What the model answered once."""

    def begin(self) -> None:
        """Note that a batch is being computed."""
        self.batch_began_s = self.clock()

    def end(self) -> None:
        """Note that it is no longer."""
        self.batch_began_s = None

    def succeeded(self, plan: Plan, prompt: TokenizedPrompt) -> None:
        """Note that the model has answered a prompt."""
        self.deaths, self.is_failing = 0, False
        if self.good is None:  # the text of the warm-up, and so nobody's
            self.good = plan, prompt

    def died(self) -> bool:
        """Note that the thread has ended; tell whether another one is worth it."""
        self.end()
        self.deaths += 1
        return self.deaths < MAX_DEATHS

    @property
    def batch_s(self) -> float:
        """How long the batch takes already that is being computed."""
        return 0.0 if self.batch_began_s is None else self.clock() - self.batch_began_s

    @property
    def trouble(self) -> str | None:
        """Why requests are not worth taking now."""
        if self.batch_s > self.max_batch_s:
            return f"the model has been busy with one batch for {self.batch_s:.0f} s"
        return "the model fails on every prompt" if self.is_failing else None

    @property
    def is_lost(self) -> bool:
        """Whether only a new process will help."""
        return self.batch_s > LOST_AFTER * self.max_batch_s

    def answers(self, reader_of: Callable[[Plan], Reader]) -> bool:
        """Whether the model still answers what it answered once; takes as long as that takes."""
        if self.good is None:
            return True
        plan, prompt = self.good
        try:
            reader_of(plan).read({0: prompt}, granularity=plan.granularity)
        except Exception:  # noqa: BLE001  # of torch, of the driver: the caller knows it already
            return False
        return True
