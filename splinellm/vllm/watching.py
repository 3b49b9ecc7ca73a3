"""See the gates of a model that vLLM runs, step by step, inside of the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from splinellm import geometry
from splinellm.backbone.kernels import Activations, of_scores
from splinellm.errors import ConfigurationError, NonFiniteFeaturesError, NothingRecordedError
from splinellm.geometry import Attended, DimensionRule
from splinellm.plan import Plan
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, FeatureSelection
from splinellm.vllm.judging import Judge, Rule
from splinellm.vllm.parts import (
    ServedModel,
    attentions_of,
    gates_of,
    norms_of,
    require_visible,
    width_of,
)
from splinellm.vllm.requests import Request, Requests, Step, stop_ids_of
from splinellm.vllm.running import ANSWER, PROMPT, RunningStatistics

_FEW_TOKENS = 32
"""Up to here, all layers are reduced together in the end: small operations cost their call."""

HALVES = {"all": (PROMPT, ANSWER), "prompt": (PROMPT,), "answer": (ANSWER,)}
"""What a row can be over."""


@dataclass(frozen=True)
class Wanted:
    """What is recorded of requests; made of plain values, for it goes from process to process.

    Parameters
    ----------
    layers : tuple of int
        Layers.
    features : tuple of str
        Of each.
    n_blocks : int
        Sign blocks.
    dimension_rule, dimension_threshold : str, float
        See :class:`splinellm.geometry.DimensionRule`.
    keep : int, optional
        Requests that are remembered when they have ended.
    keep_s : float, optional
        How long they are.
    rule : Rule, optional
        Who judges them, and when they are ended.
    """

    layers: tuple[int, ...]
    features: tuple[str, ...]
    n_blocks: int
    dimension_rule: str = "relative"
    dimension_threshold: float = 0.1
    keep: int | None = None
    keep_s: float | None = None
    rule: Rule | None = None


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
        require_visible(worker.vllm_config)
        runner = worker.model_runner
        if "execute_model" in vars(runner):
            raise ConfigurationError(
                "the engine is being watched already",
                hint="attach once, with all the features that are wanted",
            )
        model = runner.get_model()
        gates = gates_of(model, n_layers_of(worker))
        gates = [gates[layer] for layer in wanted.layers]
        selection = FeatureSelection(tuple(wanted.features), wanted.n_blocks)
        self.schema = FeatureSchema(tuple(wanted.layers), selection, n_layers_of(worker))
        self._rule = DimensionRule(wanted.dimension_threshold, wanted.dimension_rule)  # type: ignore[arg-type]
        self._widths = [width_of(gate) for gate in gates]
        self._norms = (
            torch.stack([norms_of(gate) for gate in gates])[:, None, None]
            if selection.needs_norms and len({*self._widths}) == 1
            else None
        )
        self._layer_norms = (
            [norms_of(gate) for gate in gates]
            if selection.needs_norms and self._norms is None
            else []
        )
        self.running = RunningStatistics(self.schema, self._widths)
        self.judge = None
        if wanted.rule is not None:
            self.judge = Judge(wanted.rule, self.schema, provenance_of(worker, wanted))
        self.requests = Requests(self.running, keep=wanted.keep, keep_s=wanted.keep_s)
        self._of_gate = [it for it in selection.statistics if not it.is_of_attention]
        self._of_attention = [it for it in selection.statistics if it.is_of_attention]
        self._runner = runner
        self._knows_last_token = not worker.vllm_config.scheduler_config.async_scheduling
        self._step: Step | None = None
        self._last_step: Step | None = None
        self._scheduled: Any = None
        self._kept: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._values: dict[str, dict[int, Tensor]] = {}
        self._is_broken: Tensor | None = None
        self._ends = ExitStack()
        with ExitStack() as stack:
            for place, gate in enumerate(gates):
                stack.callback(gate.register_forward_hook(self._gate_hook(place)).remove)
            if self._of_attention:
                for place, attention in enumerate(attentions_of(model, gates)):
                    hook = self._attention_hook(place, attention)
                    stack.callback(attention.register_forward_pre_hook(hook).remove)
            before = model.register_forward_pre_hook(self._on_forward, with_kwargs=True)
            stack.callback(before.remove)
            original = runner.execute_model
            runner.execute_model = self._around(original)
            stack.callback(vars(runner).pop, "execute_model", None)
            self._ends = stack.pop_all()

    def close(self) -> None:
        """Record no more; what was recorded is gone."""
        self._ends.close()

    def _around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute_model(scheduled: Any, *args: Any, **kwargs: Any) -> Any:
            self._last_step = None
            self._begin(scheduled)
            try:
                result = original(scheduled, *args, **kwargs)
                self._finish()
            finally:
                self._scheduled = self._step = None
                self._kept, self._values = {}, {}
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
        self._is_broken = None

    def _gate_hook(self, place: int) -> Callable[..., None]:
        takes_inputs = self.schema.selection.needs_inputs
        width = self._widths[place]

        def hook(_gate: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if (step := self._step) is None:
                return
            whole = output[0] if isinstance(output, tuple) else output
            h = whole[: step.n_tokens, :width]
            x = args[0][: step.n_tokens] if takes_inputs else None
            if step.counted is not None:
                h = h[step.counted]
                x = None if x is None else x[step.counted]
            rms = None if x is None else geometry.root_mean_square(x)
            if not len(h):
                return
            if place == len(self._widths) - 1:
                self._is_broken = h.isnan().any(dim=-1)
            if len(h) <= _FEW_TOKENS:
                # A copy, since what the model does to it meanwhile is its own affair.
                self._kept[place] = h.to(torch.float32, copy=True), rms
            else:
                self._reduce([place], h[None, None], None if rms is None else rms[None, None])

        return hook

    def _reduce(self, places: Sequence[int], h: Tensor, rms: Tensor | None) -> None:
        """Reduce pre-activations (L, 1, N, K) of some layers, the whole row as one text's."""

        def norms() -> Tensor:
            if self._norms is None:
                return torch.stack([self._layer_norms[it] for it in places])[:, None, None]
            whole = len(places) == len(self._widths)
            return self._norms if whole else self._norms[list(places)]

        activations = Activations(h, norms, self._of_gate, rms)
        for statistic in self._of_gate:
            values = activations[statistic.name][:, 0]  # (L, N) or (L, N, C)
            self._values.setdefault(statistic.name, {}).update(zip(places, values, strict=True))

    def _attention_hook(self, place: int, attention: Any) -> Callable[..., None]:
        n_heads, n_key_heads = attention.num_heads, attention.num_kv_heads
        size, scaling = attention.head_size, float(attention.impl.scale)
        window = getattr(attention, "sliding_window", None)
        softcap = getattr(attention.impl, "logits_soft_cap", None) or None

        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            if (step := self._step) is None:
                return
            found = torch.full((len(step.rows),), torch.nan)
            for number, (part, (_, half)) in enumerate(zip(step.pieces, step.rows, strict=True)):
                request = part.request
                whole = part.start == 0 and part.end - part.begin >= request.n_prompt
                if half != PROMPT or not whole or request.n_read:
                    continue
                tokens = slice(part.begin, part.begin + request.n_prompt)
                query, key = args[0][tokens], args[1][tokens]
                heads = query.view(len(query), n_heads, size).transpose(0, 1)[None, :, -1:]
                keys = key.view(len(key), n_key_heads, size).transpose(0, 1)[None]
                if window:
                    keys = keys[:, :, -int(window) :]
                attended = Attended(heads, keys, scaling, None, softcap)
                scores = geometry.last_row_scores(attended, torch.zeros(1, dtype=torch.int64))
                for statistic in self._of_attention:
                    found[number] = of_scores(statistic, scores, self._rule)[0]
                request.has_dimension = True
            for statistic in self._of_attention:
                self._values.setdefault(statistic.name, {})[place] = found

        return hook

    def _finish(self) -> None:
        """Let the requests go on by what was seen of their tokens."""
        if (step := self._step) is None:
            return
        if self._kept:
            places = [*self._kept]
            if len({*self._widths}) == 1:
                rms = [self._kept[it][1] for it in places]
                self._reduce(
                    places,
                    torch.stack([self._kept[it][0] for it in places])[:, None],
                    torch.stack(rms)[:, None] if rms[0] is not None else None,  # type: ignore[arg-type]
                )
            else:
                for it, (h, one) in self._kept.items():
                    self._reduce([it], h[None, None], None if one is None else one[None, None])
        if step.rows:
            n_layers = len(self._widths)
            seen = {name: len(values) for name, values in self._values.items()}
            names = [it.name for it in (*self._of_gate, *self._of_attention)]
            if any(seen.get(name) != n_layers for name in names):
                for part in step.parts:
                    part.request.trouble = part.request.trouble or (
                        "the model did not show every wanted layer once"
                    )
            else:
                values = {
                    name: torch.stack([self._values[name][place] for place in range(n_layers)])
                    for name in names
                }
                self.running.add(step.rows, values, step.piece)
                self._score(step, values)
            self._note_broken(step)
        self.requests.done(step)
        self._last_step = step

    def _score(self, step: Step, values: dict[str, Tensor]) -> None:
        """Keep the scores of a step's tokens, where the classifier pools them."""
        if self.judge is None or not self.judge.is_pooled:
            return
        of_gate = {it.name: values[it.name] for it in self._of_gate}
        scores = self.judge.score_tokens(self.running.merging, of_gate)
        ends = torch.bincount(step.piece, minlength=len(step.pieces)).cumsum(0).tolist()
        for part, begin, end in zip(step.pieces, [0, *ends], ends, strict=False):
            part.request.scores.append(scores[begin:end])

    def ending(self) -> list[tuple[int, Request]]:
        """Rows of the step that was just read whose requests must end, as the judge says."""
        if (step := self._last_step) is None or (judge := self.judge) is None or not judge.ends:
            return []
        asked = [
            it.request
            for it in step.parts
            if it.request.n_read >= it.request.n_prompt
            and not (it.request.trouble or it.request.is_broken or it.request.has_ended)
            and judge.look(it.request, it.request.n_answer)
        ]
        if asked:
            for request, found in zip(asked, self._judged(asked), strict=True):
                judge.decide(request, request.n_answer, found)
        return [(it.row, it.request) for it in step.parts if it.request.stop is not None]

    def _judged(self, requests: Sequence[Request], packed: Any = None) -> np.ndarray:
        """Probabilities of requests, (B, C), over all that was read of them."""
        if self.judge is None:
            raise ConfigurationError("no classifier was named", hint="attach with classifier=…")
        if packed is None:
            packed = [self.running.packed(it.slot) for it in requests]
        features = self.running.features(packed, HALVES["all"])
        return self.judge.probabilities(requests, features)

    def verdicts(self, request_ids: Sequence[str]) -> list[dict[str, Any]]:
        """What the judge says of requests, in plain values.

        Raises
        ------
        NothingRecordedError, NonFiniteFeaturesError
            See :meth:`rows`.
        """
        found = []
        for index, request_id in enumerate(request_ids):
            request, packed = self._request(request_id)
            self._n_counted(request_id, request, HALVES["all"], index, judges=True)
            (probabilities,) = self._judged([request], [packed])
            assert self.judge is not None  # noqa: S101 - _judged has seen to it
            found.append(self.judge.verdict(request, probabilities))
        return found

    def _request(self, request_id: str) -> tuple[Request, np.ndarray]:
        found = self.requests.packed(request_id)
        if found is None:
            raise NothingRecordedError(
                f"request '{request_id[:80]}' is not known here",
                hint="it was made outside of the block, is forgotten, or was never begun",
            )
        return found

    def _note_broken(self, step: Step) -> None:
        if self._is_broken is None or not bool(self._is_broken.any()):
            return
        for number in step.piece[self._is_broken.cpu()].unique().tolist():
            step.pieces[number].request.is_broken = True

    def rows(self, request_ids: Sequence[str], count: str) -> tuple[np.ndarray, list[list[int]]]:
        """Features of requests, (B, L, F), and of each: tokens counted, of the prompt, read.

        Raises
        ------
        NothingRecordedError
            One is not known, or has no features; says why.
        NonFiniteFeaturesError
            The forward pass overflowed in one.
        """
        halves = HALVES[count]
        packed, numbers = [], []
        for index, request_id in enumerate(request_ids):
            request, values = self._request(request_id)
            numbers.append([self._n_counted(request_id, request, halves, index), request.n_prompt])
            packed.append(values)
        if not packed:
            return np.empty((0, *self.schema.shape), np.float32), []
        return self.running.features(packed, halves), numbers

    def _n_counted(
        self,
        request_id: str,
        request: Request,
        halves: Sequence[int],
        index: int,
        *,
        judges: bool = False,
    ) -> int:
        """Tokens that a row would be over, if there can be one."""
        told = f"request '{request_id[:80]}' has no features: "
        if request.trouble:
            raise NothingRecordedError(told + request.trouble)
        if request.is_broken:
            raise NonFiniteFeaturesError("the forward pass overflowed", index=index)
        n_prompt = min(request.n_read, request.n_prompt)
        n_counted = {PROMPT: n_prompt, ANSWER: request.n_answer}
        n_tokens = sum(n_counted[half] for half in halves)
        if n_tokens == 0:
            raise NothingRecordedError(
                told + "none of these tokens was read",
                hint="the last token of an answer never is; one of a single token has no row",
            )
        if (
            not judges
            and self._of_attention
            and not (request.has_dimension and (request.n_answer == 0 or ANSWER not in halves))
        ):
            raise NothingRecordedError(
                told + "intrinsic_dimension needs all keys in one step, and it was read in several",
                hint='count="prompt" with a prompt that one step reads whole '
                "(--max-num-batched-tokens), or features without intrinsic_dimension",
            )
        return n_tokens


