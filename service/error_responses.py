"""From an exception to an answer: the only place that writes error bodies.

What it writes is ASCII, at most 200 characters of message, and nothing of the request's text. Of a
failure of the server it says nothing but the request id, which the event log has, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from http import HTTPStatus
from types import NoneType, UnionType
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.errors import (
    ClientClosedError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    ServiceError,
    UnsupportedEncodingError,
    public_code,
    status_of,
)
from splinellm.errors import SplineLLMError

MAX_MESSAGE_CHARS = 200
MAX_NAME_CHARS = 64
"""Of a name that is the client's own."""
GOOGLE_PREFIX = "/v1alpha1/"
"""Paths below it answer in the shape of Google's APIs, all others in OpenAI's."""

_WORD = re.compile("[A-Za-z_]{1,40}")
_WORTH_A_RETRY = (408, 429, 503, 504)
_LAST_WORDS = ("shutting_down", "request_timeout")
"""The next request should go elsewhere, or this one is still not all there."""
_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_GOOGLE_NAMES = {
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error_response(error: SplineLLMError, *, path: str, request_id: str) -> Response:
    """Answer a request with an error, in the shape that the clients of its path expect.

    Parameters
    ----------
    error : SplineLLMError
        Of the service, the engine or the library.
    path : str
        Of the request; it decides the shape.
    request_id : str
        Named in the message of a server failure.

    Returns
    -------
    Response
        With ``Retry-After`` or ``x-should-retry: false`` where they apply.
    """
    code = public_code(error)
    status = status_of(code)
    shape = _google_error if path.startswith(GOOGLE_PREFIX) else _openai_error
    body = shape(status, code, _message(error, status, request_id), _param(error))
    headers = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(retry_after_s)))
    if status not in _WORTH_A_RETRY:
        headers["x-should-retry"] = "false"
    if status == HTTPStatus.UNAUTHORIZED:
        # With a parameter: httplib2, below Google's client library, reads no bare scheme.
        headers["www-authenticate"] = 'Bearer realm="splinellm"'
    if code in _LAST_WORDS:
        headers["connection"] = "close"
    if isinstance(error, MethodNotAllowedError) and error.allowed:
        headers["allow"] = error.allowed
    if isinstance(error, UnsupportedEncodingError):
        headers["accept-encoding"] = error.accepted
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


async def raise_service_error(request: Request, error: Exception) -> NoReturn:
    """Exception handler of the framework's own errors: make them the service's.

    They travel on to :class:`service.middleware.observe.Observe`, which answers all errors.
    """
    translated = (
        _invalid_field(error, _body_of(request))
        if isinstance(error, RequestValidationError)
        else service_error(error)
    )
    path = request.url.path
    if isinstance(translated, NotFoundError) and ("//" in path or path.endswith("/")):
        translated.hint = "its slashes are doubled, or there is one too many at the end"
    raise translated from None


def service_error(error: Exception) -> SplineLLMError:
    """Translate the framework's exceptions; the service's and the library's stay as they are."""
    if isinstance(error, SplineLLMError):
        return error
    if isinstance(error, ClientDisconnect):
        return ClientClosedError("the client closed the connection")
    if isinstance(error, RequestValidationError):
        return _invalid_field(error, None)
    if isinstance(error, HTTPException):
        # FastAPI makes a plain HTTPException of whatever goes wrong while it reads a body.
        if isinstance(error.__cause__, SplineLLMError | ClientDisconnect):
            return service_error(error.__cause__)
        if error.status_code == HTTPStatus.NOT_FOUND:
            return NotFoundError("there is nothing at this path")
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "")
            methods = [name.strip() for name in allowed.split(",") if name.strip()]
            if "GET" in methods and "HEAD" not in methods:
                methods.append("HEAD")  # answered by service.middleware.head
            taken = ", ".join(sorted(methods))
            return MethodNotAllowedError(f"this path takes {taken or 'no method'}", allowed=taken)
        if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return InvalidRequestError("the request cannot be read")
    return ServiceError("unexpected error")


def ascii_line(text: str) -> str:
    """Make `text` fit for an error body or a log: one line, ASCII, at most 200 characters."""
    line = " ".join(text.split()).encode("ascii", "replace").decode("ascii")
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 3] + "..."


def _body_of(request: Request) -> Any:
    """What the body of a request to this route is read as, a model; or None."""
    body = getattr(request.scope.get("route"), "body_field", None)
    return getattr(getattr(body, "field_info", None), "annotation", None)


def _fields(model: Any) -> dict[str, Any]:
    """Types of a model's fields, by the names that requests call them."""
    known = getattr(model, "model_fields", {})
    return {field.alias or name: field.annotation for name, field in known.items()}


