"""FeatureTable, the project's narrow waist.

Everything above it (models, hooks, batches) produces one; everything below (files, HTTP,
scikit-learn) consumes one and knows nothing of torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from splinellm.errors import TableFormatError
from splinellm.layout import (
    N_TOKENS,
    PROVENANCE_KEY,
    TRUNCATED,
    Layout,
    arrow_schema,
    belongs,
    is_own_column,
    own_columns,
    read_values,
    schema_of,
    value_columns,
)
from splinellm.precision import Precision, require_coarser, rounded
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, feature_items, kept_layers, parse_layers
from splinellm.table_views import Aligned, aligned, as_html, described
from splinellm.token_index import TokenIndex

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "N_TOKENS",
    "PROVENANCE_KEY",
    "TRUNCATED",
    "FeatureTable",
    "arrow_schema",
    "belongs",
    "is_own_column",
    "schema_of",
]


@dataclass(frozen=True, eq=False, repr=False)
class FeatureTable:
    """Features of N prompts, of their prefixes or of their tokens, in the prompts' order.

    Parameters
    ----------
    values : ndarray, shape (N, L * F), float32
        All finite.
    n_tokens : ndarray, shape (N,), int64
        Tokens read of each prompt; of a prefix, its own.
    truncated : ndarray, shape (N,), bool
        Whether the prompt was longer than the provenance's ``max_tokens``.
    provenance : Provenance
        What the numbers come from; gives the columns their names.
    tokens : TokenIndex, optional
        Which tokens the rows stand for, unless they stand for prompts.
    """

    values: np.ndarray
    n_tokens: np.ndarray
    truncated: np.ndarray
    provenance: Provenance
    tokens: TokenIndex | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) != (self.provenance.granularity == "prompt"):
            raise TableFormatError(
                f"rows of granularity {self.provenance.granularity} come "
                f"{'without' if self.tokens is None else 'with'} tokens"
            )
        if self.tokens is not None and len(self.tokens) != len(self.n_tokens):
            raise TableFormatError(
                f"{len(self.tokens)} tokens do not fit {len(self.n_tokens)} rows"
            )
        expected = (len(self.n_tokens), len(self.names))
        if self.values.shape != expected or len(self.truncated) != expected[0]:
            raise TableFormatError(
                f"values of shape {self.values.shape} do not fit {expected[0]} rows "
                f"of {expected[1]} features"
            )
        if self.values.dtype != np.float32:
            raise TableFormatError(f"the values are {self.values.dtype}, not float32")
        if not np.isfinite(self.values).all():
            raise TableFormatError("the table has values that are not finite")

    def __len__(self) -> int:
        return len(self.n_tokens)

    def __repr__(self) -> str:
        return described(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The values, shape (N, L * F); :attr:`array` has them by layer and feature."""
        values = self.values if dtype is None else self.values.astype(dtype, copy=False)
        if copy is False and values is not self.values:
            raise ValueError(f"the values are float32; as {np.dtype(dtype)} they are a copy")
        return values.copy() if copy and values is self.values else values

    def __iter__(self) -> Iterator[FeatureTable]:
        """Tables of one row each."""
        return (self[position] for position in range(len(self)))

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> FeatureTable:
        """Select rows by number, slice, boolean mask or integers; one row is a table of one.

        Raises
        ------
        IndexError
            There is no such row.
        TableFormatError
            It is no row, but the name of a column.
        """
        if isinstance(rows, str | tuple):
            raise TableFormatError(
                "rows are selected by number, slice or mask",
                hint="select(layers, features) selects columns, to_pandas() has them by name",
            )
        if isinstance(rows, int | np.integer) and not isinstance(rows, bool):
            number = int(rows)
            if not -len(self) <= number < len(self):
                raise IndexError(f"row {number} of a table of {len(self)}")
            rows = [number]
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = rows.astype(np.int64) if not rows.size else rows
        return replace(
            self,
            values=self.values[rows],
            n_tokens=self.n_tokens[rows],
            truncated=self.truncated[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
        )

    def select(
        self,
        layers: str | int | Iterable[int] | None = None,
        features: str | Iterable[str] | None = None,
    ) -> FeatureTable:
        """Keep some layers and features: the same numbers that asking for them alone gives.

        Parameters
        ----------
        layers : str, int or iterable of int, optional
            As :func:`splinellm.schema.parse_layers` reads them; all by default.
        features : str or iterable of str, optional
            Names without their layer, in a string separated by commas; all by default.

        Raises
        ------
        SchemaError
            The model has no such layer, or a list is of something else.
        TableFormatError
            The table lacks one of them.
        """
        mine = self.provenance
        if layers is not None:
            layers = _read_layers(layers, mine.n_layers)
        wanted = set(mine.features if features is None else feature_items(features))
        provenance = mine.narrowed(layers, wanted)
        position = {name: i for i, name in enumerate(self.names)}
        names = schema_of(provenance).names
        if missing := next((name for name in names if name not in position), None):
            raise TableFormatError(f"the table has no column '{missing}'")
        if unknown := sorted(wanted.difference(self.provenance.features)):
            raise TableFormatError(f"the table has no feature '{unknown[0]}'")
        columns = [position[name] for name in names]
        return replace(self, values=self.values[:, columns], provenance=provenance)

    def rounded(self, precision: Precision) -> FeatureTable:
        """Round the features, for smaller files; see :mod:`splinellm.precision`.

        Parquet and Arrow keep ``float16`` and ``uint8`` as such, ``.npz`` ``float16``.

        Raises
        ------
        TableFormatError
            A number is too large for half precision, or all are coarser already.
        """
        require_coarser(self.provenance.precision, precision)
        values = rounded(self.values, self.provenance.features, precision)
        if not (is_held := np.isfinite(values)).all():
            row, column = np.argwhere(~is_held)[0]
            raise TableFormatError(
                f"{self.names[column]} of row {row} is {self.values[row, column]:g}, "
                f"too large for {precision}",
                hint="keep float32",
            )
        return replace(
            self, values=values, provenance=replace(self.provenance, precision=precision)
        )

    def align(self, other: FeatureTable) -> Aligned:
        """Reduce this table and another one to the layers and features that both have.

        So tables of different models, or of different settings, can be compared. What is left out
        is told in an :class:`~splinellm.errors.AlignmentWarning`, and in the result's ``dropped``.

        Parameters
        ----------
        other : FeatureTable
            With any number of rows.

        Returns
        -------
        Aligned
            Unpacks to this table and the other.

        Raises
        ------
        TableFormatError
            They have nothing in common, or rows that stand for different things.
        """
        if not isinstance(other, FeatureTable):
            raise TableFormatError(
                f"a table is aligned with another one, not {type(other).__name__}"
            )
        return aligned(self, other)

    @property
    def schema(self) -> FeatureSchema:
        """Names and order of the columns."""
        return schema_of(self.provenance)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, as ``layer_07.sign_mean``."""
        return self.schema.names

    @property
    def array(self) -> np.ndarray:
        """The values as (N, L, F), a view."""
        return self.values.reshape(len(self), *self.schema.shape)

    @classmethod
    def concatenate(cls, tables: Sequence[FeatureTable]) -> FeatureTable:
        """Stack tables with the same fingerprint.

        Raises
        ------
        TableFormatError
            There is no table, or two of them are not comparable.
        """
        if not tables:
            raise TableFormatError("there is no table to concatenate")
        source = tables[0].provenance
        for table in tables[1:]:
            if difference := source.first_difference(table.provenance, within=True):
                raise TableFormatError(f"the tables are not comparable: {difference}")
            source = source.joined(table.provenance)
        return cls(
            np.concatenate([table.values for table in tables]),
            np.concatenate([table.n_tokens for table in tables]),
            np.concatenate([table.truncated for table in tables]),
            source,
            TokenIndex.concatenate([t.tokens for t in tables if t.tokens is not None])
            if tables[0].tokens is not None
            else None,
        )

    # Arrow is the hub: pandas and every file format go through it.

    def to_arrow(self, layout: Layout = "columns") -> pa.Table:
        """Columns ``n_tokens``, ``truncated`` and the features; provenance in the metadata.

        With the layout ``list``, every feature is one column of lists, of a number for each layer.

        Rows that stand for tokens or prefixes begin with ``row``, ``position``, ``token``,
        ``begin`` and ``end``, and where prompts are conversations ``role`` and ``message``; see
        :class:`splinellm.token_index.TokenIndex`.
        """
        columns = [
            *([] if self.tokens is None else self.tokens.to_arrow().columns),
            pa.array(self.n_tokens, pa.int64()),
            pa.array(self.truncated, pa.bool_()),
            *value_columns(self.values, self.provenance, layout),
        ]
        has_messages = self.tokens is not None and self.tokens.has_messages
        schema = arrow_schema(self.provenance, messages=has_messages, layout=layout)
        return pa.Table.from_arrays(columns, schema=schema)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> FeatureTable:
        """Read the feature columns of an Arrow table, whatever other columns it has.

        Raises
        ------
        TableFormatError
            Provenance or a column is missing, or a value is null or not finite.
        """
        metadata = table.schema.metadata or {}
        if PROVENANCE_KEY not in metadata:
            raise TableFormatError(
                "the table carries no splinellm provenance",
                hint="extract with -o FILE.parquet, which keeps it",
            )
        return cls.from_columns(table, Provenance.from_json(metadata[PROVENANCE_KEY]))

    @classmethod
    def from_columns(cls, table: pa.Table, provenance: Provenance) -> FeatureTable:
        """Read the feature columns of an Arrow table, made as `provenance` says."""
        try:
            values = read_values(table, provenance)
            n_tokens = table[N_TOKENS].cast(pa.int64()).to_numpy()
            truncated = table[TRUNCATED].cast(pa.bool_()).to_numpy()
            tokens = None
            if provenance.granularity != "prompt":
                tokens = TokenIndex.from_arrow(table)
        except (ValueError, KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TableFormatError(f"a column has the wrong type: {error}") from error
        return cls(values, n_tokens, truncated, provenance, tokens)

    def to_pandas(self) -> pd.DataFrame:
        """One row per prompt; the provenance rides in ``DataFrame.attrs``."""
        frame = self.to_arrow().to_pandas()
        frame.attrs["splinellm.provenance"] = self.provenance.to_json()
        return frame

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame, provenance: Provenance | None = None) -> FeatureTable:
        """Read the feature columns of a data frame.

        Parameters
        ----------
        frame : DataFrame
            With the columns that :meth:`to_pandas` makes, and any others.
        provenance : Provenance, optional
            Taken from ``frame.attrs`` when not given.
        """
        if provenance is None:
            if "splinellm.provenance" not in frame.attrs:
                raise TableFormatError("the frame carries no splinellm provenance")
            provenance = Provenance.from_json(frame.attrs["splinellm.provenance"])
        mine = frame[own_columns(frame.columns, provenance)]
        return cls.from_columns(pa.Table.from_pandas(mine, preserve_index=False), provenance)

    # Doors to splinellm.io, where each file format has its module and its record.

    def to_parquet(self, path: str | PathLike[str], layout: Layout = "columns") -> None:
        """Write Parquet, as ``columns`` or ``list``; the provenance is in the file's metadata."""
        _write(self, path, "parquet", layout)

    @classmethod
    def from_parquet(cls, path: str | PathLike[str]) -> FeatureTable:
        """Read what :meth:`to_parquet` or ``splinellm extract`` wrote."""
        return _read(path, "parquet")

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write CSV with a header, and the provenance to ``PATH.provenance.json``."""
        _write(self, path, "csv")

    @classmethod
    def from_csv(
        cls, path: str | PathLike[str], provenance: Provenance | None = None
    ) -> FeatureTable:
        """Read what :meth:`to_csv` or ``splinellm extract`` wrote."""
        return _read(path, "csv", provenance)

    def to_jsonl(self, path: str | PathLike[str], layout: Layout = "columns") -> None:
        """Write one JSON object a line, and the provenance to ``PATH.provenance.json``."""
        _write(self, path, "jsonl", layout)

    @classmethod
    def from_jsonl(
        cls, path: str | PathLike[str], provenance: Provenance | None = None
    ) -> FeatureTable:
        """Read what :meth:`to_jsonl` or ``splinellm extract`` wrote."""
        return _read(path, "jsonl", provenance)

    def to_npz(self, path: str | PathLike[str], layout: Layout = "columns") -> None:
        """Write a compressed NumPy archive: values, names, n_tokens, truncated, provenance.

        With the layout ``tensor``, values have the shape (N, L, F), and layers and features are
        named beside them.
        """
        _write(self, path, "npz", layout)

    @classmethod
    def from_npz(cls, path: str | PathLike[str]) -> FeatureTable:
        """Read what :meth:`to_npz` or ``splinellm extract`` wrote; never unpickles."""
        return _read(path, "npz")


def _write(
    table: FeatureTable, path: str | PathLike[str], kind: str, layout: Layout = "columns"
) -> None:
    from splinellm.io.feature_files import write_features  # upward; pyproject.toml says why

    write_features(table, path, format=kind, layout=layout)


def _read(
    path: str | PathLike[str], kind: str, provenance: Provenance | None = None
) -> FeatureTable:
    from splinellm.io.feature_files import read_features

    return read_features(path, provenance, format=kind)


def _read_layers(layers: str | int | Iterable[int], n_layers: int) -> tuple[int, ...]:
    """Layers of a selection, of which there may be none: a table without columns."""
    kept = kept_layers(layers)
    return () if kept == () else parse_layers(kept, n_layers)
