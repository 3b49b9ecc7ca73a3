"""A beginning that many prompts share: read once, continued many times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from splinellm.backbone.reduction import PromptState


@dataclass(frozen=True)
class Beginning:
    """What must be known of the shared tokens to read on from there.

    Parameters
    ----------
    keys_and_values : Cache
        Of every layer that was read; never written to.
    state : PromptState
        Statistics of the shared tokens.
    """

    keys_and_values: Cache
    state: PromptState


def shared_cache(read: DynamicCache) -> Cache:
    """Make the cache of one prompt into one that any number of continuations can use."""
    return Cache(layers=[_SharedLayer(cast(DynamicLayer, layer)) for layer in read.layers])


class _SharedLayer(DynamicLayer):
    """Keys and values of one prompt, put before those of every row, and kept as they are."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = layer.keys, layer.values
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Put the shared tokens before each row's own."""
        return _joined(self.keys, key_states), _joined(self.values, value_states)


def _joined(shared: Tensor | None, own: Tensor) -> Tensor:
    if shared is None:
        raise RuntimeError("a beginning was used that has not been read")
    return torch.cat([shared.expand(len(own), -1, -1, -1), own], dim=-2)
