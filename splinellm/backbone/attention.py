"""See queries and keys on their way into a model's attention.

transformers calls its attention through a registry of functions. While a model is observed, its
attention is a function of ours that shows queries and keys (after the position embedding) to a
listener, and then lets transformers' own SDPA compute the output, or the model's eager function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from splinellm.errors import AttentionUnavailableError
from splinellm.geometry import Attended


class Listener(Protocol):
    """Receives what one attention module attends with."""

    def __call__(self, attended: Attended) -> None:
        """Take queries and keys after the position embedding."""


def listen(attention: nn.Module, listener: Listener) -> Callable[[], None]:
    """Call `listener` whenever an attention module of an observed model runs.

    Returns
    -------
    callable
        Ends it.
    """

    def stop() -> None:
        _listeners.pop(attention, None)

    _listeners[attention] = listener
    return stop


# transformers calls the attention function with the module, not with anything of ours; the module
# leads to its listener. Weak, so that a dropped model is not kept alive.
_listeners: WeakKeyDictionary[nn.Module, Listener] = WeakKeyDictionary()


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
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
) -> tuple[Tensor, Tensor | None]:
    """Attend with the model's own function, where SDPA cannot do what it does."""
    _show(module, query, key, attention_mask, scaling, kwargs)
    modules = (sys.modules[kind.__module__] for kind in type(module).__mro__)
    own = next(
        it.eager_attention_forward for it in modules if hasattr(it, "eager_attention_forward")
    )
    output: tuple[Tensor, Tensor | None] = own(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return output


def _show(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    kwargs: dict[str, Any],
) -> None:
    if (listener := _listeners.get(module)) is not None:
        n_queries = query.shape[2]
        is_causal = bool(getattr(module, "is_causal", True))
        if is_causal and mask is None and 1 < n_queries < key.shape[2]:
            key = key[:, :, :n_queries]  # the rest of a static cache is empty; so does SDPA
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        softcap = kwargs.get("softcap")
        listener(Attended(query, key, factor, mask, softcap, is_causal=is_causal))


_OBSERVED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sdpa": (_attend, sdpa_mask),
    "eager": (_attend_eagerly, eager_mask),
}


@contextmanager
def observed_attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Route a model's attention through ours, and back again.

    Parameters
    ----------
    model : PreTrainedModel
        Anything that holds the layers.
    implementation : {"sdpa", "eager"}
        What computes the attention's output. Ours goes by the name ``splinellm_sdpa`` or
        ``splinellm_eager``, since transformers looks for ``sdpa`` in the name.

    Raises
    ------
    AttentionUnavailableError
        The model does not take another attention.
    """
    unavailable = AttentionUnavailableError(
        f"the attention of {type(model).__name__} cannot be observed",
        hint="ask for features without intrinsic_dimension",
    )
    if implementation not in _OBSERVED:
        raise unavailable
    name = f"splinellm_{implementation}"
    attend, mask = _OBSERVED[implementation]
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask)
    previous = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name
    model.set_attn_implementation(name)
    try:
        if model.config._attn_implementation != name:  # noqa: SLF001
            raise unavailable
        yield
    finally:
        model.set_attn_implementation(previous)


@contextmanager
def observed_with(
    model: PreTrainedModel, attention: nn.Module, implementation: str
) -> Iterator[None]:
    """Route one attention as its observed model's, where it came with a configuration of its own.

    Parameters
    ----------
    model : PreTrainedModel
        See :func:`observed_attention`, which goes on meanwhile.
    attention : Module
        Of a layer that may be from another model.
    implementation : {"sdpa", "eager"}
        What the other model's attention is computed by.
    """
    own: Any = vars(attention).get("config")
    if getattr(own, "_attn_implementation", None) != implementation:
        yield
        return
    own._attn_implementation = model.config._attn_implementation  # noqa: SLF001 - no public name
    try:
        yield
    finally:
        own._attn_implementation = implementation  # noqa: SLF001
