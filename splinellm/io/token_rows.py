"""Many output rows for one input row: a row per token, without the text that the tokens spell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from splinellm.conversations import messages_of
from splinellm.io.rows import Chunk, Source
from splinellm.io.views import ChunkView, SourceView
from splinellm.table import is_own_column
from splinellm.token_index import token_schema

PART_CHARACTERS = 1 << 15
"""A part of a chunk ends here: a text of n tokens makes n rows of all features, in memory."""


def is_token_column(text_column: str, *, messages: bool = False) -> Callable[[str], bool]:
    """Whether an output of a row per token adds a column of this name.

    The text column itself is not kept, and so not in the way, whatever it is called. `messages`
    says whether it holds conversations.
    """
    added = {*token_schema(messages=messages).names} - {text_column}
    return lambda name: name in added or is_own_column(name)


class TextlessChunk(ChunkView):
    """A stretch of another chunk that is written without its texts.

    Parameters
    ----------
    whole : Chunk
        The other chunk.
    positions : sequence of int
        Its rows in the stretch.
    problems : mapping of int to Problem
        Bad rows by their position in the stretch.
    is_hidden : callable
        Whether a column is the texts'.
    """

    def take(self, positions: Sequence[int]) -> TextlessChunk:
        """Select good rows, each as often as it is named."""
        chosen = [self._positions[position] for position in positions]
        return TextlessChunk(self._whole, chosen, {}, self._is_hidden)


class TextlessSource(SourceView[TextlessChunk]):
    """Rows of another source in parts that may grow to a row per token, written without texts.

    Parameters
    ----------
    source : Source
        Rows with all their columns; closed with this.
    text_column : str
        Column that holds the prompts.
    """

    def __init__(self, source: Source[Chunk], text_column: str) -> None:
        super().__init__(source, text_column.__eq__)

    def chunks(self) -> Iterator[TextlessChunk]:
        """All rows in order, a few at a time."""
        for chunk in self._source.chunks():
            for start, end in _parts(chunk):
                problems = {i - start: p for i, p in chunk.problems.items() if start <= i < end}
                yield TextlessChunk(chunk, range(start, end), problems, self._is_hidden)


def _n_characters(prompt: Any) -> int:
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(message.text) for message in messages_of(prompt))


def _parts(chunk: Chunk) -> Iterator[tuple[int, int]]:
    """Where to cut a chunk so that its parts have texts of bounded length together."""
    good = [i for i in range(len(chunk)) if i not in chunk.problems]
    lengths = dict(zip(good, map(_n_characters, chunk.take(good).texts()), strict=True))
    start, n_characters = 0, 0
    for position in range(len(chunk)):
        length = lengths.get(position, 0)
        if position > start and n_characters + length > PART_CHARACTERS:
            yield start, position
            start, n_characters = position, 0
        n_characters += length
    yield start, len(chunk)
