"""How long the queue will take, judged by what batches took lately."""

from __future__ import annotations

_DECAY = 0.95
"""Weight of the past at each batch: the last twenty or so count."""


class Speed:
    """Recent seconds per token: a line through the origin, fitted to recent batches.

    Least squares, so that full batches outweigh small ones, whose fixed costs would make the
    queue look longer than it is.
    """

    def __init__(self) -> None:
        self._products = 0.0
        self._squares = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Learn that a batch of so many tokens took so long."""
        self._products = self._products * _DECAY + tokens * seconds
        self._squares = self._squares * _DECAY + tokens * tokens

    def seconds(self, tokens: int) -> float:
        """Estimate the time for `tokens`; 0 as long as nothing is known."""
        return tokens * self._products / self._squares if self._squares else 0.0
