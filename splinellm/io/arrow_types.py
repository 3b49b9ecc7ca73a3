"""Kinds of the same thing among Arrow's types, and the one that holds every value of two."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

_NANOSECONDS = pa.time64("ns")


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings, in any of Arrow's layouts."""
    kind = _plain(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Type that holds every value of both exactly, or None.

    Strings of different layout become plain ones, numbers of different width the wider ones, and a
    column without any value becomes what the other is. Integers never become floats.
    """
    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    if types.is_dictionary(one) or types.is_dictionary(other):
        return common_type(_plain(one), _plain(other))
    if is_text(one) and is_text(other):
        is_large = types.is_large_string(one) or types.is_large_string(other)
        return pa.large_string() if is_large else pa.string()
    if _is_bytes(one) and _is_bytes(other):
        is_large = types.is_large_binary(one) or types.is_large_binary(other)
        return pa.large_binary() if is_large else pa.binary()
    if types.is_integer(one) and types.is_integer(other):
        return _common_integer(one, other)
    if types.is_floating(one) and types.is_floating(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    if is_list(one) and is_list(other):
        inner = common_type(one.value_type, other.value_type)
        is_large = types.is_large_list(one) or types.is_large_list(other)
        return None if inner is None else (pa.large_list if is_large else pa.list_)(inner)
    return None


def with_exact_times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times of day in nanoseconds as text: Python's own end with microseconds, silently."""
    if column.type == _NANOSECONDS:
        texts = column.cast(pa.string())
        # As Python writes times: no fraction, six digits, or, where it must be, nine.
        for surplus in (r"000$", r"\.000000$"):
            texts = pc.replace_substring_regex(texts, surplus, "")
        return texts
    kind = _with_text_times(column.type)
    return column if kind == column.type else column.cast(kind)


def _with_text_times(kind: pa.DataType) -> pa.DataType:
    if kind == _NANOSECONDS:
        return pa.string()
    if is_list(kind):
        make = pa.large_list if types.is_large_list(kind) else pa.list_
        return make(kind.value_field.with_type(_with_text_times(kind.value_type)))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_with_text_times(field.type)) for field in kind])
    return kind


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, long or not."""
    return bool(types.is_list(kind) or types.is_large_list(kind))


def _common_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if types.is_signed_integer(one) == types.is_signed_integer(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    signed, unsigned = (one, other) if types.is_signed_integer(one) else (other, one)
    width = max(signed.bit_width, 2 * unsigned.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width)
