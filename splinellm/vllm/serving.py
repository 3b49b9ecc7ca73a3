"""A verdict in every answer of ``vllm serve``: ``--middleware splinellm.vllm.serving.Geometry``.

The settings are environment variables, for vLLM's own command knows no others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import asdict
from typing import Any

import numpy as np

from splinellm.errors import ConfigurationError, SplineLLMError
from splinellm.schema import FeatureSchema, FeatureSelection
from splinellm.vllm.judging import Rule, plan_of
from splinellm.vllm.worker import result_of

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

FIELD = "splinellm"
HEADER = b"x-splinellm-verdict"
_WATCHED = ("/v1/completions", "/v1/chat/completions")
_PREFIX = "SPLINELLM_VLLM_"


def settings_from(environment: Mapping[str, str]) -> tuple[Rule, dict[str, Any]]:
    """Read the rule, and how much is remembered for how long.

    Raises
    ------
    ConfigurationError
        No classifier is named, or a number cannot be read.
    """
    given = {name: environment.get(_PREFIX + name) for name in _SETTINGS}
    if not given["CLASSIFIER"]:
        raise ConfigurationError(
            "no classifier is named", hint=f"set {_PREFIX}CLASSIFIER to a name or folder"
        )
    numbers: dict[str, float | None] = {}
    for name in ("THRESHOLD", "EVERY", "KEEP", "KEEP_S"):
        try:
            numbers[name] = None if given[name] is None else float(given[name] or "")
        except ValueError:
            raise ConfigurationError(f"{_PREFIX}{name} is no number") from None
    rule = Rule(
        given["CLASSIFIER"],
        threshold=numbers["THRESHOLD"],
        label=given["LABEL"],
        every=int(numbers["EVERY"] or 8),
        ends=given["GUARD"] in ("1", "true"),
    )
    keep, keep_s = numbers["KEEP"], numbers["KEEP_S"]
    return rule, {
        "keep": 10_000 if keep is None else int(keep),
        "keep_s": 300.0 if keep_s is None else keep_s,
    }


_SETTINGS = ("CLASSIFIER", "THRESHOLD", "LABEL", "EVERY", "GUARD", "KEEP", "KEEP_S")


class Geometry:
    """Middleware that lets answers carry verdicts, and adds ``GET /v1/geometry/{request id}``.

    Parameters
    ----------
    app : ASGI application
        vLLM's.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._schema: FeatureSchema | None = None
        self._engine: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve a request, or the beginning and the end of the server."""
        if scope["type"] == "lifespan":
            try:
                await self._begin(scope["app"])
            except (SplineLLMError, AttributeError) as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": f"splinellm: {error}"})
                return
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in _WATCHED:
            body = await _body_of(receive)
            answer = _Answer(self, scope["path"], _n_of(body), send)
            await self._app(scope, _replayed(body, receive), answer.send)
        else:
            await self._app(scope, receive, send)

    async def call(self, action: str, *args: Any) -> Any:
        """Ask the worker."""
        answers = await self._engine.collective_rpc("splinellm", args=(action, *args))
        return result_of(answers[0])

    async def _begin(self, app: Any) -> None:
        self._engine = app.state.engine_client
        rule, kept = settings_from(os.environ)
        plan = plan_of(rule.classifier)
        served = await self.call("describe")
        wanted = {
            "layers": list(plan.layers),
            "features": list(plan.selection.names),
            "n_blocks": plan.selection.n_blocks,
            "rule": asdict(rule),
            **kept,
        }
        await self.call("start", wanted)
        selection = FeatureSelection(plan.selection.names, plan.selection.n_blocks)
        self._schema = FeatureSchema(plan.layers, selection, served["n_layers"])
        # A route, and not a part of this middleware: vLLM's asks for the API key before it.
        app.add_route("/v1/geometry/{request_id}", self._geometry, methods=["GET"])

    async def _geometry(self, request: Any) -> Any:
        from starlette.responses import JSONResponse  # only where vLLM serves

        name, count = request.path_params["request_id"], request.query_params.get("count", "all")
        if count not in ("all", "prompt", "answer"):
            return JSONResponse(_error("invalid_configuration", "count: all, prompt, answer"), 400)
        names = await self.call("named", name)
        if not names:
            told = "no such request, or it was forgotten"
            return JSONResponse(_error("nothing_recorded", told), 404)
        try:
            found = await self.call("rows", names, count)
        except SplineLLMError as error:
            return JSONResponse(_error(error.code, str(error)), 404)
        values = np.frombuffer(found["values"], np.float32).reshape(found["shape"])
        assert self._schema is not None  # noqa: S101 - nothing is served before it begins
        return JSONResponse(
            {
                "object": "geometry",
                "id": name,
                "count": count,
                "layers": list(self._schema.layers),
                "feature_names": list(self._schema.features),
                "data": [
                    {
                        "index": index,
                        "n_tokens": numbers[0],
                        "n_prompt_tokens": numbers[1],
                        "values": row.tolist(),
                    }
                    for index, (numbers, row) in enumerate(
                        zip(found["numbers"], values, strict=True)
                    )
                ],
            }
        )

    async def verdict(self, name: str) -> dict[str, Any]:
        """What is said of a request; never an error, for the answer is there."""
        try:
            (found,) = await self.call("verdicts", [name])
        except SplineLLMError as error:
            return {"error": {"code": error.code, "message": str(error)}}
        verdict: dict[str, Any] = found
        return verdict


class _Answer:
    """An answer on its way out; verdicts are put into it."""

    def __init__(self, geometry: Geometry, path: str, n_choices: int, send: Send) -> None:
        self._geometry, self._send = geometry, send
        self._is_chat = path.endswith("chat/completions")
        self._n = n_choices
        self._start: Message | None = None
        self._rest = b""

    async def send(self, message: Message) -> None:
        """Take what vLLM sends."""
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            self._streams = kind.startswith(b"text/event-stream")
            if message["status"] == 200 and (self._streams or kind.startswith(b"application/json")):
                self._start = message
                return
        if self._start is None and not getattr(self, "_is_ours", False):
            await self._send(message)
            return
        self._is_ours = True
        self._rest += message.get("body", b"")
        is_last = not message.get("more_body", False)
        if self._streams:
            *events, self._rest = self._rest.split(b"\n\n")
            whole = b"".join([await self._event(it) + b"\n\n" for it in events])
            if is_last:
                whole, self._rest = whole + self._rest, b""
            if self._start is None or whole or is_last:
                await self._begin(None)
                await self._send({**message, "body": whole})
        elif is_last:
            body = await self._whole(self._rest)
            await self._begin(len(body))
            await self._send({**message, "body": body})

    async def _begin(self, length: int | None) -> None:
        """Send the start, which has waited for its header."""
        if (start := self._start) is None:
            return
        self._start = None
        headers = [it for it in start["headers"] if length is None or it[0] != b"content-length"]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        if verdict := getattr(self, "_first", None):
            headers.append((HEADER, _header(verdict)))
        await self._send({**start, "headers": headers})

    def _name(self, answer_id: str, choice: int) -> str:
        """What the engine calls the request behind a choice."""
        if self._is_chat:
            return answer_id if self._n == 1 else f"{choice}_{answer_id}"
        prompt, own = divmod(choice, self._n)
        return f"{answer_id}-{prompt}" if self._n == 1 else f"{own}_{answer_id}-{prompt}"

    async def _judge(self, document: Any, *, all_choices: bool) -> bool:
        """Put verdicts into the choices of a document that have ended; says whether any has."""
        has_changed = False
        for choice in document.get("choices") or []:
            name = self._name(str(document.get("id")), int(choice.get("index", 0)))
            has_ended = all_choices or choice.get("finish_reason") is not None
            if has_ended or not hasattr(self, "_first"):
                verdict = await self._geometry.verdict(name)
                self.__dict__.setdefault("_first", verdict)
            if has_ended:
                choice[FIELD] = verdict
                if verdict.get("stopped"):
                    choice["stop_reason"] = "splinellm guard"
                has_changed = True
        return has_changed

    async def _event(self, event: bytes) -> bytes:
        if not event.startswith(b"data: {"):
            return event
        document = json.loads(event.removeprefix(b"data: "))
        if not await self._judge(document, all_choices=False):
            return event
        return b"data: " + json.dumps(document, ensure_ascii=False).encode()

    async def _whole(self, body: bytes) -> bytes:
        document = json.loads(body)
        await self._judge(document, all_choices=True)
        return json.dumps(document, ensure_ascii=False).encode()


def _header(verdict: Mapping[str, Any]) -> bytes:
    if "error" in verdict:
        return f"error={verdict['error']['code']}".encode()
    probability = max(verdict["probabilities"].values())
    probability = verdict["probabilities"].get(verdict["label"], probability)
    return f"{verdict['label']}; probability={probability:.4f}".encode("ascii", "replace")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


async def _body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, and then what comes after it."""
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return given.pop() if given else await receive()

    return again


def _n_of(body: bytes) -> int:
    """Answers per prompt that a request asks for."""
    try:
        n = json.loads(body).get("n") or 1
        return int(n) if int(n) > 0 else 1
    except (ValueError, TypeError, AttributeError):
        return 1  # vLLM says what is wrong with it