def printable(name: str) -> str:
    """A name that a client has made up, as far as it can be shown."""
    shown = "".join(char if char.isascii() and char.isprintable() else "?" for char in name)
    return shown if len(shown) <= MAX_NAME_CHARS else shown[: MAX_NAME_CHARS - 3] + "..."


def _unknown_field(name: str, known: Sequence[str]) -> InvalidRequestError:
    """Name a field that does not exist, and those that do."""
    shown = printable(name)
    near = get_close_matches(name[:MAX_NAME_CHARS].casefold(), known, n=1, cutoff=0.75)
    hints = [f"did you mean '{near[0]}'?"] if near else []
    hints += [f"known: {', '.join(known)}"] if known else []
    return InvalidRequestError(
        f"there is no field '{shown}'", param=shown, hint=" ".join(hints) or None
    )


def _place(where: Sequence[Any], model: Any) -> str:
    """Spell the place of a field, as ``comment.text`` or ``input[3]``.

    Pydantic's has names of alternatives, too, which mean nothing to a client, and keys of mappings,
    which are text of the request unless they are a single word.
    """
    place = str(where[0])
    types = _types(_fields(model).get(place))
    is_alternative = len(types) > 1
    for part in where[1:]:
        if isinstance(part, int):
            place += f"[{part}]"
            types = [inner for one in types for inner in _types(*get_args(one)[:1])]
        elif is_alternative:
            is_alternative = False  # the one that was tried
            continue
        elif fields := [found for one in types if part in (found := _fields(one))]:
            place += f".{part}"
            types = _types(fields[0][part])
        elif any(get_origin(one) is dict for one in types):
            place += f".{part}" if _WORD.fullmatch(part) else ""
            types = [inner for one in types for inner in _types(*get_args(one)[1:])]
        else:
            continue
        is_alternative = len(types) > 1
    return place


def _types(annotation: Any = None) -> list[Any]:
    """Alternatives of an annotation, but for null."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _types(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [found for one in get_args(annotation) for found in _types(one)]
    return [] if annotation in (None, NoneType) else [annotation]


def _invalid_field(error: RequestValidationError, model: Any) -> InvalidRequestError:
    """Name the first field that is wrong.

    Of a field that does not exist (or should be further down) the name, which is what the client
    has to look for.
    """
    known = [*_fields(model)]
    errors = error.errors()
    # A misspelt name is why the right one is missing.
    unknown = [one for one in errors if one["type"] == "extra_forbidden"]
    first = (unknown or errors)[0]
    # Of a field's alternatives the one whose fields were met is the one that was meant.
    same = [one for one in unknown or errors if one["loc"][:2] == first["loc"][:2]]
    first = max(same, key=lambda one: sum(isinstance(part, str) for part in one["loc"]))
    where, *rest = first["loc"] or ("body",)
    names = [part for part in rest if isinstance(part, str)]
    if first["type"] == "extra_forbidden" and names == ["messages"]:
        return InvalidRequestError(
            "messages go inside of input",
            param="messages",
            hint='as in {"input": {"messages": []}}',
        )
    if first["type"] == "extra_forbidden":
        return _unknown_field(names[-1] if names else "", known if len(names) == 1 else ())
    if not names:
        hint = "send JSON with content-type: application/json" if where == "body" else None
        if isinstance(first.get("input"), bytes):  # FastAPI parses what is called JSON alone
            return InvalidRequestError("the body is not called JSON", hint=hint)
        if first["type"] == "string_unicode":
            return InvalidRequestError("the name of a field is not valid Unicode")
        return InvalidRequestError(f"the {where} is missing or not an object", hint=hint)
    param = _place(rest, model)
    return InvalidRequestError(f"{param}: {first['msg']}", param=param)


def _message(error: SplineLLMError, status: int, request_id: str) -> str:
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"the server failed on this request; its log knows more about {request_id}"
    # Not str(error): a PromptError's own counts prompts of a batch, a client counts its inputs.
    text = SplineLLMError.__str__(error)
    index = getattr(error, "index", None)
    return ascii_line(text if index is None else f"input[{index}]: {text}")


def _param(error: SplineLLMError) -> str | None:
    index = getattr(error, "index", None)
    if index is not None:
        return f"input[{index}]"
    param = getattr(error, "param", None)
    return None if param is None else ascii_line(param)


def _openai_error(status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _google_error(status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    name = _GOOGLE_NAMES.get(status, "INVALID_ARGUMENT")
    details = [{"reason": code, "field": param}]
    return {"error": {"code": status, "message": message, "status": name, "details": details}}
