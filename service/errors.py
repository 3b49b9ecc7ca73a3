"""Errors of the service, and the one table from codes to HTTP status.

Routes and middleware raise; :mod:`service.error_responses` turns what was raised into an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from splinellm.errors import SplineLLMError

STATUS_OF_CODE: Mapping[str, int] = {
    # the request is wrong
    "invalid_request": 400,
    "invalid_json": 400,
    "invalid_encoding": 400,
    "invalid_prompt": 400,
    "invalid_conversation": 400,
    "chat_template": 400,
    "invalid_schema": 400,
    "attention_unavailable": 400,
    "spans_unavailable": 400,
    "prefix_unavailable": 400,
    "input_too_long": 400,
    "missing_api_key": 401,
    "invalid_api_key": 401,
    "not_found": 404,
    "model_not_found": 404,
    "classifier_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "batch_too_large": 413,
    "payload_too_large": 413,
    "out_of_memory": 413,
    "unsupported_encoding": 415,
    "non_finite_features": 422,
    "head_too_large": 431,
    # the same request may succeed later
    "rate_limit_exceeded": 429,
    "queue_full": 429,
    "too_many_connections": 503,
    "not_ready": 503,
    "shutting_down": 503,
    "deadline_exceeded": 504,
    # the server failed
    "inference_failed": 500,
    "internal_error": 500,
    # nobody is left to see it, but the log and the metrics do
    "client_closed_request": 499,
}
"""Status of every code that a client can see; any other code is a failure of the server."""


class ServiceError(SplineLLMError):
    """A request is refused or failed.

    Parameters
    ----------
    message : str
        What was wrong, in one line; never text of the request.
    param : str, optional
        The field of the request that is wrong, such as ``input[3]``.
    hint : str, optional
        What to do about it.
    retry_after_s : float, optional
        When it is worth trying again.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequestError(ServiceError):
    """A field is missing, unknown or has an impossible value."""

    code = "invalid_request"


class InvalidJSONError(ServiceError):
    """The body is not JSON, or JSON that no honest client sends."""

    code = "invalid_json"


class InputTooLongError(ServiceError):
    """A text is beyond a limit, and the request forbids to cut it."""

    code = "input_too_long"


class MissingKeyError(ServiceError):
    """The service has keys, and the request has none."""

    code = "missing_api_key"


class InvalidKeyError(ServiceError):
    """The request's key is none of the service's."""

    code = "invalid_api_key"


class SpansUnavailableError(ServiceError):
    """The classifier reads a text as a whole, and cannot say where in it a class is."""

    code = "spans_unavailable"


class NotFoundError(ServiceError):
    """There is nothing at this path."""

    code = "not_found"


class ModelNotServedError(ServiceError):
    """No loaded model goes by this name."""

    code = "model_not_found"


class ClassifierNotServedError(ServiceError):
    """No loaded classifier goes by this name."""

    code = "classifier_not_found"


class MethodNotAllowedError(ServiceError):
    """The path exists, but not with this method.

    Parameters
    ----------
    message : str
        Says so.
    allowed : str
        The methods it has, for the header ``Allow``.
    """

    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: str = "") -> None:
        super().__init__(message)
        self.allowed = allowed


class BatchTooLargeError(ServiceError):
    """More inputs in a request than the service or its queue takes, or more rows than it gives."""

    code = "batch_too_large"


class PayloadTooLargeError(ServiceError):
    """The body is larger than the service reads."""

    code = "payload_too_large"


class HeadTooLargeError(ServiceError):
    """The request line and headers are longer, or more, than the service reads."""

    code = "head_too_large"


class RequestTimeoutError(ServiceError):
    """The request did not arrive in time."""

    code = "request_timeout"


class InvalidEncodingError(ServiceError):
    """The body is not compressed as its ``Content-Encoding`` says."""

    code = "invalid_encoding"


class UnsupportedEncodingError(ServiceError):
    """The body is compressed in a way that the service does not know.

    Parameters
    ----------
    message : str
        Says so.
    accepted : str
        The ways it knows, for the header ``Accept-Encoding``.
    """

    code = "unsupported_encoding"

    def __init__(self, message: str, *, accepted: str) -> None:
        super().__init__(message, hint=f"send it as it is, or with one of: {accepted}")
        self.accepted = accepted


class TooManyConnectionsError(ServiceError):
    """As many connections as the service holds are open."""

    code = "too_many_connections"


class RateLimitError(ServiceError):
    """The key has used up its requests of this minute."""

    code = "rate_limit_exceeded"


class NotReadyError(ServiceError):
    """The model is still loading, or does not answer any more."""

    code = "not_ready"


class ShuttingDownError(ServiceError):
    """The service takes nothing new, or stopped before it came to what it had accepted."""

    code = "shutting_down"


class DeadlineError(ServiceError):
    """The answer was not ready in time."""

    code = "deadline_exceeded"


class ClientClosedError(ServiceError):
    """The client went away before the answer was ready."""

    code = "client_closed_request"


def status_of(code: str) -> int:
    """HTTP status of an error code; 500 if the code is not the client's business."""
    return STATUS_OF_CODE.get(code, 500)


def public_code(error: SplineLLMError) -> str:
    """The code that a client sees: an error that is not in the table is an internal one."""
    return error.code if error.code in STATUS_OF_CODE else "internal_error"
