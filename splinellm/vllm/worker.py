"""What a worker of vLLM can be told: ``worker_extension_cls="splinellm.vllm.WorkerExtension"``.

Answers are plain values, so that they go through vLLM's messages between processes; errors are
told and not raised, since vLLM would forget their type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from splinellm import errors
from splinellm.errors import NothingRecordedError, PromptError, SplineLLMError
from splinellm.vllm.parts import describe
from splinellm.vllm.wanting import Wanted
from splinellm.vllm.watching import Watch

_WATCH = "_splinellm_watch"
_current: list[Watch] = []


def current() -> Watch | None:
    """What this process records: a logits processor is not told whose it is."""
    return _current[-1] if _current else None


def call(worker: Any, action: str, *args: Any) -> dict[str, Any]:
    """Do something in a worker, and tell what came of it.

    Parameters
    ----------
    worker : object
        vLLM's, or what it has around it.
    action : str
        Name of a function below.
    args
        Its arguments.
    """
    worker = getattr(worker, "worker", worker)
    return _told(lambda: _ACTIONS[action](worker, *args))


def _told(do: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": do()}
    except SplineLLMError as error:
        index = error.index if isinstance(error, PromptError) else None
        return {"error": [type(error).__name__, error.message, error.hint, index]}


def result_of(answer: dict[str, Any]) -> Any:
    """What :func:`call` gave in another process; raises what it raised."""
    if "error" not in answer:
        return answer["result"]
    name, message, hint, index = answer["error"]
    kind: Any = getattr(errors, name)
    more = {"index": index} if issubclass(kind, PromptError) else {}
    raise kind(message, hint=hint, **more)


def _describe(worker: Any) -> dict[str, Any]:
    return asdict(describe(worker))


def _start(worker: Any, plain: dict[str, Any]) -> None:
    watch = Watch(worker, Wanted.of(plain))
    setattr(worker, _WATCH, watch)
    _current.append(watch)


def _join(worker: Any, plain: dict[str, Any]) -> None:
    """Start, unless the same is recorded already: of several API servers each one asks."""
    watch: Watch | None = getattr(worker, _WATCH, None)
    if watch is None or watch.wanted != Wanted.of(plain):
        _start(worker, plain)


def _stop(worker: Any) -> None:
    watch: Watch | None = getattr(worker, _WATCH, None)
    if watch is not None:
        watch.close()
        delattr(worker, _WATCH)
        _current.remove(watch)


def watch_of(worker: Any) -> Watch:
    """What a worker records.

    Raises
    ------
    NothingRecordedError
        It does not.
    """
    watch: Watch | None = getattr(worker, _WATCH, None)
    if watch is None:
        raise NothingRecordedError("the engine is not watched", hint="attach first")
    return watch


def _rows(worker: Any, request_ids: list[str], count: str) -> dict[str, Any]:
    values, numbers = watch_of(worker).told.rows(request_ids, count)
    return {"values": values.tobytes(), "shape": list(values.shape), "numbers": numbers}


def _verdicts(worker: Any, request_ids: list[str]) -> list[dict[str, Any]]:
    told = watch_of(worker).told
    return [told.verdict(request_id, index) for index, request_id in enumerate(request_ids)]


def _verdict_of_each(worker: Any, request_ids: list[str]) -> list[dict[str, Any]]:
    """Verdicts, each for itself: one that cannot be given hides no other."""
    told = watch_of(worker).told
    return [_told(partial(told.verdict, request_id)) for request_id in request_ids]


def _geometry(worker: Any, answer_id: str, count: str) -> list[dict[str, Any]]:
    """Features of the requests behind an answer, and whether those go on; none: unknown."""
    watch = watch_of(worker)
    found = []
    for prompt, choice, request_id in watch.requests.named(answer_id):
        if (known := watch.requests.packed(request_id)) is None:
            continue
        values, ((n_tokens, n_prompt),) = watch.told.rows([request_id], count)
        row = {
            "prompt": prompt,
            "choice": choice,
            "is_running": watch.requests.is_running(known[0]),
            "n_tokens": n_tokens,
            "n_prompt_tokens": n_prompt,
            "values": values[0].tolist(),
        }
        if watch.wanted.rule is not None:
            row["verdict"] = _told(partial(watch.told.verdict, request_id))
        found.append(row)
    return found


def _stops(worker: Any, request_ids: list[str]) -> list[dict[str, Any] | None]:
    found = [watch_of(worker).requests.packed(it) for it in request_ids]
    return [None if it is None or it[0].stop is None else asdict(it[0].stop) for it in found]


def _forget(worker: Any, request_ids: list[str] | None) -> None:
    requests = watch_of(worker).requests
    if request_ids is None:
        requests.forget_all()
    else:
        requests.forget(request_ids)


def _held(worker: Any) -> dict[str, int]:
    watch = watch_of(worker)
    return {
        "running": len(watch.requests),
        "ended": watch.requests.n_ended,
        "bytes_per_request": watch.running.n_bytes,
        "bytes_of_slots": watch.running.n_bytes_held,
    }


_ACTIONS: dict[str, Callable[..., Any]] = {
    "describe": _describe,
    "forget": _forget,
    "geometry": _geometry,
    "held": _held,
    "join": _join,
    "rows": _rows,
    "start": _start,
    "stop": _stop,
    "stops": _stops,
    "verdict_of_each": _verdict_of_each,
    "verdicts": _verdicts,
}


class WorkerExtension:
    """Methods that vLLM adds to its workers."""

    def splinellm(self, action: str, *args: Any) -> dict[str, Any]:
        """See :func:`call`."""
        return call(self, action, *args)
