"""Writers of CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa

from splinellm.io.json_columns import to_cell, to_json
from splinellm.table import N_TOKENS, TRUNCATED, FeatureTable, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from splinellm.io.rows import Chunk
    from splinellm.provenance import Provenance


class CsvWriter:
    """CSV with a header; null is an empty value.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema
        Input columns.
    provenance : Provenance
        Of the features.
    """

    needs_schema: ClassVar[bool] = True
    needs_sidecar: ClassVar[bool] = True
    keeps_whole_rows: ClassVar[bool] = True

    def __init__(self, file: BinaryIO, columns: pa.Schema, provenance: Provenance) -> None:
        self._columns = columns
        self._file = file
        names = schema_of(provenance).names
        self._write_rows([[*columns.names, N_TOKENS, TRUNCATED, *names]])

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows."""
        table = rows.to_arrow(self._columns)
        inputs = [map(to_cell, column.to_pylist()) for column in table.columns]
        numbers = float_texts(features.values)
        added = zip(features.n_tokens.tolist(), features.truncated.tolist(), strict=True)
        self._write_rows(
            [*cells, n_tokens, to_cell(truncated), *values]
            for *cells, (n_tokens, truncated), values in zip(*inputs, added, numbers, strict=True)
        )

    def close(self) -> None:
        """Nothing is left to do."""

    def _write_rows(self, rows: Iterable[Iterable[object]]) -> None:
        text = _UnixLines(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode("utf-8"))


class _UnixLines(io.StringIO):
    r"""Ends rows with \n.

    The csv module would do that itself, but then leaves values with a bare \r unquoted, which no
    reader puts together again.
    """

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


class JsonlWriter:
    """One JSON object a line, input values as they were read.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    columns : pa.Schema, optional
        Not needed.
    provenance : Provenance
        Of the features.
    """

    needs_schema: ClassVar[bool] = False
    needs_sidecar: ClassVar[bool] = True
    keeps_whole_rows: ClassVar[bool] = True

    def __init__(self, file: BinaryIO, columns: pa.Schema | None, provenance: Provenance) -> None:  # noqa: ARG002 (the protocol's)
        self._file = file
        names = schema_of(provenance).names
        self._keys = [json.dumps(name) + ": " for name in (N_TOKENS, TRUNCATED, *names)]

    def write(self, rows: Chunk, features: FeatureTable) -> None:
        """Append rows."""
        added = zip(
            rows.records(),
            features.n_tokens.tolist(),
            features.truncated.tolist(),
            float_texts(features.values),
            strict=True,
        )
        lines = []
        for record, n_tokens, truncated, values in added:
            texts = (str(n_tokens), to_cell(truncated), *values)
            pairs = ", ".join(key + text for key, text in zip(self._keys, texts, strict=True))
            lines.append(f"{to_json(record)[:-1]}, {pairs}}}\n")
        self._file.write("".join(lines).encode("utf-8"))

    def close(self) -> None:
        """Nothing is left to do."""


def float_texts(values: np.ndarray) -> list[list[str]]:
    """Shortest decimal numbers that read back as the same float32.

    Parameters
    ----------
    values : ndarray, shape (N, M), float32
        All finite.

    Returns
    -------
    list of list of str
        Whole numbers keep a ``.0``: readers that guess a column's type from its first values
        would otherwise take it for integers.
    """
    texts = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(pa.string()).to_pylist()
    width = values.shape[1]
    texts = [text if "." in text or "e" in text else text + ".0" for text in texts]
    return [texts[i * width : (i + 1) * width] for i in range(len(values))]
