"""Mean, minimum, maximum and standard deviation of a number per token, in one go or piece by piece.

The model is causal: what it computes for a token depends on the tokens before it alone. So the
features of a prompt's first k tokens, of a prompt that continues a shared beginning, or of a text
that is still being written, all come from statistics that are carried along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Statistics of sequences, each over some number of tokens.

    Parameters
    ----------
    count : Tensor, shape (...), float32
        Tokens; may be 0.
    mean : Tensor, shape (...), float32
        0 where there is no token.
    squares : Tensor, shape (...), float32
        Sum of squared deviations from the mean.
    low, high : Tensor, shape (...), float32
        Minimum and maximum; plus and minus infinity where there is no token.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, values: Tensor, real: Tensor) -> Moments:
        """Statistics of each sequence's real tokens.

        Parameters
        ----------
        values : Tensor, shape (..., T), float32
            One number per token, anything at padding.
        real : Tensor, broadcastable to (..., T), bool
            True at real tokens.
        """
        count = real.sum(dim=-1, dtype=torch.float32)
        mean = values.where(real, 0.0).sum(dim=-1) / count.clamp(min=1)
        # Two passes: subtracting two large sums of squares would cancel.
        deviation = (values - mean[..., None]).where(real, 0.0)
        return cls(
            count,
            mean,
            deviation.square().sum(dim=-1),
            values.where(real, torch.inf).amin(dim=-1),
            values.where(real, -torch.inf).amax(dim=-1),
        )

    @classmethod
    def of_pieces(cls, values: Tensor, piece: Tensor, n_pieces: int) -> Moments:
        """Statistics of texts that lie behind each other in one row.

        Parameters
        ----------
        values : Tensor, shape (..., N), float32
            One number per token.
        piece : Tensor, shape (N,), int64
            Which piece each token is of, ascending; every piece has a token.
        n_pieces : int
            P.

        Returns
        -------
        Moments, shape (..., P)
        """
        count = torch.bincount(piece, minlength=n_pieces).to(torch.float32)
        if n_pieces == len(piece):  # a token each, as where all texts are being written
            return cls(count, values, torch.zeros_like(values), values, values)
        shape = (*values.shape[:-1], n_pieces)
        index = piece.expand_as(values)
        mean = values.new_zeros(shape).index_add_(-1, piece, values) / count
        deviation = values - mean[..., piece]
        return cls(
            count,
            mean,
            values.new_zeros(shape).index_add_(-1, piece, deviation.square()),
            values.new_full(shape, torch.inf).scatter_reduce_(-1, index, values, "amin"),
            values.new_full(shape, -torch.inf).scatter_reduce_(-1, index, values, "amax"),
        )

    @classmethod
    def nothing(cls, *shape: int) -> Moments:
        """Statistics of no token at all, for sequences of this shape."""
        zeros = torch.zeros(shape)
        infinite = torch.full(shape, torch.inf)
        return cls(zeros, zeros.clone(), zeros.clone(), infinite, -infinite)

    def followed_by(self, later: Moments) -> Moments:
        """Statistics of both pieces together (Chan, Golub and LeVeque, 1983).

        Shapes broadcast: one beginning may be followed by many continuations.
        """
        count = self.count + later.count
        gap = later.mean - self.mean
        share = later.count / count.clamp(min=1)
        return Moments(
            count,
            self.mean + gap * share,
            self.squares + later.squares + gap.square() * self.count * share,
            torch.minimum(self.low, later.low),
            torch.maximum(self.high, later.high),
        )

    def __getitem__(self, index: Any) -> Moments:
        """Select sequences."""
        columns = (self.count, self.mean, self.squares, self.low, self.high)
        return Moments(*(column.expand_as(self.mean)[index] for column in columns))

    def summary(self) -> Tensor:
        """Mean, min, max and sample standard deviation, shape (..., 4), float32.

        One token alone has standard deviation 0.0, where the definition (ddof = 1) has none.
        """
        std = (self.squares / (self.count - 1).clamp(min=1)).sqrt()
        return torch.stack([self.mean, self.low, self.high, std], dim=-1)


def running_summary(values: Tensor) -> Tensor:
    """Mean, min, max and sample standard deviation over the first k tokens, for every k.

    Parameters
    ----------
    values : Tensor, shape (..., T), float32
        One number per token, padding on the right.

    Returns
    -------
    Tensor, shape (..., T, 4), float32
        Row k - 1 holds the statistics of tokens 1 to k.
    """
    # Sums of squares cancel, so they are taken in float64 and around the first value: over 8,192
    # tokens that leaves an error far below float32's own.
    first = values[..., :1].double()
    shifted = values.double() - first
    count = torch.arange(1, values.shape[-1] + 1, device=values.device, dtype=torch.float64)
    mean = shifted.cumsum(dim=-1) / count
    squares = (shifted.square().cumsum(dim=-1) - count * mean.square()).clamp(min=0)
    return torch.stack(
        [
            (mean + first).float(),
            values.cummin(dim=-1).values,
            values.cummax(dim=-1).values,
            (squares / (count - 1).clamp(min=1)).sqrt().float(),
        ],
        dim=-1,
    )
