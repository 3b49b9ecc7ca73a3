"""Whether the queue has room for the prompts of a request, and whether they would wait too long."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.engine.contracts import EngineLimits
from service.engine.errors import BatchTooLargeError, PromptTooLongError, QueueFullError
from service.engine.queue import Entry, Queue
from splinellm.errors import SplineLLMError

MAX_RETRY_AFTER_S = 60

Refusal = tuple[str, SplineLLMError]
"""Why a request is not taken: a reason for the listener, an error for the caller."""


def no_room(
    entries: Sequence[Entry], queue: Queue, limits: EngineLimits, wait_s: float
) -> Refusal | None:
    """Say why the prompts of a request cannot join the queue; None if they can.

    Parameters
    ----------
    entries : sequence of Entry
        All prompts of the request.
    queue : Queue
        What waits now.
    limits : EngineLimits
        How much may wait.
    wait_s : float
        How long a prompt that comes now will wait.
    """
    n_tokens = sum(entry.n_tokens for entry in entries)
    for entry in entries:
        if entry.n_tokens > limits.max_queue_tokens:
            message = f"{entry.n_tokens} tokens; the queue holds {limits.max_queue_tokens}"
            return "too_long", PromptTooLongError(message, index=entry.position)
    if n_tokens > limits.max_queue_tokens or len(entries) > limits.max_queue_inputs:
        return "too_many", BatchTooLargeError(
            f"{len(entries)} prompts of {n_tokens} tokens; the queue holds "
            f"{limits.max_queue_inputs} prompts and {limits.max_queue_tokens} tokens"
        )
    retry_after_s = min(MAX_RETRY_AFTER_S, max(1, math.ceil(wait_s)))
    if queue.n_inputs + len(entries) > limits.max_queue_inputs:
        reason, full = "inputs", f"it holds {limits.max_queue_inputs} prompts"
    elif queue.n_tokens + n_tokens > limits.max_queue_tokens:
        reason, full = "tokens", f"it holds {limits.max_queue_tokens} tokens"
    elif queue and wait_s > limits.max_wait_s:
        reason, full = "wait", f"the wait would be longer than {limits.max_wait_s:g} s"
    else:
        return None
    return reason, QueueFullError(f"the queue is full: {full}", retry_after_s=retry_after_s)
