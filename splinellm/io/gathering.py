"""Chunks gathered into large pieces, for formats that thousands of tiny ones would bloat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pyarrow as pa

from splinellm.layout import stored_columns

if TYPE_CHECKING:
    from splinellm.io.rows import Chunk

_PIECE_ROWS = 32_768
_PIECE_BYTES = 128 << 20


class GatheringWriter(ABC):
    """Writes rows in pieces of up to 32,768 rows or about 128 MB.

    Parameters
    ----------
    columns : pa.Schema
        Input columns.
    schema : pa.Schema
        Of the file: the input columns, then those that the run adds, as
        :func:`splinellm.layout.stored_schema` keeps them.
    """

    def __init__(self, columns: pa.Schema, schema: pa.Schema) -> None:
        self._columns = columns
        self._schema = schema
        self._stored = pa.schema(list(schema)[len(columns) :])
        self._pending: list[pa.Table] = []

    def write(self, rows: Chunk, added: pa.Table) -> None:
        """Append rows to the piece in memory, and write it when it is large."""
        kept = stored_columns(added, self._stored)
        columns = [*rows.to_arrow(self._columns).columns, *kept]
        self._pending.append(pa.Table.from_arrays(self.arranged(columns), schema=self._schema))
        n_rows = sum(len(table) for table in self._pending)
        if n_rows >= _PIECE_ROWS or sum(table.nbytes for table in self._pending) >= _PIECE_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the last piece and the footer."""
        try:
            self._flush()
        finally:
            self.complete()

    def arranged(self, columns: list[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
        """Columns as the file's schema has them."""
        return columns

    @abstractmethod
    def put(self, piece: pa.Table) -> None:
        """Write a piece."""

    @abstractmethod
    def complete(self) -> None:
        """Write what comes after the last piece."""

    def _flush(self) -> None:
        if self._pending:
            # Emptied first: rows that could not be written must not be tried again on closing.
            tables, self._pending = self._pending, []
            self.put(pa.concat_tables(tables))
