"""How the numbers of a feature table are laid out in columns, and which columns belong to one.

``columns`` has a column for every layer and feature; ``list`` one of lists for every feature, with
a number for each layer, as SQL and data frames like it; ``tensor`` is an archive's: one array by
prompt, layer and feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from splinellm.errors import TableFormatError
from splinellm.precision import PRECISION_KEY, Precision, described, kind_of, restored, stored
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, FeatureSelection, Granularity, is_feature_column
from splinellm.token_index import token_schema

N_TOKENS = "n_tokens"
TRUNCATED = "truncated"
PROVENANCE_KEY = b"splinellm.provenance"
"""Key of the provenance in Arrow and Parquet schema metadata."""
LAYOUT_KEY = b"splinellm.layout"
"""Key of a layout that the columns themselves do not tell."""

Layout = Literal["columns", "list", "tensor"]
NameT = TypeVar("NameT")
LAYOUTS: tuple[Layout, ...] = ("columns", "list", "tensor")


def is_own_column(name: object) -> bool:
    """Whether a column of this name belongs to a feature table."""
    return name in (N_TOKENS, TRUNCATED) or (isinstance(name, str) and is_feature_column(name))


def belongs(name: object, provenance: Provenance, layout: Layout = "columns") -> bool:
    """Whether a column of this name belongs to the table that `provenance` describes."""
    # A table of prompts may stand beside columns of the user's that are called as a token's are.
    has_tokens = provenance.granularity != "prompt"
    names = token_schema(messages=True).names
    is_list = layout == "list" and name in provenance.features
    return is_own_column(name) or is_list or (has_tokens and name in names)


def schema_of(provenance: Provenance) -> FeatureSchema:
    """Schema of the table that `provenance` describes."""
    return provenance.schema


def list_columns(features: str, granularity: Granularity) -> tuple[str, ...]:
    """Names that features have as columns of lists."""
    return FeatureSelection.parse(features).at(granularity).names


def layout_of(names: Sequence[str], provenance: Provenance) -> Layout:
    """Layout of a table that has columns of these names."""
    known = set(names)
    is_list = schema_of(provenance).names[0] not in known and known.issuperset(provenance.features)
    return "list" if is_list else "columns"


def own_columns(names: Iterable[NameT], provenance: Provenance) -> list[NameT]:
    """Those names of columns, in their order, that belong to the table of `provenance`."""
    known = list(names)
    layout = layout_of([name for name in known if isinstance(name, str)], provenance)
    return [name for name in known if belongs(name, provenance, layout)]


def value_names(provenance: Provenance, layout: Layout) -> tuple[str, ...]:
    """Names of the columns that hold the values."""
    return provenance.features if layout == "list" else schema_of(provenance).names


def arrow_schema(
    provenance: Provenance, *, messages: bool = False, layout: Layout = "columns"
) -> pa.Schema:
    """Arrow schema of the table that `provenance` describes, with it in the metadata.

    `messages` says whether prompts are conversations, whose tokens have more columns.
    """
    by_prompt = provenance.granularity == "prompt"
    kind = pa.float32()
    if layout == "list":
        kind = pa.list_(pa.field("item", kind, nullable=False), len(provenance.layers))
    metadata = {PROVENANCE_KEY: provenance.to_json().encode()}
    return pa.schema(
        [
            *([] if by_prompt else token_schema(messages=messages)),
            pa.field(N_TOKENS, pa.int64(), nullable=False),
            pa.field(TRUNCATED, pa.bool_(), nullable=False),
            *(pa.field(n, kind, nullable=False) for n in value_names(provenance, layout)),
        ],
        metadata=metadata | {LAYOUT_KEY: b"tensor"} if layout == "tensor" else metadata,
    )


def value_columns(values: np.ndarray, provenance: Provenance, layout: Layout) -> list[pa.Array]:
    """Columns of the values, shape (N, L * F)."""
    if layout != "list":
        return [pa.array(column) for column in np.ascontiguousarray(values.T)]
    n_layers, n_features = len(provenance.layers), len(provenance.features)
    by_feature = values.reshape(len(values), n_layers, n_features).transpose(2, 0, 1)
    kind = pa.list_(pa.field("item", pa.float32(), nullable=False), n_layers)
    return [
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(one).ravel()), type=kind)
        for one in by_feature
    ]


def kind_of_column(name: str, provenance: Provenance) -> Precision | None:
    """Type in which a column is kept; None if it is none of features'."""
    if is_feature_column(name):
        return kind_of(name.partition(".")[2], provenance.precision)
    return kind_of(name, provenance.precision) if name in provenance.features else None


