"""What a decoder was called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

_BORDERS = ("cu_seq_lens_q", "cu_seq_lens_k", "cu_seqlens", "seq_idx")
"""Arguments that say where texts begin that lie behind each other in one row."""


@dataclass(frozen=True)
class Call:
    """Arguments of a forward pass, as far as they matter here.

    Parameters
    ----------
    n_rows, n_new, n_cached : int
        B, T, and columns in the cache.
    cache : Cache, optional
        Of keys and values.
    mask : Tensor, dict or None
        See :func:`splinellm.live.padding.real_by_mask`.
    positions : Tensor of shape (B, T) or (1, T), or None
        Positions of the tokens, if they were given.
    device : torch.device
        Of the tokens.
    ids : Tensor of shape (B, T), optional
        Token ids; None where embeddings were given.
    has_borders : bool
        Whether the rows are said to hold several texts.
    """

    n_rows: int
    n_new: int
    n_cached: int
    cache: Cache | None
    mask: Any
    positions: Tensor | None
    device: torch.device
    ids: Tensor | None
    has_borders: bool


def reader_of(decoder: nn.Module) -> Callable[..., Call | None]:
    """Make a function that reads the arguments of a decoder's calls; None where no token is given.

    Parameters
    ----------
    decoder : Module
        Part that holds the layers. Its class says what its arguments are called: others may have
        put something around its ``forward``.
    """
    signature = inspect.signature(type(decoder).forward)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        given: dict[str, Any] = signature.bind_partial(decoder, *args, **kwargs).arguments
        given.update(given.pop("kwargs", {}))
        ids, embedded = given.get("input_ids"), given.get("inputs_embeds")
        tokens = embedded if ids is None else ids
        if not isinstance(tokens, Tensor) or tokens.ndim < 2:
            return None  # the model says what is wrong with it
        cache = given.get("past_key_values")
        cache = cache if isinstance(cache, Cache) else None
        positions = given.get("position_ids")
        return Call(
            n_rows=tokens.shape[0],
            n_new=tokens.shape[1],
            n_cached=0 if cache is None else int(cache.get_seq_length()),
            cache=cache,
            mask=given.get("attention_mask"),
            positions=positions if isinstance(positions, Tensor) and positions.ndim == 2 else None,
            device=tokens.device,
            ids=ids if isinstance(ids, Tensor) else None,
            has_borders=any(given.get(name) is not None for name in _BORDERS),
        )

    return read
