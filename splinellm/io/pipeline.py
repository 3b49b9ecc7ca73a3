"""The loop from a source through an annotator into a sink. Knows no format and no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import pyarrow as pa

from splinellm.errors import PromptError, RowError, SplineLLMError
from splinellm.io.output_file import writing
from splinellm.io.rows import Chunk, ChunkT, Problem, Source
from splinellm.token_index import ROW

if TYPE_CHECKING:
    from splinellm.io.journal import Journal
    from splinellm.io.sink import Sink

OnError = Literal["fail", "skip"]
Listener = Callable[[int, int], None]
"""Told how many prompts and tokens were done since it was last told."""


_ChunkT_contra = TypeVar("_ChunkT_contra", bound=Chunk, contravariant=True)


class Annotator(Protocol[_ChunkT_contra]):
    """Makes the columns that a run adds to its input."""

    @property
    def schema(self) -> pa.Schema:
        """The added columns, and in the metadata what they come from."""
        ...

    def annotate(
        self, rows: _ChunkT_contra, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Added columns, without nulls or NaN, of the rows that can have them.

        The other rows are given by their position, with the reason. An annotator whose schema has
        a column ``row`` may make several rows of one, and says there of which, by its position.
        """
        ...


def annotate_rows(
    source: Source[ChunkT],
    sink: Sink,
    annotator: Annotator[ChunkT],
    *,
    on_error: OnError = "fail",
    on_progress: Listener | None = None,
) -> None:
    """Write every row with its added columns; the sink counts the rows.

    Parameters
    ----------
    source : Source
        Where rows come from; left open.
    sink : Sink
        Where they go; committed, or abandoned if anything fails.
    annotator : Annotator
        Makes the added columns.
    on_error : {"fail", "skip"}
        Stop at the first bad row with those before it written, or reject it and go on.
    on_progress : callable, optional
        Called after every batch.

    Raises
    ------
    RowError
        A row is bad and `on_error` is ``fail``.
    """
    try:
        sink.start(source, annotator.schema)
        n_before = 0
        for number, chunk in enumerate(source.chunks()):
            # What comes before the first bad row of a run that it ends is no whole chunk.
            is_whole = on_error == "skip" or not chunk.problems
            added = _Added(annotator, sink.journal if is_whole else None, number, on_progress)
            _annotate_chunk(chunk, source.n_before + n_before, sink, added, on_error)
            n_before += len(chunk)
        sink.commit()
    except BaseException:  # Ctrl-C, too, must leave what can be gone on with
        sink.abandon()
        raise


class _Added(Generic[ChunkT]):
    """Gets the added columns of a chunk: from an earlier run, else from the annotator."""

    def __init__(
        self,
        annotator: Annotator[ChunkT],
        journal: Journal | None,
        number: int,
        on_progress: Listener | None,
    ) -> None:
        self._annotator = annotator
        self._journal = journal
        self._number = number
        self._on_progress = on_progress

    def __call__(self, rows: ChunkT) -> tuple[pa.Table, dict[int, Problem]]:
        if self._journal is not None:
            known = self._journal.recall(self._number, rows)
            if known is not None:
                if self._on_progress is not None:
                    self._on_progress(len(rows), 0)
                return known
        table, failed = self._annotator.annotate(rows, on_progress=self._on_progress)
        added = table, {place: problem_of(error) for place, error in failed.items()}
        if self._journal is not None:
            with writing(self._journal.folder):
                self._journal.remember(self._number, rows, added)
        return added


def _annotate_chunk(
    chunk: ChunkT,
    n_before: int,
    sink: Sink,
    added_of: _Added[ChunkT],
    on_error: OnError,
) -> None:
    problems = dict(chunk.problems)
    good = [i for i in range(len(chunk)) if i not in problems]
    if on_error == "fail" and problems:  # rows after the first bad one would be work for nothing
        good = [i for i in good if i < min(problems)]
    if good:
        added, failed = added_of(chunk.take(good))
        problems.update({good[i]: problem for i, problem in failed.items()})
        if ROW in added.column_names:
            rows = [good[i] for i in added[ROW].to_pylist()]
            added = _with_rows(added, [n_before + position for position in rows])
        else:
            rows = [position for position in good if position not in problems]
        if on_error == "fail" and problems:
            rows = [i for i in rows if i < min(problems)]
            added = added.slice(0, len(rows))
        if rows:
            sink.write(chunk.take(rows), added)
    for position in sorted(problems):
        if on_error == "fail":
            raise row_error(chunk, position, problems[position])
        sink.reject(_reject(chunk, position, problems[position]))


def _with_rows(added: pa.Table, rows: list[int]) -> pa.Table:
    """Count the rows through the whole input."""
    place = added.schema.get_field_index(ROW)
    return added.set_column(place, added.schema.field(place), pa.array(rows, pa.int64()))


def problem_of(error: PromptError) -> Problem:
    """Say why a row got no columns."""
    # Without the index: it counts within the chunk, and the row's number is told instead.
    return Problem(error.code, SplineLLMError.__str__(error))


def row_error(chunk: Chunk, position: int, problem: Problem) -> RowError:
    """Say which row of which file is bad, and why."""
    return RowError(
        problem.reason,
        source=chunk.source,
        row=chunk.number(position),
        reason_code=problem.code,
    )


def _reject(chunk: Chunk, position: int, problem: Problem) -> dict[str, Any]:
    return {
        "row": chunk.number(position),
        "source": chunk.source,
        "code": problem.code,
        "reason": problem.reason,
        **chunk.rejected(position),
    }
