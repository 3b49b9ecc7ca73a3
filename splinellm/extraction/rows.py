"""The rows of one prompt: one, or one for each of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from splinellm.table import FeatureTable
from splinellm.token_index import TokenIndex


@dataclass(frozen=True, eq=False)
class Rows:
    """What was computed of one prompt.

    Parameters
    ----------
    values : ndarray, shape (R, L * F), float32
        One row, or one per token.
    n_tokens : ndarray, shape (R,), int64
        Tokens behind each row.
    tokens : TokenIndex, optional
        Which token each row stands for, unless the one row stands for the prompt.
    """

    values: np.ndarray
    n_tokens: np.ndarray
    tokens: TokenIndex | None = None

    def __len__(self) -> int:
        return len(self.values)


def split_rows(table: FeatureTable, lengths: Mapping[int, int]) -> list[Rows]:
    """Give every prompt of a table its own rows, and none of another's.

    Parameters
    ----------
    table : FeatureTable
        Of a batch.
    lengths : mapping of int to int
        Number of tokens of the prompts that should be in it, by position in the batch, ascending.

    Returns
    -------
    list of Rows
        One per prompt.

    Raises
    ------
    ValueError
        A row is missing, is one too many, or stands elsewhere.
    """
    if table.tokens is None:
        if len(table) != len(lengths):
            raise ValueError("not one row per prompt")
        return [Rows(table.values[i : i + 1], table.n_tokens[i : i + 1]) for i in range(len(table))]
    counts = np.array([*lengths.values()], np.int64)
    ends = np.cumsum(counts)
    owner = np.repeat(np.array([*lengths], np.int64), counts)
    position = np.arange(len(owner)) - np.repeat(ends - counts, counts)
    if not (
        np.array_equal(table.tokens.row, owner) and np.array_equal(table.tokens.position, position)
    ):
        raise ValueError("not one row per token of each prompt")
    return [
        Rows(table.values[begin:end], table.n_tokens[begin:end], table.tokens[begin:end])
        for begin, end in zip((ends - counts).tolist(), ends.tolist(), strict=True)
    ]


def join_tokens(rows: Mapping[int, Rows]) -> TokenIndex:
    """Stack the tokens of prompts whose rows stand for tokens.

    Parameters
    ----------
    rows : mapping of int to Rows
        By position in the request, which is what the index then says.
    """
    parts = [_NO_TOKENS]
    for prompt, block in rows.items():
        if block.tokens is None:
            raise ValueError("the rows stand for a prompt")
        own = np.full(len(block), prompt, np.int64)  # not its place in the batch
        parts.append(replace(block.tokens, row=own))
    return TokenIndex.concatenate(parts)


_NONE = np.empty(0, np.int64)
_NO_TOKENS = TokenIndex(_NONE, _NONE, (), _NONE, _NONE)
