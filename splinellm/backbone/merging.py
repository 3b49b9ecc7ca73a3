"""How the numbers of tokens become columns: of a prompt, of its prefixes, of the tokens themselves.

All layers at once: L layers, B prompts, T tokens, C columns of a statistic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from splinellm import geometry
from splinellm.geometry import Moments
from splinellm.statistics import Statistic

Columns = tuple[tuple[str, ...], Tensor]
"""Names, empty for what nobody asks for, and values, shape (L, B, C) or (L, B, T, C)."""
Widths = Callable[[], Sequence[int]]
"""Gives the number of hyperplanes K of each of the L layers; only called for counts."""


class Merged(Protocol):
    """What must be known of the tokens of prompts to go on from there, (L, B)."""

    def followed_by(self, later: Any) -> Self:
        """Both pieces together; a single past may be followed by many continuations."""

    def __getitem__(self, index: Any) -> Self:
        """Select from (L, B)."""


class Merging(ABC):
    """What is made of a statistic's numbers per token.

    Parameters
    ----------
    statistic : Statistic
        Its entry.
    widths : callable
        See :data:`Widths`.
    """

    def __init__(self, statistic: Statistic, widths: Widths) -> None:
        self._statistic = statistic
        self._widths = widths

    def keep(self, values: Tensor, _real: Tensor, /) -> Tensor:
        """What prompts keep of some layers' numbers (L, B, T, ...) until all layers are there."""
        return values

    @abstractmethod
    def merge(self, kept: Tensor, real: Tensor) -> Merged:
        """Merge what was kept of all layers, (L, B, ...), where tokens (B, T) are real."""

    @abstractmethod
    def merge_pieces(self, kept: Tensor, piece: Tensor, n_pieces: int) -> Merged:
        """Merge numbers (L, N, ...) of tokens of P texts that lie behind each other.

        See :meth:`splinellm.geometry.Moments.of_pieces`; gives (L, P).
        """

    @abstractmethod
    def nothing(self, n_layers: int, n_rows: int) -> Merged:
        """What is known where no token was read, (L, B)."""

    @abstractmethod
    def of_prompts(self, merged: Any) -> Columns:
        """Columns of prompts."""

    @abstractmethod
    def of_prefixes(self, values: Tensor) -> Columns:
        """Columns of every prefix, from the numbers of all tokens (L, B, T, ...)."""

    def of_tokens(self, values: Tensor) -> Columns:
        """Columns of every token, from the numbers of all (L, B, T, ...)."""
        return self._statistic.token_columns, values[..., None]


def merging_of(statistic: Statistic, widths: Widths) -> Merging:
    """Choose what the statistic's entry asks for."""
    merges = set(statistic.columns.values())
    if merges == {"share"}:
        return _Shares(statistic, widths)
    return (_Last if merges == {"last"} else _Moments)(statistic, widths)


class _Moments(Merging):
    """Mean, minimum, maximum, standard deviation."""

    def __init__(self, statistic: Statistic, widths: Widths) -> None:
        super().__init__(statistic, widths)
        names = {merge: name for name, merge in statistic.columns.items()}
        self._names = tuple(names.get(merge, "") for merge in ("mean", "min", "max", "std"))

    def merge(self, kept: Tensor, real: Tensor) -> Moments:
        return Moments.of(kept, real)

    def merge_pieces(self, kept: Tensor, piece: Tensor, n_pieces: int) -> Moments:
        return Moments.of_pieces(kept, piece, n_pieces)

    def nothing(self, n_layers: int, n_rows: int) -> Moments:
        return Moments.nothing(n_layers, n_rows)

    def of_prompts(self, merged: Moments) -> Columns:
        return self._names, merged.summary()

    def of_prefixes(self, values: Tensor) -> Columns:
        return self._names, geometry.running_summary(values)


@dataclass(frozen=True)
class _OfLast:
    """Numbers of the last token (L, B), and who has read any, (B,) or (L, B)."""

    values: Tensor
    has_read: Tensor

    def followed_by(self, later: _OfLast) -> _OfLast:
        values = later.values.where(later.has_read, self.values)
        return _OfLast(values, self.has_read | later.has_read)

    def __getitem__(self, index: Any) -> _OfLast:
        return _OfLast(self.values[index], self.has_read.expand_as(self.values)[index])


