"""Features of what vLLM's offline engine reads and writes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np

from splinellm.errors import ConfigurationError, NothingRecordedError
from splinellm.plan import Plan
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, FeatureSelection
from splinellm.table import FeatureTable
from splinellm.vllm.parts import ServedModel
from splinellm.vllm.worker import call, result_of

Over = Literal["all", "prompt", "answer"]
EXTENSION = "splinellm.vllm.WorkerExtension"


def attach_vllm(
    llm: Any,
    *,
    layers: str | Iterable[int] | None = None,
    features: str | Iterable[str] | FeatureSelection = "spline",
    dimension_rule: Literal["relative", "absolute"] = "relative",
    dimension_threshold: float = 0.1,
    keep: int | None = None,
) -> VLLMRecorder:
    """Watch vLLM's offline engine while it serves: a row of features per request.

    Parameters
    ----------
    llm : vllm.LLM or vllm.LLMEngine
        Started with ``enforce_eager=True, enable_prefix_caching=False``; and with
        ``worker_extension_cls="splinellm.vllm.WorkerExtension"``, unless it runs in this process
        (``VLLM_ENABLE_V1_MULTIPROCESSING=0``).
    layers, features, dimension_rule, dimension_threshold
        See :class:`splinellm.extraction.SplineExtractor`; features are the seven by default.
    keep : int, optional
        Requests that are remembered when they have ended, the newest; all by default.

    Returns
    -------
    VLLMRecorder
        To be used in a ``with`` statement.

    Raises
    ------
    ConfigurationError
        The engine's settings hide the gates: names the flags; or an argument is impossible.
    SchemaError
        A layer or feature does not exist.
    UnsupportedArchitectureError
        The model is not built like Llama.

    Examples
    --------
    >>> with attach_vllm(llm, layers="0-9", features="blocks") as recorder:  # doctest: +SKIP
    ...     outputs = llm.generate(prompts, SamplingParams(max_tokens=20))
    ...     recorder.table_of(outputs, count="answer").array.shape
    (2, 10, 32)
    """
    workers = _Workers(llm)
    served = ServedModel(**workers.call("describe"))
    plan = Plan.resolve(
        cast(Any, served),
        layers=layers,
        features=features,
        max_tokens=served.max_positions or sys.maxsize,  # nothing is cut
        dimension_rule=dimension_rule,
        dimension_threshold=dimension_threshold,
        allow_special_tokens=True,
    )
    return VLLMRecorder(workers, served, plan, keep)


class _Workers:
    """How an engine's worker is spoken to."""

    def __init__(self, llm: Any) -> None:
        engine = getattr(llm, "llm_engine", llm)
        if not hasattr(engine, "collective_rpc") or not hasattr(engine, "vllm_config"):
            raise ConfigurationError(
                f"a {type(llm).__name__} is no engine of vLLM", hint="give it a vllm.LLM"
            )
        self._engine = engine
        self._has_extension = engine.vllm_config.parallel_config.worker_extension_cls == EXTENSION
        if not self._has_extension and not hasattr(engine.engine_core, "engine_core"):
            raise ConfigurationError(
                "the engine's worker runs in another process, and does not know splinellm",
                hint=f'start it with LLM(…, worker_extension_cls="{EXTENSION}")',
            )

    def call(self, action: str, *args: Any) -> Any:
        if self._has_extension:
            answers = self._engine.collective_rpc("splinellm", args=(action, *args))
        else:
            answers = self._engine.collective_rpc(call, args=(action, *args))
        return result_of(answers[0])


class VLLMRecorder:
    """Features of an engine's requests; made by :func:`attach_vllm`.

    A request is what the model has read of it: its prompt and its answer but for the last token,
    which no model reads.

    Parameters
    ----------
    workers : object
        The engine's.
    served : ServedModel
        What it runs.
    plan : Plan
        What is wanted.
    keep : int, optional
        See :func:`attach_vllm`.
    """

    def __init__(
        self, workers: Any, served: ServedModel, plan: Plan, keep: int | None = None
    ) -> None:
        self._workers = workers
        self._served = served
        self._plan = plan
        self._keep = keep

    def __enter__(self) -> Self:
        wanted = {
            "layers": list(self._plan.layers),
            "features": list(self._plan.selection.names),
            "n_blocks": self._plan.selection.n_blocks,
            "dimension_rule": self._plan.dimension_rule,
            "dimension_threshold": self._plan.dimension_threshold,
            "keep": self._keep,
        }
        self._workers.call("start", wanted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._workers.call("stop")

    @property
    def schema(self) -> FeatureSchema:
        """Names and order of the table's features."""
        return self._plan.schema(self._served.n_layers)

    @property
    def provenance(self) -> Provenance:
        """What the tables come from; the weights are the user's, and are not hashed."""
        return self._plan.provenance(
            cast(Any, self._served), model=self._served.name, attention=self._served.attention
        )

    @property
    def held(self) -> dict[str, int]:
        """Requests that run and that are remembered, and the bytes of one and of all that run."""
        held: dict[str, int] = self._workers.call("held")
        return held

    def table_of(self, outputs: Any, count: Over = "all") -> FeatureTable:
        """Features of requests, in the order of `outputs`; within the block.

        Parameters
        ----------
        outputs : sequence of vllm.RequestOutput, or one, or request ids
            What the engine gave, finished or not. One with several answers has a row for each.
        count : {"all", "prompt", "answer"}
            Tokens that the features are over. ``n_tokens`` says how many those are.

        Raises
        ------
        NothingRecordedError
            A request is not known, or cannot have these features; says why.
        NonFiniteFeaturesError
            The forward pass overflowed in one of them.
        ConfigurationError
            There is no such count.
        """
        if count not in ("all", "prompt", "answer"):
            raise ConfigurationError(
                f"unknown count '{str(count)[:40]}'", hint="use all, prompt or answer"
            )
        found = self._workers.call("rows", ids_of(outputs), count)
        values = np.frombuffer(found["values"], np.float32).reshape(found["shape"])
        n_tokens = np.array([numbers[0] for numbers in found["numbers"]], np.int64)
        provenance = self.provenance
        if count == "answer":
            provenance = replace(provenance, count="assistant")
        never = np.zeros(len(n_tokens), np.bool_)
        return FeatureTable(values.reshape(len(n_tokens), -1).copy(), n_tokens, never, provenance)

    def forget(self, outputs: Any = None) -> None:
        """Drop what is remembered of requests that have ended; of all by default."""
        self._workers.call("forget", None if outputs is None else ids_of(outputs))


def ids_of(outputs: Any) -> list[str]:
    """What the engine calls the requests of these outputs, an id per answer."""
    if isinstance(outputs, str) or not isinstance(outputs, Sequence):
        outputs = [outputs]
    ids: list[str] = []
    for output in outputs:
        if isinstance(output, str):
            ids.append(output)
            continue
        if not hasattr(output, "request_id") or not hasattr(output, "outputs"):
            raise NothingRecordedError(f"a {type(output).__name__} is no output of vLLM")
        if len(output.outputs) <= 1:
            ids.append(str(output.request_id))
        else:
            ids += [f"{answer.index}_{output.request_id}" for answer in output.outputs]
    return ids
