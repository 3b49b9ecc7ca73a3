"""JSON as RFC 8259 has it: what Python's own reader lets through besides is refused.

Python reads ``NaN`` and infinities, turns 1e999 into one, keeps the last of equal keys, and nests
until its stack ends. Lone surrogates pass here: who reads knows which value to name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, NoReturn

_EXACT_CHARS = 17
"""A number of so many characters is the same when it was read as a float and is written again."""


class RoundedFloat(float):
    """A number whose digits say more than a float holds."""


def loads(
    text: str,
    *,
    max_depth: int,
    unique_keys: bool = False,
    on_constant: Callable[[str], Any] | None = None,
) -> Any:
    """Parse one value.

    Parameters
    ----------
    text : str
        The value, and white space.
    max_depth : int
        Levels of nesting.
    unique_keys : bool
        Refuse objects that have a key twice.
    on_constant : callable, optional
        Makes a value of the words ``NaN``, ``Infinity`` and ``-Infinity``, and of numbers as
        large as 1e999, for which it is told one of the latter. They are refused by default.

    Raises
    ------
    ValueError
        The text is no such JSON; a json.JSONDecodeError where it is not JSON at all.
    RecursionError
        The value is nested too deeply.
    """
    value = decoder(unique_keys=unique_keys, on_constant=on_constant).decode(text)
    check_depth(value, text.count("[") + text.count("{"), max_depth)
    return value


def decoder(
    *,
    unique_keys: bool = False,
    on_constant: Callable[[str], Any] | None = None,
    on_rounded: Callable[[], object] | None = None,
) -> json.JSONDecoder:
    """Make what :func:`loads` decodes with, for who decodes often, or one value of many.

    With `on_rounded`, which is called then, a number that a float cannot hold is a
    :class:`RoundedFloat`. It bounds the nesting by Python's stack alone; see :func:`check_depth`.
    """
    return json.JSONDecoder(
        parse_constant=on_constant or _refuse_constant,
        parse_float=_finite_float if on_constant is None else _float_or(on_constant, on_rounded),
        object_pairs_hook=_unique_keys if unique_keys else None,
    )


def check_depth(value: Any, n_containers: int, max_depth: int) -> None:
    """Refuse a value that is nested too deeply.

    Parameters
    ----------
    value : object
        Made of JSON.
    n_containers : int
        How many lists and objects it has, at most; a value with few is not searched.
    max_depth : int
        Levels of nesting.

    Raises
    ------
    RecursionError
        There are more.
    """
    if n_containers <= max_depth:
        return
    level = [value]
    for _ in range(max_depth):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise RecursionError


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is too large for a float")
    return value


def _float_or(
    on_constant: Callable[[str], Any], on_rounded: Callable[[], object] | None
) -> Callable[[str], Any]:
    def parse(digits: str) -> Any:
        value = float(digits)
        if not math.isfinite(value):
            return on_constant("Infinity" if value > 0 else "-Infinity")
        if on_rounded is None or (value and len(digits) <= _EXACT_CHARS):
            return value
        if _is_rounded(digits, value):
            on_rounded()
            return RoundedFloat(value)
        return value

    return parse


def _is_rounded(digits: str, value: float) -> bool:
    """Whether these are neither a float's shortest digits nor any number of its exact ones."""
    given = Decimal(digits)
    if given == Decimal(repr(value)):
        return False
    exact = Context(prec=max(1, len(given.as_tuple().digits))).create_decimal(Decimal(value))
    return given != exact


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object has the same key twice")
    return values