class _Last(Merging):
    """The number of the last token: all that is kept of a prompt, (L, B)."""

    def merge(self, kept: Tensor, real: Tensor) -> _OfLast:
        return _OfLast(kept, real.any(dim=-1))

    def merge_pieces(self, kept: Tensor, piece: Tensor, n_pieces: int) -> _OfLast:  # noqa: ARG002
        """Take what was computed of each piece's last token, (L, P); NaN where it was not."""
        return _OfLast(kept, ~kept.isnan())

    def nothing(self, n_layers: int, n_rows: int) -> _OfLast:
        shape = (n_layers, n_rows)
        return _OfLast(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool))

    def of_prompts(self, merged: _OfLast) -> Columns:
        return self.of_prefixes(merged.values)

    def of_prefixes(self, values: Tensor) -> Columns:
        return tuple(self._statistic.columns), values[..., None]


@dataclass(frozen=True)
class _Counts:
    """Hyperplanes counted over all tokens (L, B, C), and of how many tokens, (B,) or (L, B)."""

    counts: Tensor
    n_tokens: Tensor

    def followed_by(self, later: _Counts) -> _Counts:
        return _Counts(self.counts + later.counts, self.n_tokens + later.n_tokens)

    def __getitem__(self, index: Any) -> _Counts:
        return _Counts(self.counts[index], self.n_tokens.expand(self.counts.shape[:2])[index])


class _Shares(Merging):
    """Counts in each of C blocks of hyperplanes, by the blocks' sizes."""

    def __init__(self, statistic: Statistic, widths: Widths) -> None:
        super().__init__(statistic, widths)
        (self._n_blocks,) = statistic.parameters

    def keep(self, values: Tensor, real: Tensor, /) -> Tensor:
        return values.where(real[..., None], 0.0).sum(dim=2)

    def merge(self, kept: Tensor, real: Tensor) -> _Counts:
        return _Counts(kept, real.sum(dim=-1))

    def merge_pieces(self, kept: Tensor, piece: Tensor, n_pieces: int) -> _Counts:
        n_tokens = torch.bincount(piece, minlength=n_pieces).to(torch.float32)
        if n_pieces == len(piece):
            return _Counts(kept, n_tokens)
        sums = kept.new_zeros((len(kept), n_pieces, kept.shape[-1]))
        return _Counts(sums.index_add_(1, piece, kept), n_tokens)

    def nothing(self, n_layers: int, n_rows: int) -> _Counts:
        shape = (n_layers, n_rows)
        return _Counts(torch.zeros((*shape, self._n_blocks)), torch.zeros(shape))

    def of_prompts(self, merged: _Counts) -> Columns:
        return self._shares(merged.counts, merged.n_tokens)

    def of_prefixes(self, values: Tensor) -> Columns:
        # Whole numbers: float64 counts them exactly, whatever the length.
        n_tokens = torch.ones(values.shape[2], device=values.device).cumsum(dim=0)
        return self._shares(values.double().cumsum(dim=2), n_tokens)

    def of_tokens(self, values: Tensor) -> Columns:
        if max(self._widths()) == self._n_blocks:  # each hyperplane is a block: 0 or 1 of one
            return tuple(self._statistic.columns), values
        return self._shares(values)

    def _shares(self, counts: Tensor, n_tokens: Tensor | None = None) -> Columns:
        """Counts (L, B, ..., C), over `n_tokens` that broadcast to (L, B, ...); over one each."""
        sizes = _sizes_of(geometry.block_sizes, tuple(self._widths()), self._n_blocks)
        sizes = sizes.to(counts.device)
        sizes = sizes.view(len(sizes), *[1] * (counts.ndim - 2), -1)
        shares = (counts / (sizes if n_tokens is None else n_tokens[..., None] * sizes)).float()
        return tuple(self._statistic.columns), shares


@cache  # thousands of numbers, the same for every text: a tenth of the cost of a short one
def _sizes_of(
    block_sizes: Callable[[int, int], list[int]], widths: tuple[int, ...], n_blocks: int
) -> Tensor:
    """Hyperplanes in each block of each layer by this formula, (L, C)."""
    return torch.tensor([block_sizes(width, n_blocks) for width in widths])
