"""Watch a model that vLLM runs, step by step, inside of the worker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from splinellm.errors import ConfigurationError
from splinellm.geometry import DimensionRule
from splinellm.schema import FeatureSelection
from splinellm.vllm.judging import Judge
from splinellm.vllm.parts import attentions_of, describe, gates_of, n_layers_of
from splinellm.vllm.requests import Request, Requests, Step, stop_ids_of
from splinellm.vllm.running import RunningStatistics
from splinellm.vllm.seeing import Seen
from splinellm.vllm.telling import Told
from splinellm.vllm.wanting import Wanted


class Watch:
    """The requests of one worker; made when it begins to record, and closed when it ends.

    Parameters
    ----------
    worker : object
        vLLM's.
    wanted : Wanted
        What is recorded.

    Raises
    ------
    ConfigurationError
        The engine's settings hide the gates, or it is being watched already.
    UnsupportedArchitectureError
        The model is not built like Llama.
    """

    def __init__(self, worker: Any, wanted: Wanted) -> None:
        served = describe(worker)
        runner = worker.model_runner
        if "execute_model" in vars(runner):
            raise ConfigurationError(
                "the engine is being watched already",
                hint="attach once, with all the features that are wanted",
            )
        model = runner.get_model()
        gates = gates_of(model, n_layers_of(worker))
        gates = [gates[layer] for layer in wanted.layers]
        rule = DimensionRule(wanted.dimension_threshold, wanted.dimension_rule)  # type: ignore[arg-type]
        selection = FeatureSelection(tuple(wanted.features), wanted.n_blocks)
        schema = wanted.schema(served.n_layers)
        self.wanted = wanted
        self._seen = Seen(gates, selection, rule)
        self.running = RunningStatistics(schema, self._seen.widths)
        self._judge = None
        if wanted.rule is not None:
            self._judge = Judge(wanted.rule, schema, wanted.provenance(served))
        self.requests = Requests(self.running, keep=wanted.keep, keep_s=wanted.keep_s)
        self.told = Told(
            self.requests,
            self.running,
            self._judge,
            has_dimension=bool(self._seen.of_attention),
        )
        self._runner = runner
        self._knows_last_token = not worker.vllm_config.scheduler_config.async_scheduling
        self._step: Step | None = None
        self._last_step: Step | None = None
        self._scheduled: Any = None
        self._ends = ExitStack()
        self._attach(model, gates)

    def _attach(self, model: nn.Module, gates: list[nn.Module]) -> None:
        with ExitStack() as stack:
            for place, gate in enumerate(gates):
                hook = self._seen.gate_hook(place)
                stack.callback(gate.register_forward_hook(hook).remove)
            if self._seen.of_attention:
                for place, attention in enumerate(attentions_of(model, gates)):
                    hook = self._seen.attention_hook(place, attention)
                    stack.callback(attention.register_forward_pre_hook(hook).remove)
            before = model.register_forward_pre_hook(self._on_forward, with_kwargs=True)
            stack.callback(before.remove)
            self._runner.execute_model = self._around(self._runner.execute_model)
            stack.callback(vars(self._runner).pop, "execute_model", None)
            self._ends = stack.pop_all()

    def close(self) -> None:
        """Record no more; what was recorded is gone."""
        self._ends.close()

    def ending(self) -> list[tuple[int, Request]]:
        """Rows of the step that was just read whose requests must end."""
        return self.told.ending(self._last_step)

    def _around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute_model(scheduled: Any, *args: Any, **kwargs: Any) -> Any:
            self._last_step = None
            self._begin(scheduled)
            try:
                result = original(scheduled, *args, **kwargs)
                self._finish()
            finally:
                self._scheduled = self._step = None
                self._seen.forget()
            return result

        return execute_model

    def _begin(self, scheduled: Any) -> None:
        """Take note of what vLLM is about to do."""
        self.requests.end(scheduled.finished_req_ids)
        for new in scheduled.scheduled_new_reqs:
            if new.req_id in scheduled.num_scheduled_tokens:
                self.requests.begin(
                    new.req_id,
                    new.prompt_len,
                    new.num_computed_tokens,
                    stop_ids_of(new.sampling_params),
                )
        self._scheduled = scheduled

    def _on_forward(self, _model: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        """Say whose the tokens are that the model is about to read."""
        if (scheduled := self._scheduled) is None:  # a trial run of vLLM's own
            return
        cached = scheduled.scheduled_cached_reqs
        starts = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        starts |= {new.req_id: new.num_computed_tokens for new in scheduled.scheduled_new_reqs}
        numbers = scheduled.num_scheduled_tokens
        order = [it for it in self._runner.input_batch.req_ids if it is not None]
        for request_id in order:
            if self.requests.get(request_id) is None:  # begun before it was watched
                self.requests.begin(request_id, 1 << 40, 0)
        ids = None if self._knows_last_token else kwargs.get("input_ids")
        self._step = self.requests.step(order, {it: (starts[it], numbers[it]) for it in order}, ids)
        self._seen.begin(self._step)

    def _finish(self) -> None:
        """Let the requests go on by what was seen of their tokens."""
        if (step := self._step) is None:
            return
        if step.rows:
            if (values := self._seen.values()) is None:
                for part in step.parts:
                    part.request.trouble = part.request.trouble or (
                        "the model did not show every wanted layer once"
                    )
            else:
                self.running.add(step.rows, values, step.piece)
                self._score(step, values)
            self._note_broken(step)
        self.requests.done(step)
        self._last_step = step

    def _score(self, step: Step, values: dict[str, Tensor]) -> None:
        """Keep the scores of a step's tokens, where the classifier pools them."""
        if self._judge is None or not self._judge.is_pooled:
            return
        of_gate = {it.name: values[it.name] for it in self._seen.of_gate}
        scores = self._judge.score_tokens(self.running.merging, of_gate)
        ends = torch.bincount(step.piece, minlength=len(step.pieces)).cumsum(0).tolist()
        for part, begin, end in zip(step.pieces, [0, *ends], ends, strict=False):
            part.request.scores.append(scores[begin:end])

    def _note_broken(self, step: Step) -> None:
        is_broken = self._seen.is_broken
        if is_broken is None or not bool(is_broken.any()):
            return
        for number in step.piece[is_broken.cpu()].unique().tolist():
            step.pieces[number].request.is_broken = True
