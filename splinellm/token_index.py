"""Which token of which prompt a row of a feature table stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

ROW = "row"
POSITION = "position"
TEXT = "token"
BEGIN = "begin"
END = "end"

TEXT_LINES = "token_jsonl"
"""What ``token`` is in a NumPy archive: a line of JSON each, in bytes."""

TOKEN_SCHEMA = pa.schema(
    [
        pa.field(ROW, pa.int64(), nullable=False),
        pa.field(POSITION, pa.int64(), nullable=False),
        pa.field(TEXT, pa.string(), nullable=False),
        pa.field(BEGIN, pa.int64()),
        pa.field(END, pa.int64()),
    ]
)
"""Columns of a table whose rows stand for tokens or prefixes."""

NOWHERE = -1
"""Offset of a token whose prompt was given as token ids."""


@dataclass(frozen=True, eq=False)
class TokenIndex:
    """The tokens behind N rows.

    Parameters
    ----------
    row : ndarray, shape (N,), int64
        Position of the prompt among those given, from 0.
    position : ndarray, shape (N,), int64
        Position of the token in its prompt, from 0. Of a prefix: its last token.
    token : sequence of str, N of them
        Text of the token. Tokens that share a character, as the bytes of an emoji do, all have it.
    begin, end : ndarray, shape (N,), int64
        Where the token is in the prompt, in characters; -1 where the prompt was token ids.
    """

    row: np.ndarray
    position: np.ndarray
    token: Sequence[str]
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, rows: slice | np.ndarray) -> TokenIndex:
        return TokenIndex(
            self.row[rows],
            self.position[rows],
            [self.token[i] for i in np.arange(len(self))[rows]],
            self.begin[rows],
            self.end[rows],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[TokenIndex]) -> TokenIndex:
        """Stack the rows of several."""
        return cls(
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.position for part in parts]),
            [token for part in parts for token in part.token],
            np.concatenate([part.begin for part in parts]),
            np.concatenate([part.end for part in parts]),
        )

    def to_arrow(self) -> pa.Table:
        """Columns ``row``, ``position``, ``token``, ``begin`` and ``end``; null offsets for ids."""
        nowhere = self.begin == NOWHERE
        columns = [
            pa.array(self.row, pa.int64()),
            pa.array(self.position, pa.int64()),
            pa.array(self.token, pa.string()),
            pa.array(self.begin, pa.int64(), mask=nowhere),
            pa.array(self.end, pa.int64(), mask=nowhere),
        ]
        return pa.Table.from_arrays(columns, schema=TOKEN_SCHEMA)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> TokenIndex:
        """Read what :meth:`to_arrow` made, whatever other columns there are.

        Raises
        ------
        KeyError, ValueError
            A column is missing, or holds what it cannot.
        """
        cast = table.select(TOKEN_SCHEMA.names).cast(
            pa.schema([pa.field(field.name, field.type) for field in TOKEN_SCHEMA])
        )
        for name in (ROW, POSITION, TEXT):
            if cast[name].null_count:
                raise ValueError(f"column '{name}' has missing values")
        offsets = [cast[name].fill_null(NOWHERE).to_numpy() for name in (BEGIN, END)]
        return cls(
            cast[ROW].to_numpy(), cast[POSITION].to_numpy(), cast[TEXT].to_pylist(), *offsets
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns as NumPy arrays, for an archive without pickle."""
        return {
            ROW: self.row,
            POSITION: self.position,
            TEXT_LINES: text_lines(self.token),
            BEGIN: self.begin,
            END: self.end,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TokenIndex:
        """Read what :meth:`arrays` gave.

        Raises
        ------
        KeyError, ValueError
            A column is missing or unreadable.
        """
        lines = arrays[TEXT_LINES].tobytes().decode("utf-8").splitlines()
        token = [json.loads(line) for line in lines]
        return cls(arrays[ROW], arrays[POSITION], token, arrays[BEGIN], arrays[END])


def text_lines(tokens: Sequence[str]) -> np.ndarray:
    """Texts as a line of JSON each, in ASCII bytes: NumPy's own strings lose NULs at their end."""
    return np.frombuffer("".join(json.dumps(text) + "\n" for text in tokens).encode(), np.uint8)
