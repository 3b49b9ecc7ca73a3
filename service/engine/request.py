"""A request under way: rows and errors are filled in until none is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace

from service.engine.contracts import Outcome, Timing
from splinellm.errors import SplineLLMError
from splinellm.extraction.rows import Rows
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.plan import Plan


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

    def add_rows(self, position: int, rows: Rows) -> None:
        """Fill in the rows of a prompt."""
        self._rows[position] = rows

    def add_error(self, position: int, error: SplineLLMError) -> None:
        """Fill in why a prompt has no rows."""
        self._errors[position] = error

    def fail(self, error: SplineLLMError) -> bool:
        """Answer with an error, unless the request has an answer; tell whether that was so."""
        with contextlib.suppress(InvalidStateError):  # answered or cancelled meanwhile
            self.future.set_exception(error)
            return True
        return False

    def _answer(self, timing: Timing) -> None:
        rows, errors = dict(sorted(self._rows.items())), dict(sorted(self._errors.items()))
        with contextlib.suppress(InvalidStateError):  # it failed or was cancelled meanwhile
            self.future.set_result(Outcome(rows, errors, timing))
