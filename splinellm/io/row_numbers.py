"""The number of every row as a column, for readers that do not keep the order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

import pyarrow as pa

from splinellm.io.rows import ChunkT
from splinellm.token_index import ROW

if TYPE_CHECKING:
    from splinellm.errors import PromptError
    from splinellm.io.pipeline import Annotator, Listener

_FIELD = pa.field(ROW, pa.int64(), nullable=False)


class RowNumbers(Generic[ChunkT]):
    """Adds ``row``, counted from 0 over all rows read, before what another annotator adds.

    Parameters
    ----------
    annotator : Annotator
        The other; makes at most a row of each.
    """

    def __init__(self, annotator: Annotator[ChunkT]) -> None:
        self._annotator = annotator
        self.schema = pa.schema([_FIELD, *annotator.schema], metadata=annotator.schema.metadata)

    def annotate(
        self, rows: ChunkT, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Add the other's columns, and the rows' positions, which the pipeline counts on."""
        added, failed = self._annotator.annotate(rows, on_progress=on_progress)
        positions = [position for position in range(len(rows)) if position not in failed]
        return added.add_column(0, _FIELD, pa.array(positions, pa.int64())), failed
