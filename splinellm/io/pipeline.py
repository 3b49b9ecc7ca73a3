"""The loop from a source through an extractor into a sink. Knows no format and no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from splinellm.errors import PromptError, RowError, SplineLLMError
from splinellm.io.rows import Chunk, Problem, Source

if TYPE_CHECKING:
    from splinellm.io.sink import Sink
    from splinellm.provenance import Provenance
    from splinellm.table import FeatureTable

OnError = Literal["fail", "skip"]
Listener = Callable[[int, int], None]
"""Told how many prompts and tokens were done since it was last told."""


class Extractor(Protocol):
    """What the loop needs of :class:`splinellm.extraction.SplineExtractor`."""

    @property
    def provenance(self) -> Provenance:
        """What the features come from."""
        ...

    def extract_valid(
        self, prompts: Sequence[str], *, on_progress: Listener | None = None
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Features of the prompts that have some, and by index why the others have none."""
        ...


def extract_rows(
    source: Source,
    sink: Sink,
    extractor: Extractor,
    *,
    on_error: OnError = "fail",
    on_progress: Listener | None = None,
) -> None:
    """Write the features of every row; the sink counts the rows.

    Parameters
    ----------
    source : Source
        Where rows come from; left open.
    sink : Sink
        Where they go; committed, or abandoned if anything fails.
    extractor : Extractor
        Computes the features.
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
        sink.start(source, extractor.provenance)
        for chunk in source.chunks():
            _extract_chunk(chunk, sink, extractor, on_error, on_progress)
        sink.commit()
    except BaseException:  # Ctrl-C, too, must leave a readable file
        sink.abandon()
        raise


def _extract_chunk(
    chunk: Chunk,
    sink: Sink,
    extractor: Extractor,
    on_error: OnError,
    on_progress: Listener | None,
) -> None:
    problems = dict(chunk.problems)
    good = [i for i in range(len(chunk)) if i not in problems]
    if on_error == "fail" and problems:  # rows after the first bad one would be work for nothing
        good = [i for i in good if i < min(problems)]
    if good:
        features, failed = extractor.extract_valid(
            chunk.take(good).texts(), on_progress=on_progress
        )
        problems.update({good[i]: _problem(error) for i, error in failed.items()})
        good = [position for position in good if position not in problems]
        if on_error == "fail" and problems:
            good = [i for i in good if i < min(problems)]
            features = features[: len(good)]
        if good:
            sink.write(chunk.take(good), features)
    for position in sorted(problems):
        if on_error == "fail":
            raise _row_error(chunk, position, problems[position])
        sink.reject(_reject(chunk, position, problems[position]))


def _problem(error: PromptError) -> Problem:
    # Without the index: it counts within the chunk, and the row's number is told instead.
    return Problem(error.code, SplineLLMError.__str__(error))


def _row_error(chunk: Chunk, position: int, problem: Problem) -> RowError:
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
