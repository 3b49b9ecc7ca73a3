"""A beginning that many prompts share: read once, continued many times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    state : PromptState, optional
        Statistics of the shared tokens, for rows that stand for prompts.
    """

    keys_and_values: Cache
    state: PromptState | None = None

    @classmethod
    def of(cls, keys_and_values: Iterable[Pair], state: PromptState | None) -> Beginning:
        """Make one of the keys and values of each layer, (1, H_kv, T, D)."""
        return cls(Cache(layers=[_SharedLayer(*pair) for pair in keys_and_values]), state)

    def continued(self) -> Cache:
        """A cache for a single continuation, whose own keys and values are kept beside these."""
        layers = [cast(_SharedLayer, layer) for layer in self.keys_and_values.layers]
        return Cache(layers=[_ContinuedLayer(layer.keys, layer.values) for layer in layers])


Pair = tuple[Tensor, Tensor]
"""Keys and values of a layer, (B, H_kv, T, D) each."""


@dataclass(frozen=True)
class Stacked:
    """Keys and values of some tokens of one prompt, of all layers that are alike in one tensor.

    One tensor is sooner made, found and joined with others than one of each layer, and it takes
    less memory beside its numbers.

    Parameters
    ----------
    tensors : list of Tensor
        Of N layers' keys or values, (N, H_kv, T, D) each.
    places : tuple of tuple of int
        Which those are: a layer's keys are at twice its number, its values behind them.
    """

    tensors: list[Tensor]
    places: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, pairs: Iterable[Pair], row: int, begin: int, end: int) -> Stacked:
        """Copy some tokens of one row, which will not keep the others alive."""
        parts = [it[row, :, begin:end] for pair in pairs for it in pair]
        alike: dict[Any, list[int]] = {}
        for place, it in enumerate(parts):
            alike.setdefault((it.shape, it.dtype, it.device), []).append(place)
        tensors = [torch.stack([parts[place] for place in places]) for places in alike.values()]
        return cls(tensors, tuple(map(tuple, alike.values())))

    @staticmethod
    def joined(pieces: Sequence[Stacked]) -> list[Pair]:
        """Keys and values of all tokens of some pieces, by layer, (1, H_kv, T, D) each."""
        by_place: dict[int, Tensor] = {}
        of_pieces = zip(*(piece.tensors for piece in pieces), strict=True)
        for places, tensors in zip(pieces[0].places, of_pieces, strict=True):
            by_place.update(zip(places, torch.cat(tensors, dim=2)[:, None], strict=True))
        return [(by_place[i], by_place[i + 1]) for i in range(0, len(by_place), 2)]


def shared_cache(read: DynamicCache) -> Cache:
    """Make the cache of one prompt into one that any number of continuations can use."""
    return Cache(layers=[_SharedLayer(*pair) for pair in own_pairs(read)])


def own_pairs(read: Cache) -> list[Pair]:
    """Keys and values of the tokens that were read with a cache, not of those before them."""
    pairs = []
    for layer in cast(list[DynamicLayer], read.layers):
        own = layer.own if isinstance(layer, _ContinuedLayer) else (layer.keys, layer.values)
        pairs.append(cast(Pair, own))
    return pairs


class _SharedLayer(DynamicLayer):
    """Keys and values of one prompt, put before those of every row, and kept as they are."""

    def __init__(self, keys: Tensor | None, values: Tensor | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys, values
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Put the shared tokens before each row's own."""
        return _joined(self.keys, key_states), _joined(self.values, value_states)


class _ContinuedLayer(_SharedLayer):
    """The same, and what came behind is kept beside it."""

    own: Pair | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep each row's own tokens, and put the shared ones before them."""
        self.own = key_states, value_states
        return super().update(key_states, value_states)


def _joined(shared: Tensor | None, own: Tensor) -> Tensor:
    if shared is None:
        raise RuntimeError("a beginning was used that has not been read")
    return torch.cat([shared.expand(len(own), -1, -1, -1), own], dim=-2)
