"""Why the engine does not take or does not answer a prompt."""

from __future__ import annotations

from service.errors import BatchTooLargeError, InputTooLongError, ServiceError, ShuttingDownError

__all__ = [
    "BatchTooLargeError",
    "InferenceError",
    "PromptTooLongError",
    "QueueFullError",
    "ShuttingDownError",
]


class QueueFullError(ServiceError):
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
        hint = f"try again in {retry_after_s} s"
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)


class PromptTooLongError(InputTooLongError):
    """One prompt has more tokens than the queue may ever hold; trying again will not help.

    Parameters
    ----------
    message : str
        How long it is, and what would fit.
    index : int
        Position of the prompt in its request.
    """

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(message)
        self.index = index


class InferenceError(ServiceError):
    """The model failed on this prompt twice, the second time alone; the log knows more."""

    code = "inference_failed"
