"""Why the engine does not take or does not answer a prompt."""

from __future__ import annotations

from splinellm.errors import SplineLLMError

__all__ = [
    "BatchTooLargeError",
    "InferenceError",
    "PromptTooLongError",
    "QueueFullError",
    "ShuttingDownError",
]


class QueueFullError(SplineLLMError):
    """The queue has no room now.

    Parameters
    ----------
    message : str
        Which limit was hit.
    retry_after_s : int
        When to try again, 1 to 60 seconds.
    """

    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, hint=f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class ShuttingDownError(SplineLLMError):
    """The engine takes no more prompts, or stopped before it came to this one."""

    code = "shutting_down"


class PromptTooLongError(SplineLLMError):
    """One prompt has more tokens than the queue may ever hold; trying again will not help.

    Parameters
    ----------
    message : str
        How long it is, and what would fit.
    index : int
        Position of the prompt in its request.
    """

    code = "input_too_long"

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(message)
        self.index = index


class BatchTooLargeError(SplineLLMError):
    """The prompts of one request are more than the queue may ever hold together."""

    code = "batch_too_large"


class InferenceError(SplineLLMError):
    """The model failed on this prompt twice, the second time alone; the log knows more."""

    code = "inference_failed"
