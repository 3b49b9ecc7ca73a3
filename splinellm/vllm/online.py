"""The engine behind a server of vLLM, which runs in another process: what it is told and asked."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

from splinellm.errors import ConfigurationError, NothingRecordedError, SplineLLMError
from splinellm.provenance import Provenance
from splinellm.vllm.parts import ServedModel, require_visible
from splinellm.vllm.recorder import EXTENSION, GUARD
from splinellm.vllm.wanting import Wanted, wanted_of
from splinellm.vllm.worker import result_of

SETTINGS = "splinellm"
"""Where the settings are in ``--additional-config``."""

_DEFAULTS = {"keep": 10_000, "keep_s": 300.0}
_NAMES = [it for it in inspect.signature(wanted_of).parameters if it != "served"]


@dataclass
class Noted:
    """Requests that the engine was given to answer one of HTTP's.

    Parameters
    ----------
    requests : list of (str, str, int, int)
        What the engine calls each, what the server does, the answers that were asked for, and which
        of them it is.
    """

    requests: list[tuple[str, str, int, int]] = field(default_factory=list)

    def by_choice(self, answer_id: str) -> dict[int, str]:
        """The engine's names by the index of a choice, of an answer with this id."""
        found = {}
        for inner, outer, n_answers, number in self.requests:
            prompt = outer.removeprefix(f"{answer_id}-") if answer_id.startswith("cmpl-") else "0"
            if prompt.isdecimal() and outer in (answer_id, f"{answer_id}-{prompt}"):
                found[int(prompt) * n_answers + number] = inner
        return found


_noted: ContextVar[Noted | None] = ContextVar("splinellm_noted", default=None)


@contextmanager
def noting() -> Iterator[Noted]:
    """Take note of the requests that the engine is given meanwhile, by this task and its own."""
    noted = Noted()
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


class Online:
    """An engine that is watched; made by :meth:`start`.

    Parameters
    ----------
    client : vllm.engine.protocol.EngineClient
        How the server speaks to it.
    served : ServedModel
        What it runs.
    wanted : Wanted
        What is recorded.
    """

    def __init__(self, client: Any, served: ServedModel, wanted: Wanted) -> None:
        self._client = client
        self._served = served
        self.wanted = wanted

    @classmethod
    async def start(cls, client: Any) -> Self:
        """Let an engine record what its ``--additional-config`` asks for.

        Raises
        ------
        ConfigurationError
            It was started with other settings than it must be; names the flags.
        SplineLLMError
            What is asked for does not exist.
        """
        config = client.vllm_config
        settings = settings_of(config.additional_config)
        require_visible(config)
        if config.parallel_config.worker_extension_cls != EXTENSION:
            raise ConfigurationError(
                "the engine's worker does not know splinellm",
                hint=f"start it with --worker-extension-cls {EXTENSION}",
            )
        named = config.model_config.logits_processors or ()
        if settings.get("guard") and GUARD not in named:
            raise ConfigurationError(
                "the engine was started without a guard",
                hint=f"start it with --logits-processors {GUARD}",
            )
        served = ServedModel(**await _ask(client, "describe"))
        wanted = wanted_of(served, **settings)
        await _ask(client, "join", wanted.plain())
        _note_requests(client.output_processor)
        return cls(client, served, wanted)

    @property
    def provenance(self) -> Provenance:
        """What the features come from."""
        return self.wanted.provenance(self._served)

    async def verdicts(self, request_ids: list[str]) -> list[dict[str, Any]]:
        """What the judge says of requests by the engine's names, or why it says nothing."""
        found = await _ask(self._client, "verdict_of_each", request_ids)
        return [verdict_or_error(it) for it in found]

    async def geometry(self, answer_id: str, count: str) -> list[dict[str, Any]]:
        """Features of the requests behind an answer; see :mod:`splinellm.vllm.worker`.

        Raises
        ------
        NothingRecordedError
            It is not known, or has no such features.
        """
        rows: list[dict[str, Any]] = await _ask(self._client, "geometry", answer_id, count)
        for row in rows:
            if "verdict" in row:
                row["verdict"] = verdict_or_error(row["verdict"])
        return rows


def settings_of(additional: Any) -> dict[str, Any]:
    """Read what ``--additional-config`` says to this library.

    Raises
    ------
    ConfigurationError
        It says nothing, or something unknown.
    """
    settings = additional.get(SETTINGS, {}) if isinstance(additional, Mapping) else {}
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f'"{SETTINGS}" in --additional-config is not an object')
    for name in settings:
        if name not in _NAMES:
            raise ConfigurationError(
                f"unknown setting '{str(name)[:40]}' in --additional-config",
                hint=f"known are {', '.join(_NAMES)}",
            )
    return _DEFAULTS | dict(settings)


def verdict_or_error(answer: dict[str, Any]) -> dict[str, Any]:
    """A verdict as it is, an error with its code: both can be sent."""
    try:
        verdict: dict[str, Any] = result_of(answer)
    except SplineLLMError as error:
        return {"error": error_body(error)}
    return verdict


def error_body(error: SplineLLMError) -> dict[str, Any]:
    """An error as clients of OpenAI's read it."""
    kind = "not_found_error" if isinstance(error, NothingRecordedError) else "invalid_request_error"
    return {"message": str(error), "type": kind, "param": None, "code": error.code}


async def _ask(client: Any, action: str, *args: Any) -> Any:
    answers = await client.collective_rpc("splinellm", args=(action, *args))
    return result_of(answers[0])


def _note_requests(processor: Any) -> None:
    """Show what the engine is given to whom it is given for.

    The names of HTTP do not do: two clients may choose the same ``X-Request-Id``.
    """
    if "add_request" in vars(processor):
        return
    original = processor.add_request

    def add_request(
        request: Any,
        prompt: Any,
        parent_req: Any = None,
        request_index: int = 0,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if (noted := _noted.get()) is not None:
            n_answers = 1 if parent_req is None else int(parent_req.n)
            outer = request.external_req_id or request.request_id
            noted.requests.append((request.request_id, outer, n_answers, request_index))
        return original(request, prompt, parent_req, request_index, *args, **kwargs)

    processor.add_request = add_request
