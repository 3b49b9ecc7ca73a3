"""Watch a model's gates and attention during a forward pass.

The gate is seen by a hook, placed as its architecture needs it; the attention through
:mod:`splinellm.backbone.attention`. After the last wanted layer the forward pass is cut short: no
later layer, final norm or language-model head is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from splinellm.backbone.architectures import Architecture
from splinellm.backbone.attendance import MISSED_HINT, Attendance, turns_of
from splinellm.backbone.attention import listen, observed_attention, observed_with
from splinellm.backbone.block_reduction import BlockReduction
from splinellm.backbone.eager import has_compiled_parts, run_eagerly
from splinellm.backbone.gates import Gate
from splinellm.backbone.hooks import Hook
from splinellm.backbone.reduction import PromptReduction, PromptState, Reduction
from splinellm.backbone.shared_prefix import Beginning, Pair, own_pairs, shared_cache
from splinellm.errors import ConfigurationError, NothingRecordedError
from splinellm.geometry import Attended, real_tokens


def observe(
    model: PreTrainedModel,
    architecture: Architecture,
    reduction: Reduction,
    attendance: Attendance,
    *,
    implementation: str,
    stops: bool,
) -> ExitStack:
    """Show the gates and the attention of a model to a reduction.

    Parameters
    ----------
    model : PreTrainedModel
        Base model, without its head.
    architecture : Architecture
        Where its parts are.
    reduction : Reduction
        What is made of the parts' values; its schema says which layers are wanted.
    attendance : Attendance
        Is told what is wanted, and lets the reduction hear it in the passes that it is told of.
    implementation : {"sdpa", "eager"}
        See :func:`splinellm.backbone.attention.observed_attention`.
    stops : bool
        Whether the forward pass is cut short after the last wanted layer.

    Returns
    -------
    ExitStack
        Ends it when closed. If this function fails, nothing is left behind.

    Raises
    ------
    ConfigurationError
        The model is being observed already, or has lost wanted layers.
    AttentionUnavailableError
        The dimension is wanted, and the attention cannot be seen.
    """
    if model in _observed:
        raise ConfigurationError(
            f"the {type(model).__name__} is being watched already",
            hint="watch it once, with all the features that are wanted",
        )
    schema = reduction.schema
    wants_attention = schema.selection.needs_attention
    layers = architecture.decoder_layers(model)
    if len(layers) <= schema.layers[-1]:
        raise ConfigurationError(
            f"layer {schema.layers[-1]} is wanted, and the {type(model).__name__} has "
            f"{len(layers)} layers now",
            hint="ask anew for the layers of a model that was cut",
        )
    if wants_attention:
        architecture.require_attention()
    if schema.selection.needs_norms:
        for index in schema.layers:
            architecture.gate_of(layers[index]).expect_changes()
    if stops:  # a pass follows at once; a model of the user's may be changed until one does
        reduction.prepare()
    with ExitStack() as stack:
        _observed.add(model)
        stack.callback(_observed.discard, model)
        if wants_attention:
            owner = architecture.owner_of_layers(model)
            stack.enter_context(observed_attention(owner, implementation))
        parts = _Parts(model, architecture, reduction, attendance, implementation, stops=stops)
        stack.callback(parts.close)
        parts.watch()
        owner = architecture.owner_of_layers(model)
        before = owner.register_forward_pre_hook(Hook(lambda *_: parts.watch()))
        stack.callback(before.remove)
        return stack.pop_all()


_observed: WeakSet[PreTrainedModel] = WeakSet()


class _Parts:
    """The watched gates and attentions of a model; all anew if one was replaced since."""

    def __init__(
        self,
        model: PreTrainedModel,
        architecture: Architecture,
        reduction: Reduction,
        attendance: Attendance,
        implementation: str,
        *,
        stops: bool,
    ) -> None:
        self._implementation = implementation
        self._model, self._architecture, self._reduction = model, architecture, reduction
        self._attendance = attendance
        self._wanted = reduction.schema.layers
        self._wants_gate = reduction.schema.selection.needs_gate
        self._wants_inputs = reduction.schema.selection.needs_inputs
        self._wants_attention = reduction.schema.selection.needs_attention
        self._stops = stops
        self._watched: tuple[list[Any], list[Any]] | None = None
        self._ends = ExitStack()

    def watch(self) -> None:
        """Watch the parts that the model has now."""
        layers = self._architecture.decoder_layers(self._model)
        gates, attentions = dict[int, Gate](), dict[int, nn.Module]()
        for index in self._wanted:
            # A layer that has gone since will not be seen, which the pass finds out.
            with suppress(IndexError, AttributeError) if self._watched else nullcontext():
                if self._wants_gate:
                    gates[index] = self._architecture.gate_of(layers[index])
                if self._wants_attention:
                    attentions[index] = self._architecture.attention_of(layers[index])
        now = [*gates.items()], [*attentions.items()]
        if now == self._watched:
            return
        self.close()
        turns = turns_of({index: gate.entrance for index, gate in gates.items()}, layers)
        for index, gate in gates.items():
            ear = _GateEar(self._reduction, index, self._stops and index == self._wanted[-1])
            hear = self._attendance.expects("gate", index, ear, turns[index])
            self._ends.callback(gate.watch(hear, shows_inputs=self._wants_inputs))
        self._listen(attentions, layers)
        self._watched = now

    def _listen(self, attentions: dict[int, nn.Module], layers: Iterable[nn.Module]) -> None:
        ears = dict[nn.Module, list[Callable[[Attended], None]]]()
        turns = turns_of(attentions, layers)
        owner = self._architecture.owner_of_layers(self._model)
        for index, attention in attentions.items():
            stop = self._stops and not self._wants_gate and index == self._wanted[-1]
            ear = _AttentionEar(self._reduction, index, stop)
            hear = self._attendance.expects("attention", index, ear, turns[index])
            for part in attention.modules():  # compiled, it is inside of what stands for it
                ears.setdefault(part, []).append(hear)
                self._ends.enter_context(observed_with(owner, part, self._implementation))
        for part, its_ears in ears.items():
            self._ends.callback(listen(part, _AllEars(its_ears)))

    def close(self) -> None:
        """End it."""
        self._watched = None
        self._ends.close()


@dataclass(frozen=True)
class BlocksRead:
    """What became of B prompts that were read in blocks of tokens.

    Parameters
    ----------
    features : Tensor, shape (B, L, F) or (B, T, L, F), float32
        See :meth:`Recorder.read`.
    states : list of PromptState
        After each block, of all prompts; none where rows stand for tokens.
    keys_and_values : list of (Tensor, Tensor)
        Of the tokens read, by layer, (B, H_kv, T, D) each.
    """

    features: Tensor
    states: list[PromptState]
    keys_and_values: list[Pair]


class Recorder:
    """Context manager that computes the features of the prompts its model reads.

    Attaches on entry and always detaches on exit. A model has one recorder, in one thread.

    Parameters
    ----------
    model : PreTrainedModel
        Base model, without its head.
    architecture : Architecture
        Where its parts are.
    reduction : Reduction
        What is made of the parts' values; its schema says which layers are wanted.
    """

    def __init__(
        self, model: PreTrainedModel, architecture: Architecture, reduction: Reduction
    ) -> None:
        self._model = model
        self._architecture = architecture
        self._reduction = reduction
        self._attendance = Attendance()
        self._attached = ExitStack()

    def __enter__(self) -> Self:
        self._attendance = Attendance()
        with ExitStack() as stack:
            stack.enter_context(
                observe(
                    self._model,
                    self._architecture,
                    self._reduction,
                    self._attendance,
                    implementation=self._architecture.attention_implementation,
                    stops=True,
                )
            )
            if has_compiled_parts(self._model):
                stack.enter_context(run_eagerly(self._model))
            self._attached = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._attached.close()

    def read(
        self,
        input_ids: Tensor,
        lengths: Tensor,
        beginning: Beginning | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Run the model over right-padded prompts and return their features.

        Parameters
        ----------
        input_ids : Tensor, shape (B, T), int64
            Token ids; any valid id at padding, which real tokens never see.
        lengths : Tensor, shape (B,), int64
            Real tokens of each prompt, at least 1.
        beginning : Beginning, optional
            Of :meth:`read_beginning`, for rows that stand for prompts: tokens that come before
            those given, in every prompt.
        counted : Tensor, shape (B, T), bool, optional
            Real tokens that the features of prompts are over; all of them by default. The model
            reads the others as well.

        Returns
        -------
        Tensor, shape (B, L, F), or (B, T, L, F) for rows that stand for tokens, float32
            In the schema's order, on the CPU.

        Raises
        ------
        NothingRecordedError
            The model did not show every wanted layer once.
        """
        real = real_tokens(lengths, input_ids.shape[1])
        shown, last = self._counted(real, counted)
        if beginning is None:
            self._reduction.begin(shown, last)
            self._forward(input_ids=input_ids, **self._architecture.arguments(real))
        else:
            cast(PromptReduction, self._reduction).begin(shown, last, beginning.state)
            self._forward(
                input_ids=input_ids, past_key_values=beginning.keys_and_values, use_cache=True
            )
        return self._reduction.result()

    def read_blocks(
        self,
        input_ids: Tensor,
        lengths: Tensor,
        beginning: Beginning | None = None,
        counted: Tensor | None = None,
    ) -> BlocksRead:
        """Read prompts, or what follows a beginning, and keep what a later text can begin with.

        For rows that stand for tokens, or for a
        :class:`splinellm.backbone.block_reduction.BlockReduction`.

        Parameters
        ----------
        input_ids, lengths, beginning, counted
            See :meth:`read`.
        """
        reduction = self._reduction
        real = real_tokens(lengths, input_ids.shape[1])
        shown, last = self._counted(real, counted)
        if isinstance(reduction, BlockReduction):
            reduction.begin(shown, last, None if beginning is None else beginning.state)
        else:
            reduction.begin(shown, last)
        cache = DynamicCache() if beginning is None else beginning.continued()
        self._forward(input_ids=input_ids, past_key_values=cache, use_cache=True)
        if isinstance(reduction, BlockReduction):
            states = reduction.states()
            return BlocksRead(reduction.features(states[-1]), states, own_pairs(cache))
        return BlocksRead(reduction.result(), [], own_pairs(cache))

    def _counted(self, real: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens that features are over, (B, T), and whose attention is the prompts', (B,)."""
        of_tokens = not isinstance(self._reduction, PromptReduction)
        if counted is None or of_tokens:  # a token's own numbers are over itself
            return real, self._architecture.counted_token(real)
        # An encoder's is the first of all, whatever counts: [CLS] or the like.
        among = real if self._architecture.is_encoder else counted
        return counted, self._architecture.counted_token(among)

    def read_beginning(self, input_ids: Tensor, counted: Tensor | None = None) -> Beginning:
        """Read tokens that several prompts start with; for rows that stand for prompts.

        Parameters
        ----------
        input_ids : Tensor, shape (1, T), int64
            Token ids, without padding.
        counted : Tensor, shape (1, T), bool, optional
            See :meth:`read`.
        """
        reduction = cast(PromptReduction, self._reduction)
        real = torch.ones_like(input_ids, dtype=torch.bool)
        reduction.begin(*self._counted(real, counted))
        cache = DynamicCache()  # of full length, whatever window the layers have
        self._forward(input_ids=input_ids, past_key_values=cache, use_cache=True)
        return Beginning(shared_cache(cache), reduction.state())

    def _forward(self, **inputs: Any) -> None:
        self._attendance.begin()
        try:
            with suppress(_ForwardComplete):
                self._model(**inputs)
        finally:
            self._attendance.end()
        if (trouble := self._attendance.trouble()) is not None:
            raise NothingRecordedError(trouble, hint=MISSED_HINT)


class _ForwardComplete(Exception):  # noqa: N818 - control flow, not an error
    """Everything wanted has been seen."""


@dataclass(frozen=True)
class _GateEar:
    reduction: Reduction
    layer: int
    stop: bool

    def __call__(self, *shown: Tensor) -> None:
        self.reduction.on_gate(self.layer, *(it.detach() for it in shown))
        if self.stop:
            raise _ForwardComplete


@dataclass(frozen=True)
class _AttentionEar:
    reduction: Reduction
    layer: int
    stop: bool

    def __call__(self, attended: Attended) -> None:
        self.reduction.on_attention(self.layer, attended.detach())
        if self.stop:
            raise _ForwardComplete


@dataclass(frozen=True)
class _AllEars:
    ears: list[Callable[[Attended], None]]

    def __call__(self, attended: Attended) -> None:
        for ear in self.ears:
            ear(attended)
