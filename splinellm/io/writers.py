"""What every writer does.

A writer takes chunks of input rows with the columns that the run adds and streams them into one
open file. Column order is the same everywhere: the input's columns, then the added ones.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from splinellm.errors import OutputError
from splinellm.io.formats import load

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from splinellm.io.formats import Format
    from splinellm.io.rows import Chunk


class Writer(Protocol):
    """Writes rows into a file that is open. Closing completes the content, not the file."""

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows; as many as `added` has."""
        ...

    def close(self) -> None:
        """Complete the content."""
        ...


def writer_of(kind: Format) -> Callable[[BinaryIO, pa.Schema | None, pa.Schema], Writer]:
    """Load the writer of a format; it is made of an open file, input columns and added columns."""
    writer: Callable[[BinaryIO, pa.Schema | None, pa.Schema], Writer] = load(kind.writer)
    return writer


def compressed(file: BinaryIO) -> BinaryIO:
    """Wrap a file in gzip; without a time stamp, so that equal runs make equal files."""
    return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0))


def check_types(schema: pa.Schema, is_writable: Callable[[pa.Field], bool], suffix: str) -> None:
    """Refuse columns of a type that a format does not have.

    Raises
    ------
    OutputError
        Names the first one.
    """
    # Features are all of one type, and there are thousands.
    kinds: set[str] = set()
    for field in schema:
        if str(field.type) in kinds:
            continue
        kinds.add(str(field.type))
        if not is_writable(field):
            raise OutputError(
                f"column '{field.name[:80]}' is {field.type}, which {suffix} cannot hold",
                hint="leave it out with --columns, or write another format",
            )
