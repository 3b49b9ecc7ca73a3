"""Types of CSV columns, told by all of their values; a value never changes for it.

A column is of integers, floats or booleans if every value that is not empty is written as one, and
can be had back as it was written. Everything else stays text: dates, numbers with leading zeros, a
plus sign, spaces or separators of thousands, hexadecimal ones, integers beyond 64 bits, numbers
with more digits than a float holds or too large for it, NaN, and columns with values of two kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

import pyarrow as pa

from splinellm.io.json_columns import Kind, kind_of, type_of

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FLOAT = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][-+]?[0-9]{1,6})?|[eE][-+]?[0-9]{1,6})"
    r"|\.[0-9]+(?:[eE][-+]?[0-9]{1,6})?)|-0"
)
_FLAGS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_BEGINNINGS = frozenset("-.0123456789tTfF")
_LARGEST = 1 << 63
_ALWAYS_HELD = 15
"""So many decimal digits survive in every float that is neither tiny nor huge."""
_MOST_DIGITS = 800
"""No float has more."""


def value_of(cell: str) -> str | int | float | bool | None:
    """What a cell stands for if it stood alone; None if it is empty, itself if it is text."""
    if not cell:
        return None
    if cell[0] not in _BEGINNINGS:
        return cell
    if cell in _FLAGS:
        return _FLAGS[cell]
    if _INTEGER.fullmatch(cell):
        number = int(cell)
        return number if -_LARGEST <= number < _LARGEST else cell
    if _FLOAT.fullmatch(cell) and _is_held(cell, value := float(cell)):
        return value
    return cell


def _is_held(cell: str, value: float) -> bool:
    """Whether the float, written as programs do, is the cell again: as short, or as long, as it."""
    if not isfinite(value):
        return False
    digits = _digits(cell)
    if not digits:  # zero, in whatever way
        return True
    if len(digits) <= _ALWAYS_HELD and 1e-290 < abs(value) < 1e290:
        return True
    if len(digits) > _MOST_DIGITS:
        return False
    as_long = _digits(f"{value:.{len(digits) - 1}e}")
    return digits == as_long or digits.rstrip("0") == _digits(repr(value)).rstrip("0")


def _digits(number: str) -> str:
    return number.lower().partition("e")[0].lstrip("-").replace(".", "").lstrip("0")


class CellScan:
    """Kinds of the values in some columns.

    Parameters
    ----------
    names : iterable of str
        The columns.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._kinds = dict.fromkeys(names, Kind.NULL)
        self._open = list(self._kinds)

    def observe(self, values: Mapping[str, str]) -> bool:
        """Take a row into account; tells whether all columns are text, whatever else comes."""
        decided = False
        for name in self._open:
            kinds = self._kinds[name] | kind_of(value_of(values[name]))
            self._kinds[name] = kinds
            decided |= not _is_type(kinds)
        if decided:
            self._open = [name for name in self._open if _is_type(self._kinds[name])]
        return not self._open

    def types(self) -> dict[str, pa.DataType]:
        """Columns that are more than text."""
        found = {name: type_of(kinds) for name, kinds in self._kinds.items()}
        return {n: t for n, t in found.items() if t is not None and not pa.types.is_string(t)}


def _is_type(kinds: Kind) -> bool:
    return type_of(kinds) is not None and Kind.STRING not in kinds


def converter(kind: pa.DataType) -> Callable[[str], Any]:
    """What makes a value of a column's type of a cell; a ValueError or KeyError if none can."""
    if pa.types.is_boolean(kind):
        return lambda cell: _FLAGS[cell] if cell else None
    number = int if pa.types.is_integer(kind) else float
    return lambda cell: number(cell) if cell else None
