"""How the columns of a Parquet file are encoded: of two ways, the one that makes it smaller.

A dictionary is small where few values occur, as of dimensions and of fine sign blocks. Means and
distances hardly occur twice: there zstd finds more in the numbers themselves, and most if bytes of
the same place lie side by side. Every reader knows both ways, and no value changes.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COMPRESSION = "zstd"


def encodings(piece: pa.Table, n_added: int) -> dict[str, Any]:
    """Options of pyarrow's writer, from a try of both ways.

    Parameters
    ----------
    piece : pa.Table
        The first rows of the file.
    n_added : int
        Columns of it, the last ones, that the run adds; only features of them are tried.
    """
    kinds = [_number(field.type) for field in piece.schema]
    tried = [place for place in range(len(kinds) - n_added, len(kinds)) if kinds[place] is not None]
    if not tried or not len(piece):
        return {}
    # Some readers lack the split of half precision, where the bytes' order is worth little.
    numbers = piece.select(tried)
    leaves = _leaves(numbers, use_dictionary=True)
    are_split = [kinds[place] == pa.float32() for place in tried]
    split = [leaf[0] for leaf, is_split in zip(leaves, are_split, strict=True) if is_split]
    others = _leaves(numbers, use_dictionary=False, use_byte_stream_split=split)
    smaller = {
        path for (path, n_bytes), (_, other) in zip(leaves, others, strict=True) if other < n_bytes
    }
    every = [path for path, _ in _leaves(piece.slice(0, 0))]
    return {
        "use_dictionary": [path for path in every if path not in smaller],
        "use_byte_stream_split": [path for path in split if path in smaller],
    }


def _number(kind: pa.DataType) -> pa.DataType | None:
    """Type of a column's numbers, if features are kept in such."""
    kind = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return kind if kind in (pa.float32(), pa.float16()) else None


def _leaves(table: pa.Table, **ways: Any) -> list[tuple[str, int]]:
    """Paths of Parquet's columns, of which a nested one of Arrow's has several, and their bytes."""
    found: list[pq.FileMetaData] = []
    pq.write_table(
        table, pa.BufferOutputStream(), compression=COMPRESSION, metadata_collector=found, **ways
    )
    if not found[0].num_row_groups:
        schema = found[0].schema
        return [(schema.column(place).path, 0) for place in range(len(schema))]
    group = found[0].row_group(0)
    columns = map(group.column, range(group.num_columns))
    return [(column.path_in_schema, column.total_compressed_size) for column in columns]
