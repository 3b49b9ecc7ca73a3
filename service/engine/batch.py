"""One batch: equal prompts computed once, every prompt answered with its own rows or error."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from service.engine.contracts import BatchReport, Extractor
from service.engine.queue import Entry
from splinellm.errors import PromptError, SplineLLMError
from splinellm.extraction.rows import Rows, split_rows
from splinellm.plan import Plan
from splinellm.provenance import Provenance


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
    prompts : dict of bytes to list of int
        The distinct prompts, by :attr:`service.engine.queue.Entry.key`.
    results : dict of bytes to (Rows or SplineLLMError)
        What has been computed of them.
    """

    def __init__(self, entries: Sequence[Entry], start_s: float) -> None:
        self._entries = entries
        self._plan: Plan = entries[0].request.plan
        self._requests = list(dict.fromkeys(entry.request for entry in entries))
        self._waits_s = tuple(start_s - entry.arrived_s for entry in entries)
        self._provenance: Provenance | None = None
        self.prompts = {entry.key: entry.prompt.ids for entry in entries}
        self.results: dict[bytes, Rows | SplineLLMError] = {}
        for request in self._requests:
            request.begin_batch(start_s)

    @property
    def n_tokens(self) -> int:
        """Tokens of the distinct prompts."""
        return sum(map(len, self.prompts.values()))

    @property
    def padded_tokens(self) -> int:
        """Number of distinct prompts times the longest of them."""
        return len(self.prompts) * max(map(len, self.prompts.values()))

    def compute(
        self, extractor_of: Callable[[Plan], Extractor], *, only: bytes | None = None
    ) -> None:
        """Compute all prompts, or one of them, into :attr:`results`.

        Raises
        ------
        Exception
            Whatever the extractor raises; :attr:`results` is as before.
        """
        keys = list(self.prompts) if only is None else [only]
        granularity = self._plan.granularity
        extractor = extractor_of(self._plan)
        self._provenance = extractor.provenance_at(granularity)
        table, errors = extractor.extract_valid(
            [self.prompts[key] for key in keys], granularity=granularity
        )
        if table.provenance.granularity != granularity:
            raise ValueError("the rows stand for something else")
        good = {i: len(self.prompts[key]) for i, key in enumerate(keys) if i not in errors}
        # Strict: a row more or less must not give anyone another one's features.
        self.results |= {
            keys[i]: rows for i, rows in zip(good, split_rows(table, good), strict=True)
        }
        self.results |= {keys[index]: error for index, error in errors.items()}

    def answer(self, inference_s: float) -> BatchReport:
        """Give every entry its result; requests that are complete by that are answered."""
        codes = []
        for entry in self._entries:
            result = self.results[entry.key]
            if isinstance(result, SplineLLMError):
                codes.append(result.code)
                error = copy.copy(result)  # others may get the same one
                if isinstance(error, PromptError):
                    error.index = entry.position
                entry.request.add_error(entry.position, error, self._provenance)
            else:
                assert self._provenance is not None  # noqa: S101  # there are rows
                entry.request.add_rows(entry.position, result, self._provenance)
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