def stored_schema(added: pa.Schema) -> pa.Schema:
    """Schema of the columns that a run adds, in a file that keeps them rounded.

    Parameters
    ----------
    added : pa.Schema
        As :func:`arrow_schema` makes it; what has no provenance, as predictions, is kept as it is.
    """
    metadata = added.metadata or {}
    provenance = (
        Provenance.from_json(metadata[PROVENANCE_KEY]) if PROVENANCE_KEY in metadata else None
    )
    if provenance is None or provenance.precision == "float32":
        return added
    fields = []
    for field in added:
        kind = kind_of_column(field.name, provenance)
        fields.append(field if kind is None else field.with_type(_stored_type(field.type, kind)))
    return pa.schema(fields, metadata | {PRECISION_KEY: described(provenance.precision)})


def stored_columns(added: pa.Table, schema: pa.Schema) -> list[pa.ChunkedArray]:
    """Columns that a run adds, as a schema of :func:`stored_schema` has them."""
    return [
        column if column.type == field.type else pa.chunked_array([_stored(column, field.type)])
        for column, field in zip(added.columns, schema, strict=True)
    ]


def _stored_type(kind: pa.DataType, number: Precision) -> pa.DataType:
    stored_as = pa.type_for_alias(number)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", stored_as, nullable=False), kind.list_size)
    return stored_as


def _stored(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    is_list = pa.types.is_fixed_size_list(kind)
    array = column.combine_chunks()
    numbers = np.asarray((array.flatten() if is_list else array).to_numpy(zero_copy_only=False))
    number: Precision = (
        "uint8" if pa.types.is_uint8(kind.value_type if is_list else kind) else "float16"
    )
    codes = pa.array(stored(numbers, number))
    return pa.FixedSizeListArray.from_arrays(codes, type=kind) if is_list else codes


def read_values(table: pa.Table, provenance: Provenance) -> np.ndarray:
    """Values of an Arrow table in either layout, shape (N, L * F), float32.

    Raises
    ------
    TableFormatError
        A column is missing, or a value of it; or it is of other layers.
    """
    names = schema_of(provenance).names
    layout = layout_of(table.column_names, provenance)
    present = set(table.column_names)  # built anew at each access, of a thousand names
    wanted = value_names(provenance, layout)
    for name in (N_TOKENS, TRUNCATED, *wanted):
        if name not in present:
            raise TableFormatError(f"column '{name}' is missing")
    found = tuple(name for name in table.column_names if is_feature_column(name))
    if found != (() if layout == "list" else names):
        raise TableFormatError("the feature columns are not those of the provenance record")
    if any(table[name].null_count for name in (N_TOKENS, TRUNCATED, *wanted)):
        raise TableFormatError("the table has missing values")
    values = np.empty((table.num_rows, len(names)), np.float32)
    for position, name in enumerate(wanted):
        place: int | slice = position
        if layout == "list":
            numbers = _lists(table[name], name, len(provenance.layers))
            place = slice(position, None, len(wanted))
        else:
            numbers = table[name].to_numpy()
        is_code = provenance.precision == "uint8" and numbers.dtype == np.uint8
        values[:, place] = restored(numbers) if is_code else numbers
    return values


def _lists(column: pa.ChunkedArray, name: str, n_layers: int) -> np.ndarray:
    """Numbers of a column of lists, shape (N, L)."""
    if not len(column):
        return np.empty((0, n_layers), np.float32)
    kind = column.type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        raise TableFormatError(f"column '{name}' is {kind}, and holds no lists")
    if not pc.all(pc.equal(pc.list_value_length(column), n_layers)).as_py():
        raise TableFormatError(f"column '{name}' has lists of other layers than {n_layers}")
    flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks])
    if flat.null_count:
        raise TableFormatError("the table has missing values")
    return np.asarray(flat.to_numpy()).reshape(-1, n_layers)
