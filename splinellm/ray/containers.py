"""Batches as others hand them over: one column out, columns in, and the same kind back.

What a batch is, is known by what it can do, so that none of the libraries has to be installed. Only
the column of prompts is looked at: the others may be anything, and stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from splinellm.errors import ConfigurationError

WANTED = "give an Arrow table, a pandas frame, or a dict of lists or arrays"


def names_of(batch: Any) -> list[str]:
    """Names of the columns of a batch.

    Raises
    ------
    ConfigurationError
        It is no batch.
    """
    if isinstance(batch, pa.Table | pa.RecordBatch):
        return list(batch.schema.names)
    if isinstance(batch, Mapping):
        return [str(name) for name in batch]
    if _is_frame(batch):
        return [str(name) for name in batch.columns]
    raise ConfigurationError(f"a batch is no {type(batch).__name__}", hint=WANTED)


def values_of(batch: Any, name: str) -> list[Any]:
    """Values of a column, as plain Python; messages may be in arrays, as pandas has lists.

    Raises
    ------
    ConfigurationError
        There is no such column.
    """
    names = names_of(batch)
    if name not in names:
        listed = ", ".join(f"'{one[:40]}'" for one in names[:20]) or "none"
        raise ConfigurationError(
            f"the batch has no column '{name[:80]}', only: {listed}",
            hint="text_column or messages_column names the one with the prompts",
        )
    return plain(batch[name])


def plain(column: Any) -> list[Any]:
    """Values of a column of any kind."""
    for way in ("to_pylist", "tolist", "to_list"):  # Arrow and Daft; NumPy and pandas; polars
        if callable(found := getattr(column, way, None)):
            return [_plain(value) for value in found()]
    return [_plain(value) for value in column]


def is_column(batch: Any) -> bool:
    """Whether this is no batch, but one column: of Arrow, pandas or Daft."""
    is_series = type(batch).__name__ == "Series" and hasattr(type(batch), "from_arrow")
    return isinstance(batch, pa.Array | pa.ChunkedArray) or is_series


def records_like(column: Any, added: pa.Table) -> Any:
    """A column of records, of the same kind as the one that was given."""
    records = added.to_struct_array().combine_chunks()
    if isinstance(column, pa.Array):
        return records
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([records])
    made = type(column)
    if hasattr(column, "iloc"):  # pandas
        return made(records.to_pylist(), index=column.index)
    return made.from_arrow(records)


def with_columns(batch: Any, added: pa.Table) -> Any:
    """A batch of the same kind, with more columns; the one that was given stays as it is."""
    if isinstance(batch, pa.Table):
        for field, column in zip(added.schema, added.columns, strict=True):
            batch = batch.append_column(field, column)
        return batch
    if isinstance(batch, pa.RecordBatch):
        columns = [*batch.columns, *(column.combine_chunks() for column in added.columns)]
        return pa.RecordBatch.from_arrays(columns, schema=_joined(batch.schema, added.schema))
    if isinstance(batch, Mapping):
        are_arrays = any(isinstance(column, np.ndarray) for column in batch.values())
        made: Callable[[pa.ChunkedArray], Any] = _array if are_arrays else _list
        new = zip(added.column_names, map(made, added.columns), strict=True)
        return {**{name: batch[name] for name in batch}, **dict(new)}
    import pandas as pd

    series = {name: _series(added[name]) for name in added.column_names}
    # Not by assignment, which copies a frame of hundreds of columns once for each.
    return pd.concat([batch, pd.DataFrame(series, index=batch.index)], axis=1)


def _joined(mine: pa.Schema, added: pa.Schema) -> pa.Schema:
    return pa.schema([*mine, *added], metadata=mine.metadata)


def _is_frame(batch: Any) -> bool:
    return hasattr(batch, "columns") and hasattr(batch, "index") and hasattr(batch, "iloc")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers, flags and text as NumPy has them; lists of one length as one array."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        rows = [[np.nan] * kind.list_size if row is None else row for row in column.to_pylist()]
        return np.array(rows, np.float32).reshape(-1, kind.list_size)
    if pa.types.is_list(kind):
        return _objects(column.to_pylist())
    return np.asarray(column.to_numpy())


def _series(column: pa.ChunkedArray) -> Any:
    if pa.types.is_nested(column.type):
        return _objects(column.to_pylist())
    return column.to_pandas().to_numpy()


def _list(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if not pa.types.is_floating(column.type):
        return values
    return [np.nan if value is None else value for value in values]


def _objects(values: Sequence[Any]) -> np.ndarray:
    found = np.empty(len(values), dtype=object)  # asked for, NumPy would make lists a matrix
    found[:] = values
    return found
