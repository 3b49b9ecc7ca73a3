"""Which token of which prompt a row of a feature table stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

ROW = "row"
POSITION = "position"
TEXT = "token"
BEGIN = "begin"
END = "end"

TEXT_LINES = "token_jsonl"
"""What ``token`` is in a NumPy archive: a line of JSON each, in bytes."""
ROLE_LINES = "role_jsonl"
"""And ``role``."""

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

ROLE = "role"
MESSAGE = "message"

MESSAGE_SCHEMA = pa.schema([pa.field(ROLE, pa.string()), pa.field(MESSAGE, pa.int64())])
"""More columns where prompts are conversations; null for what the chat template adds."""

_MANY = 40
_EDGE = 0.02
_FEW = 3

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
        Where the token is in the prompt, in characters, or in the text of its message; -1 where the
        prompt was token ids, and for what a chat template adds.
    role : sequence of (str or None), N of them, optional
        Who says it, where a prompt is a conversation; None for what nobody says.
    message : ndarray, shape (N,), int64, optional
        Which message says it, from 0; -1 for what none says.
    """

    row: np.ndarray
    position: np.ndarray
    token: Sequence[str] = field(repr=False)  # a prompt, which logs and tracebacks must not show
    begin: np.ndarray
    end: np.ndarray
    role: Sequence[str | None] | None = None
    message: np.ndarray | None = None

    @property
    def has_messages(self) -> bool:
        """Whether a prompt is a conversation."""
        return self.message is not None

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, rows: slice | np.ndarray) -> TokenIndex:
        return TokenIndex(
            self.row[rows],
            self.position[rows],
            [self.token[i] for i in np.arange(len(self))[rows]],
            self.begin[rows],
            self.end[rows],
            None if self.role is None else [self.role[i] for i in np.arange(len(self))[rows]],
            None if self.message is None else self.message[rows],
        )

    def with_messages(self) -> TokenIndex:
        """The same with columns for roles and messages, if only empty ones."""
        if self.has_messages:
            return self
        nowhere = np.full(len(self), NOWHERE, np.int64)
        return replace(self, role=[None] * len(self), message=nowhere)

    @classmethod
    def concatenate(cls, parts: Sequence[TokenIndex]) -> TokenIndex:
        """Stack the rows of several."""
        if any(part.has_messages for part in parts):
            parts = [part.with_messages() for part in parts]
        none = [np.empty(0, np.int64)]
        messages = [part.message for part in parts if part.message is not None]
        return cls(
            np.concatenate(none + [part.row for part in parts]),
            np.concatenate(none + [part.position for part in parts]),
            [token for part in parts for token in part.token],
            np.concatenate(none + [part.begin for part in parts]),
            np.concatenate(none + [part.end for part in parts]),
            [role for part in parts for role in part.role or ()] if messages else None,
            np.concatenate(messages) if messages else None,
        )

    def to_arrow(self) -> pa.Table:
        """Columns ``row``, ``position``, ``token``, ``begin`` and ``end``; null offsets for ids.

        And ``role`` and ``message``, where a prompt is a conversation.
        """
        nowhere = self.begin == NOWHERE
        columns = [
            pa.array(self.row, pa.int64()),
            pa.array(self.position, pa.int64()),
            pa.array(self.token, pa.string()),
            pa.array(self.begin, pa.int64(), mask=nowhere),
            pa.array(self.end, pa.int64(), mask=nowhere),
        ]
        if self.message is None:
            return pa.Table.from_arrays(columns, schema=TOKEN_SCHEMA)
        columns += [
            pa.array(self.role, pa.string()),
            pa.array(self.message, pa.int64(), mask=self.message == NOWHERE),
        ]
        return pa.Table.from_arrays(columns, schema=token_schema(messages=True))

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
        found = cls(
            cast[ROW].to_numpy(), cast[POSITION].to_numpy(), cast[TEXT].to_pylist(), *offsets
        )
        # Columns of the user's may be called so; those of conversations are of these types.
        fields = {field.name: field for field in table.schema}
        if any(fields.get(own.name, own).type != own.type for own in MESSAGE_SCHEMA):
            return found
        if not {ROLE, MESSAGE} <= fields.keys():
            return found
        message = table[MESSAGE].fill_null(NOWHERE).to_numpy()
        return replace(found, role=table[ROLE].to_pylist(), message=message)

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns as NumPy arrays, for an archive without pickle."""
        return {
            ROW: self.row,
            POSITION: self.position,
            TEXT_LINES: text_lines(self.token),
            BEGIN: self.begin,
            END: self.end,
            **({} if self.message is None else {MESSAGE: self.message}),
            **({} if self.role is None else {ROLE_LINES: text_lines(self.role)}),
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
        found = cls(arrays[ROW], arrays[POSITION], token, arrays[BEGIN], arrays[END])
        if MESSAGE not in arrays:
            return found
        lines = arrays[ROLE_LINES].tobytes().decode("utf-8").splitlines()
        return replace(found, role=[json.loads(line) for line in lines], message=arrays[MESSAGE])


def token_schema(*, messages: bool) -> pa.Schema:
    """Columns of a table whose rows stand for tokens or prefixes, maybe of conversations."""
    return pa.schema([*TOKEN_SCHEMA, *MESSAGE_SCHEMA]) if messages else TOKEN_SCHEMA


def text_lines(tokens: Sequence[str | None]) -> np.ndarray:
    """Texts as a line of JSON each, in ASCII bytes: NumPy's own strings lose NULs at their end."""
    return np.frombuffer("".join(json.dumps(text) + "\n" for text in tokens).encode(), np.uint8)


def colour_range(numbers: np.ndarray) -> tuple[float, float]:
    """Say between which values a prompt's tokens are coloured; the others are beyond the scale.

    Of many tokens the extreme ones do not set the colours of the rest. Nor does the first of a few:
    models treat it as they treat no other token, and all others would look alike.

    Parameters
    ----------
    numbers : ndarray, shape (T,)
        One of each token, in their order.
    """
    if len(numbers) >= _MANY:
        cut = int(_EDGE * len(numbers)) or 1
        ordered = np.sort(numbers)
        return float(ordered[cut]), float(ordered[-1 - cut])
    low, high = float(numbers.min()), float(numbers.max())
    if len(numbers) > _FEW:
        least, most = float(numbers[1:].min()), float(numbers[1:].max())
        if most > least and max(least - numbers[0], numbers[0] - most) > most - least:
            return least, most
    return low, high
