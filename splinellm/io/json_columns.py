"""JSON values as Arrow columns, and any column value as JSON or CSV text.

JSON has no column types. Where the output needs them (Parquet, CSV), one pass over the file finds
for every key the narrowest type that keeps all its values exactly; keys with mixed or nested values
become strings that hold JSON text, marked as such in the field's metadata.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from enum import IntFlag, auto
from typing import Any

import pyarrow as pa

_JSON_TEXT = {b"splinellm.content": b"json"}
_LARGEST_EXACT = 1 << 53  # the largest integer up to which float64 holds every integer


class Kind(IntFlag):
    """What the values of a column are; a column may have several."""

    NULL = 0
    BOOL = auto()
    INTEGER = auto()
    WIDE_INTEGER = auto()  # fits int64, but not float64
    FLOAT = auto()
    STRING = auto()
    OTHER = auto()


def kind_of(value: object) -> Kind:
    """What one value is."""
    if value is None:
        return Kind.NULL
    if isinstance(value, str):
        return Kind.STRING
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, float):
        return Kind.FLOAT
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return Kind.INTEGER if abs(value) <= _LARGEST_EXACT else Kind.WIDE_INTEGER
    return Kind.OTHER


_TYPES = {
    Kind.NULL: pa.string(),
    Kind.BOOL: pa.bool_(),
    Kind.INTEGER: pa.int64(),
    Kind.WIDE_INTEGER: pa.int64(),
    Kind.INTEGER | Kind.WIDE_INTEGER: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.FLOAT | Kind.INTEGER: pa.float64(),
    Kind.STRING: pa.string(),
}


def type_of(kinds: Kind) -> pa.DataType | None:
    """Narrowest type that holds values of these kinds exactly; None if there is none."""
    return _TYPES.get(kinds)


class ColumnScan:
    """Columns of JSON objects, in the order in which they first appear."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def observe(self, record: Mapping[str, Any]) -> None:
        """Take one object into account."""
        for name, value in record.items():
            self._kinds[name] = self._kinds.get(name, Kind.NULL) | kind_of(value)

    def schema(self) -> pa.Schema:
        """Types that hold everything seen so far."""
        return pa.schema(
            pa.field(name, _TYPES[kinds])
            if kinds in _TYPES
            else pa.field(name, pa.string(), metadata=_JSON_TEXT)
            for name, kinds in self._kinds.items()
        )


def as_column(values: Sequence[Any], field: pa.Field) -> pa.Array:
    """Convert JSON values to the type that the scan found for their column."""
    if (field.metadata or {}).items() >= _JSON_TEXT.items():
        values = [None if value is None else to_json(value) for value in values]
    return pa.array(values, field.type)


def to_json(value: object, *, ascii_only: bool = False) -> str:
    """Serialise to strict JSON on one line.

    Parameters
    ----------
    value : object
        A value from JSON or Arrow. What JSON cannot say becomes text: dates in ISO 8601, bytes in
        base64, decimals in digits. NaN and infinities become null.
    ascii_only : bool
        Escape all other characters.
    """
    try:
        return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, default=_plain)
    except ValueError:  # only now look for the NaN: it is rare and the search is slow
        return json.dumps(finite(value), ensure_ascii=ascii_only, allow_nan=False)


def finite(value: Any) -> Any:
    """Put null in place of NaN and infinities, however deep inside."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value if value is None or isinstance(value, str | int) else _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    isoformat = getattr(value, "isoformat", None)  # dates, times, pandas' nanosecond versions
    return str(isoformat() if isoformat is not None else value)


def to_cell(value: object) -> str:
    """Write one value as the text of a CSV cell, in the way pyarrow's CSV writer does."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return repr(value)
    return to_json(value) if isinstance(value, list | tuple | dict) else _plain(value)
