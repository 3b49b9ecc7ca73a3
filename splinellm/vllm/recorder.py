"""Features of what vLLM's offline engine reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from splinellm.errors import ConfigurationError, NothingRecordedError
from splinellm.learn.classifier import Classifier
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, FeatureSelection
from splinellm.table import FeatureTable
from splinellm.vllm.judging import Stop
from splinellm.vllm.parts import ServedModel
from splinellm.vllm.wanting import Wanted, wanted_of
from splinellm.vllm.worker import call, result_of

Over = Literal["all", "prompt", "answer"]
EXTENSION = "splinellm.vllm.WorkerExtension"
GUARD = "splinellm.vllm.guarding:GuardProcessor"


def attach_vllm(
    llm: Any,
    *,
    layers: str | Iterable[int] | None = None,
    features: str | Iterable[str] | FeatureSelection | None = None,
    dimension_rule: Literal["relative", "absolute"] = "relative",
    dimension_threshold: float = 0.1,
    keep: int | None = None,
    classifier: Classifier | str | PathLike[str] | None = None,
    guard: bool = False,
    threshold: float | None = None,
    label: str | None = None,
    every: int = 8,
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
    classifier : Classifier, its name or folder, optional
        Whose layers and features are recorded, and who judges. A classifier that is not a name or
        folder needs an engine in this process.
    guard : bool
        Whether requests are ended that the classifier does not like, as :class:`splinellm.Guard`
        ends rows; their output's ``stop_reason`` says so. The engine needs
        ``logits_processors=["splinellm.vllm.guarding:GuardProcessor"]``.
    threshold, label, every
        Of the guard; see :class:`splinellm.Guard`.

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
    if guard:
        workers.require_guard()
    wanted = wanted_of(
        served,
        layers=layers,
        features=features,
        dimension_rule=dimension_rule,
        dimension_threshold=dimension_threshold,
        keep=keep,
        classifier=classifier,
        guard=guard,
        threshold=threshold,
        label=label,
        every=every,
    )
    return VLLMRecorder(workers, served, wanted)


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

    def require_guard(self) -> None:
        """Refuse an engine that has no logits processor to end requests with."""
        named = self._engine.vllm_config.model_config.logits_processors or ()
        if not any(it == GUARD or getattr(it, "__name__", "") == "GuardProcessor" for it in named):
            raise ConfigurationError(
                "the engine was started without a guard",
                hint=f'start it with LLM(…, logits_processors=["{GUARD}"])',
            )

    def follow(self, listener: Callable[[list[Any]], None]) -> None:
        """Show a listener what the engine gives after every step."""
        step = self._engine.step

        def told() -> Any:
            outputs = step()
            listener(outputs)
            return outputs

        self._engine.step = told

    def unfollow(self) -> None:
        """Show nobody."""
        vars(self._engine).pop("step", None)

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
    wanted : Wanted
        What is recorded.
    """

    def __init__(self, workers: Any, served: ServedModel, wanted: Wanted) -> None:
        self._workers = workers
        self._served = served
        self._wanted = wanted

    def __enter__(self) -> Self:
        self._workers.call("start", self._wanted.plain())
        if self._wanted.rule is not None and self._wanted.rule.ends:
            self._workers.follow(self._tell_reasons)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._workers.unfollow()
        self._workers.call("stop")

    def _tell_reasons(self, outputs: list[Any]) -> None:
        """Say in what the engine has finished why the guard ended it."""
        finished = [it for it in outputs if getattr(it, "finished", False)]
        answers = [answer for output in finished for answer in output.outputs]
        if not answers:
            return
        for answer, stop in zip(answers, self.stops_of(finished), strict=True):
            if stop is not None:
                answer.stop_reason = reason_of(stop.probability)

    @property
    def schema(self) -> FeatureSchema:
        """Names and order of the table's features."""
        return self._wanted.schema(self._served.n_layers)

    @property
    def provenance(self) -> Provenance:
        """What the tables come from; the weights are the user's, and are not hashed."""
        return self._wanted.provenance(self._served)

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
        found = self._workers.call("rows", ids_of(outputs), count)
        values = np.frombuffer(found["values"], np.float32).reshape(found["shape"])
        n_tokens = np.array([numbers[0] for numbers in found["numbers"]], np.int64)
        provenance = self.provenance
        if count == "answer":
            provenance = replace(provenance, count="assistant")
        never = np.zeros(len(n_tokens), np.bool_)
        return FeatureTable(values.reshape(len(n_tokens), -1).copy(), n_tokens, never, provenance)

    def verdicts_of(self, outputs: Any) -> list[dict[str, Any]]:
        """What the classifier says of requests: label, probabilities, and where it was ended.

        Raises
        ------
        NothingRecordedError, NonFiniteFeaturesError
            See :meth:`table_of`.
        ConfigurationError
            No classifier was named.
        """
        found: list[dict[str, Any]] = self._workers.call("verdicts", ids_of(outputs))
        return found

    def stops_of(self, outputs: Any) -> list[Stop | None]:
        """Where the guard ended requests; None of those that it let go on."""
        found = self._workers.call("stops", ids_of(outputs))
        return [None if it is None else Stop(**it) for it in found]

    def forget(self, outputs: Any = None) -> None:
        """Drop what is remembered of requests that have ended; of all by default."""
        self._workers.call("forget", None if outputs is None else ids_of(outputs))


def reason_of(probability: float) -> str:
    """What an output says of why the guard ended it."""
    return f"splinellm guard: probability {probability:.4f}"


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
