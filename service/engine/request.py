"""A request under way: rows and errors are filled in until none is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace

import numpy as np

from service.engine.contracts import Outcome, Timing
from splinellm.errors import SplineLLMError
from splinellm.extraction.rows import Rows, join_tokens
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.plan import Plan
from splinellm.provenance import Provenance
from splinellm.table import FeatureTable


class Request:
    """Prompts that came together, and the future of their outcome.

    Filled in by the engine's thread alone; :meth:`fail` may be called from any.

    Parameters
    ----------
    plan : Plan
        What to compute.
    prompts : sequence of TokenizedPrompt
        At least one.
    submitted_s : float
        When they came, on the engine's clock.
    """

    def __init__(self, plan: Plan, prompts: Sequence[TokenizedPrompt], submitted_s: float) -> None:
        self.plan = plan
        self.prompts = list(prompts)
        self.future: Future[Outcome] = Future()
        self._submitted_s = submitted_s
        self._rows: dict[int, Rows] = {}
        self._errors: dict[int, SplineLLMError] = {}
        self._provenance: Provenance | None = None
        self._timing: Timing | None = None

    def begin_batch(self, now_s: float) -> None:
        """Note that prompts of this request are in the batch that starts now."""
        if self._timing is None:
            self._timing = Timing(now_s - self._submitted_s, 0.0, 0)

    def end_batch(self, inference_s: float, padded_tokens: int) -> None:
        """Note what that batch took, and answer if it was the last."""
        timing = self._timing or Timing(0.0, 0.0, 0)
        self._timing = replace(
            timing,
            inference_s=timing.inference_s + inference_s,
            batch_tokens=max(timing.batch_tokens, padded_tokens),
        )
        if len(self._rows) + len(self._errors) == len(self.prompts):
            self._answer(self._timing)

    def add_rows(self, position: int, rows: Rows, provenance: Provenance) -> None:
        """Fill in the features of a prompt."""
        self._rows[position] = rows
        self._provenance = provenance

    def add_error(
        self, position: int, error: SplineLLMError, provenance: Provenance | None
    ) -> None:
        """Fill in why a prompt has no features."""
        self._errors[position] = error
        self._provenance = provenance or self._provenance

    def fail(self, error: SplineLLMError) -> bool:
        """Answer with an error, unless the request has an answer; tell whether that was so."""
        with contextlib.suppress(InvalidStateError):  # answered or cancelled meanwhile
            self.future.set_exception(error)
            return True
        return False

    def _answer(self, timing: Timing) -> None:
        if self._provenance is None:  # there is not even an extractor for this plan
            self.fail(self._errors[min(self._errors)])
            return
        rows = dict(sorted(self._rows.items()))
        granularity = self.plan.granularity
        selection = self.plan.selection.at(granularity)
        no_values = np.empty((0, len(self.plan.layers) * len(selection.names)), np.float32)
        no_counts = np.empty(0, np.int64)
        # The model saw ids that were cut before; only the prompt knows.
        is_cut = np.array([self.prompts[position].truncated for position in rows], np.bool_)
        table = FeatureTable(
            np.concatenate([no_values, *(block.values for block in rows.values())]),
            np.concatenate([no_counts, *(block.n_tokens for block in rows.values())]),
            np.repeat(is_cut, np.array([len(block) for block in rows.values()], np.int64)),
            self._provenance,
            None if granularity == "prompt" else join_tokens(rows),
        )
        with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
            self.future.set_result(Outcome(table, dict(sorted(self._errors.items())), timing))
