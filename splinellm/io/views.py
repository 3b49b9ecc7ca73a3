"""Rows and sources that stand for others, with some columns hidden from the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self

from splinellm.io.rows import Chunk, ChunkT, Problem, Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class ChunkView:
    """Some rows of another chunk, written without some of their columns.

    Parameters
    ----------
    whole : Chunk
        The other chunk.
    positions : sequence of int
        Its rows in this one.
    problems : mapping of int to Problem
        Bad rows by their position in this one.
    is_hidden : callable
        Whether a column of this name is not written; readable it stays.
    """

    def __init__(
        self,
        whole: Chunk,
        positions: Sequence[int],
        problems: Mapping[int, Problem],
        is_hidden: Callable[[str], bool],
    ) -> None:
        self.source = whole.source
        self.problems = problems
        self._whole = whole
        self._positions = positions
        self._is_hidden = is_hidden

    def __len__(self) -> int:
        return len(self._positions)

    def number(self, position: int) -> int:
        """Row number in the file."""
        return self._whole.number(self._positions[position])

    def texts(self) -> list[Any]:
        """Texts of all rows, hidden or not."""
        return self._taken().texts()

    def basis(self) -> bytes:
        """Return what the columns that a run adds are made of."""
        return self._taken().basis()

    def take(self, positions: Sequence[int]) -> Self:
        """Select good rows, each as often as it is named."""
        raise NotImplementedError

    def records(self) -> list[dict[str, Any]]:
        """Rows without what is hidden."""
        return self.without(_no_more).records()

    def to_arrow(self, schema: pa.Schema) -> pa.Table:
        """Rows without what is hidden, with the source's schema."""
        return self.without(_no_more).to_arrow(schema)

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns of numbers or flags, hidden or not."""
        return self._taken().numbers(names)

    def without(self, is_dropped: Callable[[str], bool]) -> Chunk:
        """Drop columns by their name, and what is hidden in any case."""
        return self._taken().without(lambda name: self._is_hidden(name) or is_dropped(name))

    def rejected(self, position: int) -> dict[str, Any]:
        """Return what the rejects file keeps of a row, with what is hidden."""
        return self._whole.rejected(self._positions[position])

    def _taken(self) -> Chunk:
        if self._positions == range(len(self._whole)):
            return self._whole
        return self._whole.take(self._positions)


def _no_more(_name: str) -> bool:
    return False


class SourceView(Generic[ChunkT]):
    """Rows of another source, written without some of their columns.

    Parameters
    ----------
    source : Source
        Rows with all their columns; closed with this.
    is_hidden : callable
        Whether a column of this name is not written.
    """

    def __init__(self, source: Source[Chunk], is_hidden: Callable[[str], bool]) -> None:
        self.name = source.name
        self._source = source
        self._is_hidden = is_hidden

    @property
    def innermost(self) -> Source[Chunk]:
        """The source below all views of it, which knows how it is stored."""
        return self._source.innermost if isinstance(self._source, SourceView) else self._source

    @property
    def n_read(self) -> int:
        """Rows handed out in chunks so far."""
        return self._source.n_read

    @property
    def n_before(self) -> int:
        """Rows of the input before the first that is handed out."""
        return self._source.n_before

    def schema(self) -> pa.Schema:
        """Input columns but for the hidden ones."""
        schema = self._source.schema()
        for name in reversed([name for name in schema.names if self._is_hidden(name)]):
            schema = schema.remove(schema.get_field_index(name))
        return schema

    def chunks(self) -> Iterator[ChunkT]:
        """All rows in order."""
        raise NotImplementedError

    def progress(self) -> float | None:
        """Share of the input that was read."""
        return self._source.progress()

    def close(self) -> None:
        """Release the file."""
        self._source.close()
