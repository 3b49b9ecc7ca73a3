"""How far a batch of texts has been read, and which of its rows go on."""

from __future__ import annotations

import sys
from typing import Literal

import torch
from torch import Tensor

_NEVER = sys.maxsize
"""Column at which a row ends that goes on."""


class Progress:
    """Columns that a model has read of each row, padding included; listens to ``generate``.

    Attributes
    ----------
    n_columns : int
        Columns read.
    n_prompt_columns : int
        Those of them that had been read when ``generate`` chose its first token; outside of it,
        those of the forward pass without a past.
    """

    def __init__(self) -> None:
        self.n_columns = 0
        self.n_prompt_columns = 0
        self._ends = torch.zeros(0, dtype=torch.int64)  # (B,), column at which each row ends
        self._stage: Literal["no generation", "prompt", "answer"] = "no generation"

    @property
    def n_rows(self) -> int:
        """Rows B of the batch."""
        return len(self._ends)

    @property
    def is_finished(self) -> Tensor:
        """Rows that have ended, shape (B,), bool."""
        return self._ends < _NEVER

    def on_start(self) -> None:
        """Take note of a call of ``generate``."""
        self._stage = "prompt"

    def on_decision(self, is_done: Tensor) -> None:
        """End the rows that ``generate`` is done with."""
        if self._stage == "prompt":
            self._stage = "answer"
        if len(is_done) == self.n_rows:  # beam search decides about more rows than it goes on with
            self.end(is_done)

    def on_end(self) -> None:
        """Let rows go on that were read to their end, once ``generate`` has returned."""
        self._stage = "no generation"
        self._ends = self._ends.masked_fill(self._ends >= self.n_columns, _NEVER)

    def end(self, rows: Tensor) -> None:
        """End rows (B,), bool, where they are."""
        ends = self._ends.to(rows.device)
        self._ends = ends.clamp(max=self.n_columns).where(rows, ends)

    def read(
        self, n_rows: int, n_new: int, n_before: int, device: torch.device, *, goes_on: bool
    ) -> Tensor:
        """Go over the columns of a forward pass.

        Parameters
        ----------
        n_rows, n_new : int
            B and T.
        n_before : int
            Columns in the cache.
        device : torch.device
            Where the answer is wanted.
        goes_on : bool
            Whether those are the ones that were read before.

        Returns
        -------
        Tensor, shape (B, T), bool
            False where the row has ended.
        """
        # Without a cache, `generate` has everything read again for every token.
        reads_again = n_before == 0 and self._stage == "answer" and n_rows == self.n_rows
        if not (goes_on or reads_again):
            self._ends = torch.full((n_rows,), _NEVER)
        self._ends = self._ends.to(device)
        self.n_columns = n_before + n_new
        if self._stage == "prompt" or (n_before == 0 and self._stage == "no generation"):
            self.n_prompt_columns = self.n_columns
        return torch.arange(n_before, self.n_columns, device=device) < self._ends[:, None]

    def select(self, rows: Tensor) -> None:
        """Take these rows, in this order."""
        self._ends = self._ends[rows.to(self._ends.device)]

    def cut(self, n_columns: int) -> bool:
        """Take columns away at the end; says whether only such went that did not count."""
        n_kept = self.n_columns - n_columns
        is_harmless = not (self._ends.clamp(max=self.n_columns) > n_kept).any()
        self.n_columns = n_kept
        return is_harmless
