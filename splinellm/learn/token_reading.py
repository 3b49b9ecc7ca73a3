"""Rows of tokens, text by text, of as many texts at a time as the memory is meant for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from splinellm.errors import PromptError
from splinellm.extraction.windows import Overflow, require_overflow
from splinellm.table import FeatureTable, schema_of

if TYPE_CHECKING:
    from splinellm.extraction.base import Extractor, OnProgress

CHUNK_BYTES = 64 << 20
"""Rows of one chunk of texts; a longer text is a chunk of its own."""

_CHARACTERS_PER_TOKEN = 4
_LONGEST_TOKEN = 16
"""Characters of a piece, for each of its tokens: enough that the token limit ends it."""

MIN_OVERLAP = 32
"""Tokens before a piece that are read again, so that it does not begin without a context."""


@dataclass(frozen=True, eq=False)
class TokenRows:
    """What was computed of one text's tokens.

    Parameters
    ----------
    values : ndarray, shape (T, F)
        Their rows, or what was made of these.
    begin, end : ndarray, shape (T,), int64
        Where they are in the text that was read; -1 where that was token ids.
    truncated : bool
        Whether there were more.
    """

    values: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    truncated: bool

    def __len__(self) -> int:
        return len(self.values)

    def characters(self, bounds: np.ndarray) -> np.ndarray:
        """Where windows of tokens are in the text, shape (W, 2); (0, 0) for windows without any."""
        places = list(zip(self.begin.tolist(), self.end.tolist(), strict=True))
        spans = []
        for first, stop in bounds.tolist():
            # A token that the tokenizer adds is nowhere.
            inside = [(begin, end) for begin, end in places[first:stop] if end > begin]
            begins, ends = zip(*inside, strict=True) if inside else ((0,), (0,))
            spans.append((min(begins), max(ends)))
        return np.array(spans, np.int64).reshape(-1, 2)


Columns = Callable[[FeatureTable], np.ndarray]
"""What to keep of a table's rows, shape (rows, any)."""


def read_tokens(
    extractor: Extractor,
    prompts: Sequence[Any],
    columns: Columns,
    *,
    overflow: Overflow = "truncate",
    overlap: int = MIN_OVERLAP,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[int, TokenRows | PromptError]]:
    """Read prompts once and give what is to be kept of their tokens, in order.

    Parameters
    ----------
    extractor : Extractor
        Reads; its token limit is that of a piece.
    prompts : sequence of str or of sequences of int
        As it takes them.
    columns : callable
        Makes of a chunk's table what is kept of it.
    overflow : {"windows", "error", "truncate"}
        Of texts beyond the limit.
    overlap : int
        Tokens that a piece reads again of the one before, as context; their rows are dropped.
    on_progress : callable, optional
        See :meth:`splinellm.extraction.base.Extractor.extract`.

    Yields
    ------
    (int, TokenRows or PromptError)
        Position of the prompt, and what was computed of it or why nothing was.
    """
    require_overflow(overflow)
    for chunk in _chunks(extractor, prompts):
        table, errors = extractor.extract_valid(
            [prompts[i] for i in chunk], granularity="token", on_progress=on_progress
        )
        rows = _split(table, columns(table), len(chunk))
        for place, position in enumerate(chunk):
            if place in errors:
                yield position, errors[place].at(position)
            elif not rows[place].truncated or overflow == "truncate":
                yield position, rows[place]
            else:
                reader = _Continuation(extractor, columns, overlap)
                yield position, reader.rest(prompts[position], rows[place], position, overflow)


def _chunks(extractor: Extractor, prompts: Sequence[Any]) -> Iterator[list[int]]:
    if len(prompts) == 1:  # as large as it is
        yield [0]
        return
    width = len(schema_of(extractor.provenance_at("token")).names)
    budget = _CHARACTERS_PER_TOKEN * max(1, CHUNK_BYTES // (4 * width))
    chunk: list[int] = []
    used = 0
    for position, prompt in enumerate(prompts):
        size = len(prompt) if hasattr(prompt, "__len__") else 1
        if chunk and used + size > budget:
            yield chunk
            chunk, used = [], 0
        chunk.append(position)
        used += size
    if chunk:
        yield chunk


def _split(table: FeatureTable, kept: np.ndarray, n_prompts: int) -> list[TokenRows]:
    tokens = table.tokens
    assert tokens is not None  # noqa: S101 (of granularity token)
    edges = np.searchsorted(tokens.row, np.arange(n_prompts + 1))
    return [
        TokenRows(
            kept[a:b],
            tokens.begin[a:b],
            tokens.end[a:b],
            bool(a < b and table.truncated[a]),
        )
        for a, b in pairwise(edges.tolist())
    ]


@dataclass(frozen=True)
class _Continuation:
    """Reads on where the limit ended a text."""

    extractor: Extractor
    columns: Columns
    overlap: int

    def rest(
        self, text: Any, first: TokenRows, position: int, overflow: Overflow
    ) -> TokenRows | PromptError:
        limit = self.extractor.provenance.max_tokens
        if overflow == "error" or not isinstance(text, str):
            return PromptError(
                f"the prompt has more than {limit} tokens",
                index=position,
                hint="texts can be read in windows" if overflow == "error" else "give it as text",
            )
        parts = [first]
        begins, end = first.begin, int(first.end.max())
        reach = _LONGEST_TOKEN * limit
        is_cut = True
        while is_cut or end < len(text):
            start = self._start(begins, end)
            piece, is_whole = text[start : start + reach], start + reach >= len(text)
            table, errors = self.extractor.extract_valid([piece], granularity="token")
            if errors:
                return errors[0].at(position)
            rows = _split(table, self.columns(table), 1)[0]
            begins = rows.begin + start
            # What the piece before has told is context here; so is what a tokenizer adds.
            new = (begins >= end) & (rows.end > rows.begin)
            if not new.any():
                if is_whole and not rows.truncated:
                    break
                end += 1  # a token longer than the piece: nothing of it can be told
                begins = np.array([end])
                continue
            parts.append(TokenRows(rows.values[new], begins[new], rows.end[new] + start, False))
            end, is_cut = int(parts[-1].end.max()), rows.truncated
            if is_whole and not is_cut:
                break
        return TokenRows(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.begin for part in parts]),
            np.concatenate([part.end for part in parts]),
            truncated=False,
        )

    def _start(self, begins: np.ndarray, end: int) -> int:
        """Where the next piece begins: some tokens before the end of this one."""
        context = min(self.overlap, len(begins) // 2)
        return min(int(begins[len(begins) - context]) if context else end, end)
