"""A row for every row that was given: of those that could not be read, nulls and the reason."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from splinellm.io.rows import Problem
from splinellm.layout import N_TOKENS, TRUNCATED

ERROR = "error"
"""Name of the column that says why a row could not be read."""


def filled_schema(schema: pa.Schema, *, tells_errors: bool) -> pa.Schema:
    """Schema of columns with a row for every row that was given, and maybe of the reasons."""
    fields = [
        field if field.name in (N_TOKENS, TRUNCATED) else field.with_nullable(True)
        for field in schema
    ]
    if tells_errors:
        fields.append(pa.field(ERROR, pa.string(), nullable=False))
    return pa.schema(fields, metadata=schema.metadata)


def filled(
    table: pa.Table, problems: Mapping[int, Problem], n_rows: int, *, tells_errors: bool
) -> pa.Table:
    """Put the rows that could be read where they were given, and fill in the others.

    Parameters
    ----------
    table : pa.Table
        Of the good rows, in order, without nulls.
    problems : mapping of int to Problem
        The bad rows by position.
    n_rows : int
        All of them.
    tells_errors : bool
        Whether there is a column of reasons.
    """
    schema = filled_schema(table.schema, tells_errors=tells_errors)
    columns = list(table.columns)
    if problems:
        places = iter(range(len(table)))
        chosen = pa.array(
            [None if place in problems else next(places) for place in range(n_rows)], pa.int64()
        )
        columns = [column.combine_chunks().take(chosen) for column in columns]
        # Of types that never change from batch to batch: nothing was read of a bad row.
        for place, field in enumerate(schema):
            if field.name in (N_TOKENS, TRUNCATED):
                columns[place] = columns[place].fill_null(0 if field.name == N_TOKENS else False)
    if tells_errors:
        told = [_told(problems.get(place)) for place in range(n_rows)]
        columns.append(pa.array(told, pa.string()))
    return pa.Table.from_arrays(columns, schema=schema)


def _told(problem: Problem | None) -> str:
    return "" if problem is None else f"{problem.code}: {problem.reason}"