def n_layers_of(worker: Any) -> int:
    """Layers of the model that a worker runs."""
    return int(worker.vllm_config.model_config.hf_text_config.num_hidden_layers)


def provenance_of(worker: Any, wanted: Wanted) -> Provenance:
    """What the features of a worker's requests come from."""
    served = describe(worker)
    plan = Plan(
        tuple(wanted.layers),
        FeatureSelection(tuple(wanted.features), wanted.n_blocks),
        served.max_positions,
        wanted.dimension_rule,
        wanted.dimension_threshold,
        allow_special_tokens=True,
    )
    return plan.provenance(cast(Any, served), model=served.name, attention=served.attention)


def describe(worker: Any) -> ServedModel:
    """Say what a worker runs; refuses what cannot be watched, as :class:`Watch` does."""
    config = worker.vllm_config
    require_visible(config)
    model = worker.model_runner.get_model()
    gates = gates_of(model, n_layers_of(worker))
    attention = attentions_of(model, gates[:1])[0]
    return ServedModel(
        name=str(config.model_config.model),
        model_type=str(config.model_config.hf_text_config.model_type),
        n_layers=len(gates),
        n_hyperplanes=min(width_of(gate) for gate in gates),
        dtype=str(config.model_config.dtype).removeprefix("torch."),
        max_positions=int(config.model_config.max_model_len),
        attention=f"vllm {type(getattr(attention, 'impl', attention)).__name__}",
    )
