"""Many output rows for one input row: a row per token, without the text that the tokens spell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from splinellm.io.rows import Chunk, Problem, Source
from splinellm.table import is_own_column
from splinellm.token_index import TOKEN_SCHEMA

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PART_CHARACTERS = 1 << 15
"""A part of a chunk ends here: a text of n tokens makes n rows of all features, in memory."""


def is_token_column(text_column: str) -> Callable[[str], bool]:
    """Whether an output of a row per token adds a column of this name.

    The text column itself is not kept, and so not in the way, whatever it is called.
    """
    added = {*TOKEN_SCHEMA.names} - {text_column}
    return lambda name: name in added or is_own_column(name)


class TextlessChunk:
    """A stretch of another chunk that is written without its texts.

    Parameters
    ----------
    whole : Chunk
        The other chunk.
    positions : sequence of int
        Its rows in the stretch.
    text_column : str
        Column to leave out.
    problems : mapping of int to Problem
        Bad rows by their position in the stretch.
    """

    def __init__(
        self,
        whole: Chunk,
        positions: Sequence[int],
        text_column: str,
        problems: Mapping[int, Problem],
    ) -> None:
        self.source = whole.source
        self.problems = problems
        self._whole = whole
        self._positions = positions
        self._text_column = text_column

    def __len__(self) -> int:
        return len(self._positions)

    def number(self, position: int) -> int:
        """Row number in the file."""
        return self._whole.number(self._positions[position])

    def texts(self) -> list[str]:
        """Texts of all rows."""
        return self._taken().texts()

    def take(self, positions: Sequence[int]) -> TextlessChunk:
        """Select good rows, each as often as it is named."""
        chosen = [self._positions[position] for position in positions]
        return TextlessChunk(self._whole, chosen, self._text_column, {})

    def records(self) -> list[dict[str, Any]]:
        """Rows without their texts."""
        return self.without(lambda _name: False).records()

    def to_arrow(self, schema: pa.Schema) -> pa.Table:
        """Rows without their texts, with the source's schema."""
        return self.without(lambda _name: False).to_arrow(schema)

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns of numbers or flags."""
        return self._taken().numbers(names)

    def without(self, is_dropped: Callable[[str], bool]) -> Chunk:
        """Drop columns by their name, the texts in any case."""
        return self._taken().without(lambda name: name == self._text_column or is_dropped(name))

    def rejected(self, position: int) -> dict[str, Any]:
        """Return what the rejects file keeps of a row, its text included."""
        return self._whole.rejected(self._positions[position])

    def _taken(self) -> Chunk:
        return self._whole.take(self._positions)


class TextlessSource:
    """Rows of another source in parts that may grow to a row per token, written without texts.

    Parameters
    ----------
    source : Source
        Rows with all their columns; closed with this.
    text_column : str
        Column that holds the prompts.
    """

    def __init__(self, source: Source[Chunk], text_column: str) -> None:
        self.name = source.name
        self._source = source
        self._text_column = text_column

    @property
    def n_read(self) -> int:
        """Rows handed out in chunks so far."""
        return self._source.n_read

    @n_read.setter
    def n_read(self, value: int) -> None:
        self._source.n_read = value

    def schema(self) -> pa.Schema:
        """Input columns but for the texts'."""
        schema = self._source.schema()
        index = schema.get_field_index(self._text_column)
        return schema if index < 0 else schema.remove(index)

    def chunks(self) -> Iterator[TextlessChunk]:
        """All rows in order, a few at a time."""
        for chunk in self._source.chunks():
            for start, end in _parts(chunk):
                problems = {i - start: p for i, p in chunk.problems.items() if start <= i < end}
                yield TextlessChunk(chunk, range(start, end), self._text_column, problems)

    def progress(self) -> float | None:
        """Share of the input that was read."""
        return self._source.progress()

    def close(self) -> None:
        """Release the file."""
        self._source.close()


def _parts(chunk: Chunk) -> Iterator[tuple[int, int]]:
    """Where to cut a chunk so that its parts have texts of bounded length together."""
    good = [i for i in range(len(chunk)) if i not in chunk.problems]
    lengths = dict(zip(good, map(len, chunk.take(good).texts()), strict=True))
    start, n_characters = 0, 0
    for position in range(len(chunk)):
        length = lengths.get(position, 0)
        if position > start and n_characters + length > PART_CHARACTERS:
            yield start, position
            start, n_characters = position, 0
        n_characters += length
    yield start, len(chunk)
