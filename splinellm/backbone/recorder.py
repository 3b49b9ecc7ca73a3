"""Watch a model's gates and attention during a forward pass.

The gate is seen by a hook, placed as its architecture needs it. The attention is seen through
transformers' attention interface: a registered function shows queries and keys (after the position
embedding) to the recorder, then lets the library's own SDPA compute the output, or the model's own
eager function where it has no SDPA. After the last wanted layer the forward pass is cut short: no
later layer, final norm or language-model head is computed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from splinellm.backbone.architectures import Architecture
from splinellm.backbone.beginning import Beginning, shared_cache
from splinellm.backbone.reduction import PromptReduction, Reduction
from splinellm.errors import AttentionUnavailableError
from splinellm.geometry import real_tokens

RECORDED_ATTENTION = "splinellm_sdpa"
"""Name of the recorded attention in transformers' registries; ``splinellm_eager`` for models that
cannot use SDPA (transformers looks for ``sdpa`` in the name)."""


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
        self._attached = ExitStack()

    def __enter__(self) -> Self:
        schema = self._reduction.schema
        wants_gate = schema.selection.needs_gate
        layers = self._architecture.decoder_layers(self._model)
        if schema.selection.needs_attention:
            self._architecture.require_attention()
        self._reduction.prepare()
        with ExitStack() as stack:  # undone at once if a later step fails
            if schema.selection.needs_attention:
                implementation = self._architecture.attention_implementation
                stack.enter_context(_recorded_attention(self._model, implementation))
            for index in schema.layers:
                is_last = index == schema.layers[-1]
                if schema.selection.needs_attention:
                    attention = self._architecture.attention_of(layers[index])
                    stop = is_last and not wants_gate
                    _ears[attention] = _AttentionEar(self._reduction, index, stop)
                    stack.callback(_ears.pop, attention, None)
                if wants_gate:
                    gate = self._architecture.gate_of(layers[index])
                    hook = _GateHook(self._reduction, index, is_last)
                    stack.callback(gate.watch(hook))
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
        self, input_ids: Tensor, lengths: Tensor, beginning: Beginning | None = None
    ) -> Tensor:
        """Run the model over right-padded prompts and return their features.

        Parameters
        ----------
        input_ids : Tensor, shape (B, T), int64
            Token ids; any valid id at padding. Attention is causal, so real tokens never see the
            padding to their right, and no padding mask is needed.
        lengths : Tensor, shape (B,), int64
            Real tokens of each prompt, at least 1.
        beginning : Beginning, optional
            Of :meth:`read_beginning`: tokens that come before those given, in every prompt. For
            rows that stand for prompts.

        Returns
        -------
        Tensor, shape (B, L, F), or (B, T, L, F) for rows that stand for tokens, float32
            In the schema's order, on the CPU.
        """
        real, last = real_tokens(lengths, input_ids.shape[1]), lengths - 1
        if beginning is None:
            self._reduction.begin(real, last)
            self._forward(input_ids=input_ids, use_cache=False)
        else:
            cast(PromptReduction, self._reduction).begin(real, last, beginning.state)
            self._forward(
                input_ids=input_ids, past_key_values=beginning.keys_and_values, use_cache=True
            )
        return self._reduction.result()

    def read_beginning(self, input_ids: Tensor) -> Beginning:
        """Read tokens that several prompts start with; for rows that stand for prompts.

        Parameters
        ----------
        input_ids : Tensor, shape (1, T), int64
            Token ids, without padding.
        """
        reduction = cast(PromptReduction, self._reduction)
        n_tokens = input_ids.shape[1]
        reduction.begin(torch.ones_like(input_ids, dtype=torch.bool), torch.tensor([n_tokens - 1]))
        cache = DynamicCache()  # of full length, whatever window the layers have
        self._forward(input_ids=input_ids, past_key_values=cache, use_cache=True)
        return Beginning(shared_cache(cache), reduction.state())

    def _forward(self, **inputs: Any) -> None:
        with suppress(_ForwardComplete):
            self._model(**inputs)


class _ForwardComplete(Exception):  # noqa: N818 - control flow, not an error
    """Everything wanted has been seen."""


@dataclass(frozen=True)
class _GateHook:
    reduction: Reduction
    layer: int
    stop: bool

    def __call__(self, h: Tensor) -> None:
        self.reduction.on_gate(self.layer, h)
        if self.stop:
            raise _ForwardComplete


@dataclass(frozen=True)
class _AttentionEar:
    reduction: Reduction
    layer: int
    stop: bool

    def hear(
        self,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None,
    ) -> None:
        self.reduction.on_attention(self.layer, query, key, mask, scaling, softcap)
        if self.stop:
            raise _ForwardComplete


# transformers calls the attention function with the module, not with anything of ours; the module
# leads to its ear. Weak, so that a dropped model is not kept alive.
_ears: WeakKeyDictionary[nn.Module, _AttentionEar] = WeakKeyDictionary()


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    _show(module, query, key, attention_mask, scaling, kwargs)
    output: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return output


def _attend_eagerly(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend with the model's own function, where SDPA cannot do what it does."""
    _show(module, query, key, attention_mask, scaling, kwargs)
    own = sys.modules[type(module).__module__].eager_attention_forward
    return own(module, query, key, value, attention_mask, scaling=scaling, **kwargs)[0], None


def _show(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    kwargs: dict[str, Any],
) -> None:
    if (ear := _ears.get(module)) is not None:
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        ear.hear(query, key, mask, factor, kwargs.get("softcap"))


_RECORDED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sdpa": (_attend, sdpa_mask),
    "eager": (_attend_eagerly, eager_mask),
}


@contextmanager
def _recorded_attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Route the model's attention through ours, and back again."""
    name = f"splinellm_{implementation}"
    attend, mask = _RECORDED[implementation]
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask)
    previous = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name
    model.set_attn_implementation(name)
    try:
        if model.config._attn_implementation != name:  # noqa: SLF001
            raise AttentionUnavailableError(
                f"the attention of {type(model).__name__} cannot be observed",
                hint="ask for features without intrinsic_dimension",
            )
        yield
    finally:
        model.set_attn_implementation(previous)
