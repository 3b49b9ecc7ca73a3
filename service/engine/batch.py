"""One batch: equal prompts computed once, every prompt answered with its own rows or error."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from service.engine.contracts import BatchReport
from service.engine.queue import Entry
from splinellm.errors import PromptError, SplineLLMError
from splinellm.extraction.base import Reader
from splinellm.extraction.rows import Rows, n_rows
from splinellm.plan import Plan


class Batch:
    """Entries of one plan that are computed together.

    Parameters
    ----------
    entries : sequence of Entry
        At least one.
    start_s : float
        When they left the queue, on the engine's clock.

    Attributes
    ----------
    prompts : dict of bytes to TokenizedPrompt
        The distinct prompts, by their key.
    plan : Plan
        Of all of them.
    results : dict of bytes to (Rows or SplineLLMError)
        What has been computed of them.
    """

    def __init__(self, entries: Sequence[Entry], start_s: float) -> None:
        self._entries = entries
        self.plan: Plan = entries[0].request.plan
        self._requests = list(dict.fromkeys(entry.request for entry in entries))
        self._waits_s = tuple(start_s - entry.arrived_s for entry in entries)
        self._is_possible = False
        self.prompts = {entry.key: entry.prompt for entry in entries}
        self.results: dict[bytes, Rows | SplineLLMError] = {}
        for request in self._requests:
            request.begin_batch(start_s)

    @property
    def n_tokens(self) -> int:
        """Tokens of the distinct prompts."""
        return sum(len(prompt.ids) for prompt in self.prompts.values())

    @property
    def padded_tokens(self) -> int:
        """Number of distinct prompts times the longest of them."""
        return len(self.prompts) * max(len(prompt.ids) for prompt in self.prompts.values())

    def apart(self) -> list[list[Entry]]:
        """The entries by what is computed for them, as batches of one prompt each."""
        return [[entry for entry in self._entries if entry.key == key] for key in self.prompts]

    def compute(self, reader_of: Callable[[Plan], Reader], *, only: bytes | None = None) -> None:
        """Compute all prompts, or one of them, into :attr:`results`.

        Raises
        ------
        Exception
            Whatever the reader raises; :attr:`results` is as before.
        """
        prompts = self.prompts if only is None else {only: self.prompts[only]}
        reader = reader_of(self.plan)
        self._is_possible = True
        found = reader.read(prompts, granularity=self.plan.granularity)
        # Strict: a row more or less must not give anyone another one's features.
        if found.keys() != prompts.keys():
            raise ValueError("not every prompt has rows or an error")
        for key, rows in found.items():
            shape = n_rows(prompts[key], self.plan.granularity), self.plan.n_columns
            if not isinstance(rows, PromptError) and rows.shape != shape:
                raise ValueError(f"rows of shape {rows.shape} instead of {shape}")
        self.results |= found

    def answer(self, inference_s: float) -> BatchReport:
        """Give every entry its result; requests that are complete by that are answered."""
        codes = []
        for entry in self._entries:
            result = self.results[entry.key]
            if isinstance(result, SplineLLMError):
                codes.append(result.code)
                # A copy: others may get the same one.
                place = entry.position
                error = result.at(place) if isinstance(result, PromptError) else copy.copy(result)
                if not self._is_possible:  # it is not this prompt's fault
                    entry.request.fail(error)
                entry.request.add_error(place, error)
            else:
                entry.request.add_rows(entry.position, result)
        for request in self._requests:
            request.end_batch(inference_s, self.padded_tokens)
        return BatchReport(
            inputs=len(self._entries),
            distinct_inputs=len(self.prompts),
            tokens=self.n_tokens,
            padded_tokens=self.padded_tokens,
            inference_s=inference_s,
            waits_s=self._waits_s,
            error_codes=tuple(codes),
        )
