from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service import engine, errors
from service.error_responses import error_response, service_error
from service.errors import STATUS_OF_CODE, ServiceError
from service.json import MAX_DEPTH, loads
from splinellm.errors import NonFiniteFeaturesError, PromptError, SplineLLMError

DOCUMENT = Path(__file__).parents[2] / "docs/errors.md"
ID = "the-request-id"


def answer(error: SplineLLMError, path: str = "/v1/features") -> tuple[Response, Any]:
    response = error_response(error, path=path, request_id=ID)
    return response, json.loads(bytes(response.body))["error"]


def test_every_code_of_service_and_engine_has_a_status() -> None:
    kinds = [
        kind
        for module in (errors, engine)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, SplineLLMError)
    ]
    assert len(kinds) > 15
    assert {kind.code for kind in kinds} - {"error"} <= STATUS_OF_CODE.keys()


def test_the_document_has_the_same_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (`[^|]*`) \|", DOCUMENT.read_text(), re.MULTILINE)
    documented = {
        code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)
    }
    assert documented == STATUS_OF_CODE


@pytest.mark.parametrize(
    ("code", "kind", "google"),
    [
        ("invalid_json", "invalid_request_error", "INVALID_ARGUMENT"),
        ("invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
        ("model_not_found", "not_found_error", "NOT_FOUND"),
        ("request_timeout", "invalid_request_error", "DEADLINE_EXCEEDED"),
        ("unsupported_encoding", "invalid_request_error", "INVALID_ARGUMENT"),
        ("queue_full", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        ("too_many_connections", "server_error", "UNAVAILABLE"),
        ("not_ready", "server_error", "UNAVAILABLE"),
        ("deadline_exceeded", "server_error", "DEADLINE_EXCEEDED"),
        ("internal_error", "server_error", "INTERNAL"),
        ("client_closed_request", "invalid_request_error", "CANCELLED"),
    ],
)
def test_both_shapes(code: str, kind: str, google: str) -> None:
    error = type("E", (ServiceError,), {"code": code})("message", param="input[1]")
    response, body = answer(error)
    assert response.status_code == STATUS_OF_CODE[code]
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["type"], body["param"], body["code"]) == (kind, "input[1]", code)
    response, body = answer(error, "/v1alpha1/comments:analyze")
    assert response.status_code == STATUS_OF_CODE[code]
    assert (body["code"], body["status"]) == (STATUS_OF_CODE[code], google)
    assert body["details"][0]["reason"] == code


def test_unknown_codes_and_server_errors_tell_nothing() -> None:
    for error in (
        SplineLLMError("secret"),
        ServiceError("secret"),
        engine.InferenceError("secret"),
    ):
        response, body = answer(error)
        assert response.status_code == 500
        assert "secret" not in body["message"]
        assert ID in body["message"]


def test_messages_are_short_ascii_lines() -> None:
    for text in ("\ud800 é\n\n😀", "x" * 5000):
        response, body = answer(errors.InvalidRequestError(text, param=text))
        assert bytes(response.body).isascii()
        for part in (body["message"], body["param"]):
            assert len(part) <= 200
            assert "\n" not in part


def test_positions_are_those_of_the_request() -> None:
    """A PromptError's own text would count prompts of a batch that the client has not seen."""
    for error in (PromptError("is empty", index=3), engine.PromptTooLongError("is empty", index=3)):
        _, body = answer(error)
        assert (body["message"], body["param"]) == ("input[3]: is empty", "input[3]")
    assert answer(NonFiniteFeaturesError("x", index=0))[0].status_code == 422


@pytest.mark.parametrize(
    ("error", "retry_after", "should_retry"),
    [
        (engine.QueueFullError("x", retry_after_s=7), "7", None),
        (errors.RateLimitError("x", retry_after_s=0.2), "1", None),
        (errors.ShuttingDownError("x", retry_after_s=5), "5", None),
        (errors.DeadlineError("x"), None, None),
        (errors.InvalidJSONError("x"), None, "false"),
        (engine.InferenceError("x"), None, "false"),
    ],
)
def test_clients_learn_whether_to_try_again(
    error: SplineLLMError, retry_after: str | None, should_retry: str | None
) -> None:
    headers = answer(error)[0].headers
    assert headers.get("retry-after") == retry_after
    assert headers.get("x-should-retry") == should_retry


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not_found"), (405, "method_not_allowed"), (400, "invalid_request")],
)
def test_errors_of_the_framework(status: int, code: str) -> None:
    assert service_error(HTTPException(status, "secret")).code == code
    assert "secret" not in str(service_error(HTTPException(status, "secret")))


def test_what_went_wrong_while_a_body_was_read_is_not_lost() -> None:
    for cause, code in (
        (errors.PayloadTooLargeError("x"), "payload_too_large"),
        (ClientDisconnect(), "client_closed_request"),
        (OSError("secret"), "invalid_request"),
    ):
        error = HTTPException(400, "There was an error parsing the body")
        error.__cause__ = cause
        assert service_error(error).code == code


@pytest.mark.parametrize(
    ("location", "kind", "param"),
    [
        (("body", "input"), "missing", "input"),
        (("body", "input", "list[str]", 3), "string_type", "input[3]"),
        (
            ("body", "requestedAttributes", "secret", "[key]"),
            "literal_error",
            "requestedAttributes",
        ),
        (("body", "made_up"), "extra_forbidden", "made_up"),
        (("body",), "missing", None),
        (("query", "n"), "int_parsing", "n"),
    ],
)
def test_invalid_fields_are_named_but_not_quoted(
    location: tuple[str | int, ...], kind: str, param: str | None
) -> None:
    raised = RequestValidationError(
        [{"loc": location, "type": kind, "msg": "is wrong", "input": "secret"}], body="secret"
    )
    _, body = answer(service_error(raised))
    assert (body["param"], body["code"]) == (param, "invalid_request")
    assert "secret" not in body["message"]


@pytest.mark.parametrize("n", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_bounded(n: int, opening: str, closing: str) -> None:
    for inner in ("1", '"\\ud800"'):  # the second is parsed by the other parser
        body = (opening * n + inner + closing * n).encode()
        if n > MAX_DEPTH:
            with pytest.raises(errors.InvalidJSONError, match="nested"):
                loads(body)
        else:
            assert loads(body)
    wide = b"[" + b",".join([b"[]"] * 1000) + b"]"
    assert len(loads(wide)) == 1000
