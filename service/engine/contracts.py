"""What the engine is told, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from splinellm.errors import SplineLLMError
from splinellm.extraction.rows import Rows


@dataclass(frozen=True)
class EngineLimits:
    """How much the engine takes on.

    Parameters
    ----------
    max_batch_tokens : int, optional
        Padded tokens of a batch; by default the extractor's own limit, which always holds, too.
    batch_wait_s : float
        How long the oldest prompt waits for company, at most.
    max_queue_inputs, max_queue_tokens : int
        Prompts and tokens that may wait.
    max_wait_s : float
        Prompts that would probably wait longer are refused.
    """

    max_batch_tokens: int | None = None
    batch_wait_s: float = 0.005
    max_queue_inputs: int = 1024
    max_queue_tokens: int = 524_288
    max_wait_s: float = 60.0


@dataclass(frozen=True)
class Timing:
    """Where the time of a request went.

    Parameters
    ----------
    queue_s : float
        From submission until its first prompt was in a batch.
    inference_s : float
        Of all batches that held a prompt of it.
    batch_tokens : int
        Padded tokens of the largest of them.
    """

    queue_s: float
    inference_s: float
    batch_tokens: int


@dataclass(frozen=True)
class Outcome:
    """Every prompt of a request as rows or an error.

    Parameters
    ----------
    rows : mapping of int to ndarray
        Of the prompts without an error, by position in the request, ascending.
    errors : mapping of int to SplineLLMError
        By position in the request.
    timing : Timing
        Where the time went.
    """

    rows: Mapping[int, Rows]
    errors: Mapping[int, SplineLLMError]
    timing: Timing


@dataclass(frozen=True)
class BatchReport:
    """What became of a batch.

    Parameters
    ----------
    inputs : int
        Prompts in it.
    distinct_inputs : int
        Prompts computed: equal ones are computed once.
    tokens, padded_tokens : int
        Of the prompts computed, without and with padding.
    inference_s : float
        Time of the computation, retries included.
    waits_s : tuple of float
        How long each prompt was in the queue.
    error_codes : tuple of str
        One for each prompt that failed.
    """

    inputs: int
    distinct_inputs: int
    tokens: int
    padded_tokens: int
    inference_s: float
    waits_s: tuple[float, ...]
    error_codes: tuple[str, ...] = ()


class EngineListener(Protocol):
    """Hears what the engine does; metrics and logs implement it.

    Called from any thread; calls must be quick. What they raise is logged and otherwise ignored.
    `engine` is the engine's name.
    """

    def batch_done(self, engine: str, report: BatchReport) -> None:
        """A batch was computed, and each of its prompts has a row or an error."""

    def batch_retried(self, engine: str, inputs: int) -> None:
        """A batch of so many prompts failed and is being computed prompt by prompt."""

    def dropped(self, engine: str, inputs: int) -> None:
        """So many waiting prompts were cancelled by who had sent them."""

    def rejected(self, engine: str, reason: str, inputs: int) -> None:
        """A request was refused; `reason` is one of :data:`REJECTIONS`."""

    def restarted(self, engine: str) -> None:
        """The thread ended, and another one goes on."""

    def stopped(self, engine: str, unanswered: int) -> None:
        """The thread has ended; so many prompts got an error instead of an answer."""


REJECTIONS = ("inputs", "tokens", "wait", "too_long", "too_many", "trouble", "stopping")
"""Queue full of prompts or of tokens, too long a wait, never fits (one prompt, all), a model that
does not answer, stopping."""


class SilentListener:
    """Hears nothing; a base for listeners that care about some events only."""

    def batch_done(self, engine: str, report: BatchReport) -> None:
        """Ignore it."""

    def batch_retried(self, engine: str, inputs: int) -> None:
        """Ignore it."""

    def dropped(self, engine: str, inputs: int) -> None:
        """Ignore it."""

    def rejected(self, engine: str, reason: str, inputs: int) -> None:
        """Ignore it."""

    def restarted(self, engine: str) -> None:
        """Ignore it."""

    def stopped(self, engine: str, unanswered: int) -> None:
        """Ignore it."""
