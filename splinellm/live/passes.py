"""What the forward passes of a watched model leave, one after the other."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from splinellm.backbone.attendance import MISSED_HINT, Attendance
from splinellm.backbone.decoder import Decoder
from splinellm.backbone.hooks import Hook
from splinellm.backbone.reduction import PromptReduction, PromptState
from splinellm.errors import NothingRecordedError
from splinellm.live.arguments import Call, reader_of
from splinellm.live.conditions import Conditions
from splinellm.live.generation import CacheFollower
from splinellm.live.padding import Places, real_by_mask
from splinellm.live.progress import Progress
from splinellm.live.threads import Turns

_FROM_THE_START = "enter the recorder first, then run the model from the start"
_CROSSED = "two threads ran the model at the same time"
_CROSSED_HINT = "run a watched model in one thread at a time"


class Passes:
    """State of the texts that are in a model's cache; listens to ``generate``.

    Whatever cannot be recorded is forgotten with its reason, so that no table is older than the
    last forward pass.

    Parameters
    ----------
    decoder : Decoder
        What is watched.
    reduction : PromptReduction
        What its layers show their values to.

    Attributes
    ----------
    attendance : Attendance
        To be told which parts are wanted.
    progress : Progress
        How far the texts have been read.
    conditions : Conditions
        What the passes were like.
    """

    def __init__(self, decoder: Decoder, reduction: PromptReduction) -> None:
        self._decoder = decoder
        # Not the base model: OPT's head calls the decoder inside of it.
        self._reader = decoder.architecture.owner_of_layers(decoder.model)
        self._read = reader_of(self._reader)
        self._reduction = reduction
        self.attendance = Attendance()
        self.progress = Progress()
        self.conditions = Conditions(
            self._reader,
            lambda: decoder.dtype,
            wants_distance=reduction.schema.selection.needs_distance,
        )
        self._places = Places(decoder.architecture.model_type)
        self._turns = Turns()
        self._cache = CacheFollower(self._on_rows, self._on_cut)
        self._state: PromptState | None = None
        self._trouble, self._hint = "no forward pass was recorded", _FROM_THE_START
        self._is_recorded = False
        self._call: Call | None = None  # of the pass that goes on
        self._n_begun = 0

    def watch(self, model: nn.Module) -> ExitStack:
        """Hear of passes of the decoder, and of calls of the model around it; ends when closed."""
        with ExitStack() as stack:
            before = self._reader.register_forward_pre_hook(Hook(self._before), with_kwargs=True)
            stack.callback(before.remove)
            after = self._reader.register_forward_hook(Hook(self._after), always_call=True)
            stack.callback(after.remove)
            if model is not self._reader:
                stack.enter_context(self._watch_from_outside(model))
            stack.callback(self._cache.release)
            return stack.pop_all()

    def _watch_from_outside(self, model: nn.Module) -> ExitStack:
        """Notice calls of the whole model in which our hooks on what is watched do not run."""
        n_before = list[int]()

        def before(_module: nn.Module, _args: tuple[Any, ...]) -> None:
            n_before.append(self._n_begun)

        def after(_module: nn.Module, _args: tuple[Any, ...], _output: Any) -> None:
            if n_before and n_before.pop() == self._n_begun:
                self._forget("the model ran, but its layers were not seen", hint=MISSED_HINT)

        with ExitStack() as stack:
            stack.callback(model.register_forward_pre_hook(Hook(before)).remove)
            stack.callback(model.register_forward_hook(Hook(after), always_call=True).remove)
            return stack.pop_all()

    def recorded(self) -> PromptState:
        """State of all that was read.

        Raises
        ------
        NothingRecordedError
            Says why there is none.
        """
        if self._turns.is_anothers:
            raise NothingRecordedError(
                "another thread has run the model since this one did",
                hint="ask in that thread, or when it has ended",
            )
        if self._state is None:
            raise NothingRecordedError(self._trouble, hint=self._hint)
        return self._state

    def _forget(self, trouble: str, hint: str = _FROM_THE_START) -> None:
        self._state = None
        self._trouble, self._hint = trouble, hint

    def on_start(self) -> None:
        """Take note of a call of ``generate``, or refuse it: an encoder has no running features.

        Raises
        ------
        PrefixUnavailableError
            Names the architecture.
        """
        self._decoder.architecture.require_generation()
        if self._turns.begin("generate"):
            self.progress.on_start()
        else:
            self._forget(_CROSSED, hint=_CROSSED_HINT)

    def on_decision(self, is_done: Tensor) -> None:
        """End the rows that ``generate`` is done with."""
        if not self._turns.are_crossed:
            self.progress.on_decision(is_done)

    def on_end(self) -> None:
        """Take note that ``generate`` has returned."""
        if self._turns.end("generate"):
            self.progress.on_end()

    @torch.no_grad()
    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._n_begun += 1
        self._is_recorded = False
        if not self._turns.begin("pass"):
            return self._forget(_CROSSED, hint=_CROSSED_HINT)
        past, progress = self._state, self.progress
        self._forget("the last forward pass did not come to its end")
        self._call = call = self._read(args, kwargs)
        if call is None:
            return self._forget("the last forward pass was given no tokens")
        goes_on = (
            call.cache is not None
            and past is not None
            and self._cache.follows(call.cache)
            and (call.n_rows, call.n_cached) == (progress.n_rows, progress.n_columns)
        )
        if not (goes_on or call.n_cached == 0):
            self._cache.release()
            return self._forget(
                f"the model went on from {call.n_cached} cached tokens of {call.n_rows} rows that "
                "were not recorded"
            )
        if not goes_on:
            past = None
            self._cache.release()
            self._decoder.expect_changes(self._reduction.schema.layers)
        real = real_by_mask(call.mask, call.n_rows, call.n_cached, call.n_new, call.device)
        if not self._is_one_text(call, real, anew=past is None):
            return None
        counts = progress.read(call.n_rows, call.n_new, call.n_cached, call.device, goes_on=goes_on)
        real = real & counts
        last = self._decoder.architecture.counted_token(real)
        self._reduction.begin(real, last, past)
        self.conditions.begin(call.device, anew=past is None)
        self.attendance.begin()
        self._is_recorded = True
        return None

    def _is_one_text(self, call: Call, real: Tensor, *, anew: bool) -> bool:
        """Whether every row is a text; if not, nothing is recorded."""
        row = self._places.read(
            real,
            call.n_cached,
            call.positions,
            has_mask=call.mask is not None,
            anew=anew,
            kind=self._decoder.positions_among(call.ids, real),
        )
        if row is None and not call.has_borders:
            return True
        where = "the rows hold" if row is None else f"row {row} holds"
        self._forget(
            f"{where} several texts behind each other, by the positions that were given",
            hint="pass one text in a row, padded, with an attention_mask",
        )
        return False

    @torch.no_grad()
    def _after(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        is_recorded = self._is_recorded and self.attendance.is_here
        self.attendance.end()
        if not self._turns.end("pass"):
            return self._forget(_CROSSED, hint=_CROSSED_HINT)
        if not is_recorded or output is None:  # it failed
            return None
        self._is_recorded = False
        if (trouble := self.attendance.trouble()) is not None:
            return self._forget(trouble, hint=MISSED_HINT)
        self.conditions.end(self.attendance.dtypes)
        self._state = self._reduction.state()
        call, self._call = self._call, None
        made = output.values() if isinstance(output, dict) else output
        caches = (None if call is None else call.cache, *made)
        if (cache := next((it for it in caches if isinstance(it, Cache)), None)) is not None:
            self._cache.follow(cache)
        return None

    def _on_rows(self, rows: Tensor) -> None:
        if self._state is not None:
            self._state = self._state[rows.to(self._state.n_tokens.device)]
        self.progress.select(rows)
        self._places.select(rows)

    def _on_cut(self, n_columns: int) -> None:
        if not self.progress.cut(n_columns):
            self._forget("tokens that were recorded have been taken out of the cache")
