"""From scores of windows to one score of a text, and back to its tokens. Pure NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from splinellm.errors import LATER, ConfigurationError

PoolName = Literal["mean", "max", "log-sum-exp", "agreeing"]
POOLS: tuple[PoolName, ...] = get_args(PoolName)
POOLING = "pooling"
"""Of a card's settings: how windows are made and pooled; without it, there are none."""


@dataclass(frozen=True)
class Pooling:
    """How a text is cut into windows of tokens, and what their scores make of it.

    Parameters
    ----------
    pool : {"mean", "max", "log-sum-exp", "agreeing"}
        What the text's score is: the mean of its windows' scores z; the highest; the smooth highest
        ``log(mean(exp(r z))) / r``; or the mean of the k highest.
    window : int or None
        Tokens of a window; None takes the whole text as one.
    stride : int
        Tokens from the beginning of one window to that of the next.
    sharpness : float
        The r above: from the mean (0) to the highest (infinity).
    agreeing : int
        The k above; texts with fewer windows take the mean of those they have.

    Raises
    ------
    ConfigurationError
        One of them cannot work.
    """

    pool: PoolName = "log-sum-exp"
    window: int | None = 16
    stride: int = 8
    sharpness: float = 3.0
    agreeing: int = 3

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise ConfigurationError(
                f"unknown pooling '{str(self.pool)[:40]}'", hint=f"use {', '.join(POOLS)}"
            )
        whole = (self.stride, self.agreeing, 1 if self.window is None else self.window)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in whole):
            raise ConfigurationError(
                f"window {self.window}, stride {self.stride} and agreeing {self.agreeing} are not "
                "whole numbers of at least 1"
            )
        if self.window is not None and self.stride > self.window:
            raise ConfigurationError(
                f"a stride of {self.stride} leaves tokens out of windows of {self.window}",
                hint="the stride is at most the window",
            )
        if not 0.0 < self.sharpness <= 1e3:
            raise ConfigurationError(f"sharpness {self.sharpness} is not in (0, 1000]")

    def settings(self) -> dict[str, Any]:
        """For a card."""
        return asdict(self)

    @classmethod
    def from_settings(cls, record: Mapping[str, Any]) -> Pooling:
        """Read what :meth:`settings` gave.

        Raises
        ------
        ConfigurationError
            The record is not one of this version.
        """
        try:
            return cls(**record)
        except TypeError as error:
            raise ConfigurationError(f"the pooling is unreadable: {error}", hint=LATER) from error

    def bounds(self, n_tokens: int) -> np.ndarray:
        """First token of each window and the one after its last, shape (W, 2), int64.

        Every token is in a window; the last one may be shorter than the others.
        """
        if self.window is None or n_tokens <= self.window:
            return np.array([[0, n_tokens]], np.int64)
        begins = np.arange(0, n_tokens - self.window + self.stride, self.stride)
        return np.stack([begins, np.minimum(begins + self.window, n_tokens)], 1)

    def pooled(self, scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Score of every text, shape (N,), from those of its windows; see :meth:`gradient`."""
        return self.gradient(scores, starts)[0]

    def gradient(self, scores: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pool, and say how much of each window is in it.

        Parameters
        ----------
        scores : ndarray, shape (W,)
            Of the windows of all texts, one text after the other.
        starts : ndarray, shape (N + 1,)
            Where the windows of each text begin; every text has at least one.

        Returns
        -------
        pooled : ndarray, shape (N,), float64
        shares : ndarray, shape (W,), float64
            Derivative of its text's score by each window's; those of a text sum to one.
        """
        scores = scores.astype(np.float64, copy=False)
        counts = np.diff(starts)
        if not len(counts):
            return np.empty(0), np.empty(0)
        first = starts[:-1]
        if self.pool == "mean":
            shares = np.repeat(1.0 / counts, counts)
        elif self.pool == "log-sum-exp":
            highest = np.maximum.reduceat(scores, first)
            powers = np.exp(self.sharpness * (scores - np.repeat(highest, counts)))
            sums = np.add.reduceat(powers, first)
            return highest + np.log(sums / counts) / self.sharpness, powers / np.repeat(
                sums, counts
            )
        else:
            k = 1 if self.pool == "max" else self.agreeing
            order = np.lexsort((-scores, np.repeat(np.arange(len(counts)), counts)))
            rank = np.arange(len(scores)) - np.repeat(first, counts)
            shares = np.zeros(len(scores))
            taken = np.repeat(np.minimum(k, counts), counts)
            shares[order] = np.where(rank < taken, 1.0 / taken, 0.0)
        return np.add.reduceat(scores * shares, first), shares


def window_means(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Mean over the tokens of each window.

    Parameters
    ----------
    values : ndarray, shape (T, F)
        Of tokens.
    bounds : ndarray, shape (W, 2)
        See :meth:`Pooling.bounds`.

    Returns
    -------
    ndarray, shape (W, F), float64
    """
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, dtype=np.float64, out=sums[1:])
    begins, ends = bounds.T
    means: np.ndarray = (sums[ends] - sums[begins]) / (ends - begins)[:, None]
    return means


def token_means(scores: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Mean over the windows that hold each token.

    Parameters
    ----------
    scores : ndarray, shape (W, C)
        Of windows.
    bounds : ndarray, shape (W, 2)
        That leave out no token.

    Returns
    -------
    ndarray, shape (T, C), float64
    """
    begins, ends = bounds.T
    changes = np.zeros((int(ends[-1]) + 1, scores.shape[1] + 1))
    counted = np.column_stack([scores, np.ones(len(scores))])
    np.add.at(changes, begins, counted)
    np.subtract.at(changes, ends, counted)
    sums = changes.cumsum(axis=0)[:-1]
    means: np.ndarray = sums[:, :-1] / sums[:, -1:]
    return means
