"""Shares of an input, for runs that work on it at the same time.

A share is whole chunks, one after the other: the rows are read in the batches of a single run, and
the outputs of all shares, by name, are its output.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from splinellm.errors import ConfigurationError
from splinellm.io.columnar import ColumnarSource
from splinellm.io.many import ManySource
from splinellm.io.rows import Chunk, Source
from splinellm.io.text_readers import RowSource
from splinellm.io.views import SourceView

_MOST = 99_999
"""So many have names of equal length, which sort."""
_NAME = re.compile(r"part-(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class Share:
    """One of the shares of an input.

    Parameters
    ----------
    number : int
        From 1.
    of : int
        How many there are.
    n_chunks : int, optional
        Of the whole input, if somebody has counted them; each share counts them otherwise.
    """

    number: int = 1
    of: int = 1
    n_chunks: int | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read ``I/N``.

        Raises
        ------
        ConfigurationError
            It is no such thing.
        """
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip())
        share = cls(*map(int, found.groups())) if found else None
        if share is None or not 1 <= share.number <= share.of <= _MOST:
            raise ConfigurationError(
                f"'{text}' is no share",
                hint=f"I/N, such as 2/8: the second of 8, {_MOST:,} at most",
            )
        return share

    @classmethod
    def of_name(cls, name: str) -> Share | None:
        """Which share a file of this name, without its suffix, is."""
        found = _NAME.fullmatch(name)
        return cls(*map(int, found.groups())) if found else None

    @property
    def name(self) -> str:
        """Name of its file, without the suffix."""
        return f"part-{self.number:05d}-of-{self.of:05d}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def slice(self, n_chunks: int) -> tuple[int, int]:
        """First chunk of the share, and the one after its last."""
        return (self.number - 1) * n_chunks // self.of, self.number * n_chunks // self.of


class SharedSource(SourceView[Chunk]):
    """Some consecutive chunks of another source.

    Parameters
    ----------
    source : Source
        All chunks; closed with this.
    begin, end : int
        The first of them, and the one after the last.
    """

    def __init__(self, source: Source[Chunk], begin: int, end: int) -> None:
        super().__init__(source, lambda _name: False)
        self._begin = begin
        self._end = end
        self._n_done = 0
        self._n_before = 0
        self._n_handed = 0

    @property
    def n_read(self) -> int:
        """Rows handed out in chunks so far."""
        return self._n_handed

    @property
    def n_before(self) -> int:
        """Rows of the shares before this one."""
        return self._n_before

    def chunks(self) -> Iterator[Chunk]:
        """All rows of the share in order."""
        self._n_done = self._n_before = self._n_handed = 0
        if self._begin == self._end:
            return
        whole = self._source
        if isinstance(whole, ColumnarSource):
            self._n_before = whole.skip(self._begin)
            n_skipped = self._begin
        else:
            n_skipped = 0
        for number, chunk in enumerate(whole.chunks(), n_skipped):
            if number < self._begin:
                self._n_before += len(chunk)
                continue
            self._n_handed += len(chunk)
            yield chunk
            self._n_done += 1
            if number + 1 == self._end:
                break
        if isinstance(whole, RowSource | ManySource):
            whole.tell()

    def progress(self) -> float | None:
        """Share of the chunks that were handed out."""
        return self._n_done / max(1, self._end - self._begin)


def shared(
    source: Source[Chunk], share: Share, reopen: Callable[[], Source[Chunk]]
) -> Source[Chunk]:
    """Take a share of a source.

    Parameters
    ----------
    source : Source
        The whole.
    share : Share
        Which.
    reopen : callable
        Opens the same input again: the chunks of text are known only when all of it was read.
    """
    if share.of == 1:
        return source
    n_chunks = count_chunks(source, reopen) if share.n_chunks is None else share.n_chunks
    return SharedSource(source, *share.slice(n_chunks))


def count_chunks(source: Source[Chunk], reopen: Callable[[], Source[Chunk]]) -> int:
    """Count the chunks of a source, without reading everything where the format allows.

    Parameters
    ----------
    source, reopen
        See :func:`shared`. Views may cut chunks up, or join them; shares are of what they see.
    """
    below = _innermost(source)
    if isinstance(below, ColumnarSource):
        return below.n_chunks()
    with closing(reopen()) as other, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come when the rows are read
        return sum(1 for _ in _innermost(other).chunks())


def _innermost(source: Source[Chunk]) -> Source[Chunk]:
    return source.innermost if isinstance(source, SourceView) else source
