"""The one shape of errors, and which of them a route may answer with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.schemas.common import Answer


class ErrorDetail(Answer):
    """What went wrong."""

    message: str = Field(max_length=200)
    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "not_found_error",
        "rate_limit_error",
        "server_error",
    ]
    param: str | None = Field(description="The field that is wrong, such as `input[3]`.")
    code: str = Field(description="Stable name of the kind of error; see docs/service.md.")


class ErrorBody(Answer):
    """Body of every answer that is no success."""

    error: ErrorDetail


class GoogleErrorDetail(Answer):
    """What went wrong, as Google's APIs say it."""

    code: int
    message: str = Field(max_length=200)
    status: str
    details: list[dict[str, Any]]


class GoogleErrorBody(Answer):
    """Body of every answer of a Perspective route that is no success."""

    error: GoogleErrorDetail


_REASONS: dict[int, str] = {
    400: "The request is wrong; `param` names the field.",
    401: "No key, or a wrong one.",
    404: "No model or classifier of that name is loaded.",
    405: "Another method is wanted.",
    408: "The body did not arrive in time.",
    413: "The body is too large, or has too many inputs, or asks for too many rows.",
    415: "The body is compressed in a way that is not known; see `Accept-Encoding`.",
    422: "The model overflowed on an input.",
    429: "The queue is full, or the key's rate is used up; see `Retry-After`.",
    431: "The request line and headers are too long, or too many.",
    500: "The server failed; its log has the cause under the request id.",
    503: "The model is still loading, or the service is shutting down or full; see `Retry-After`.",
    504: "The answer was not ready in time.",
}


def error_responses(*statuses: int, body: type[Answer] = ErrorBody) -> dict[int | str, Any]:
    """Document these statuses, or all, for a route's ``responses``."""
    wanted = statuses or tuple(_REASONS)
    return {status: {"model": body, "description": _REASONS[status]} for status in wanted}


COMPUTING = error_responses()
"""Errors of routes that read a body and ask the model."""

READING = error_responses(400, 401, 405, 429, 500, 503)
"""Errors of routes that only tell what is loaded."""

FINDING = error_responses(400, 401, 404, 405, 429, 500, 503)
"""Errors of routes that look one thing up."""

GOOGLE = error_responses(body=GoogleErrorBody)
"""Errors of routes that speak the format of Google's APIs."""
