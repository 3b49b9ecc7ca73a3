"""Parameters of public functions: their types are checked, numbers become Python's own."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np

from splinellm.errors import ConfigurationError


def listed(name: str, value: Any) -> str | tuple[Any, ...]:
    """Check a parameter that is a string or a collection (an iterator would be used up once)."""
    if isinstance(value, str):
        return str.__str__(value)  # of enumerations, too, what they are equal to
    if not isinstance(value, Collection):
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}", hint="give a string or a list"
        )
    return tuple(value)


def text(name: str, value: Any, *, hint: str | None = None) -> str:
    """Check a parameter that is a string."""
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}, not a string", hint=hint
        )
    return str.__str__(value)


def whole(name: str, value: Any) -> int | None:
    """Check a parameter that is a whole number or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigurationError(f"{name} is of type {type(value).__name__}, not a whole number")
    return int(value)


def whole_from(least: int, name: str, value: Any) -> int:
    """Check a parameter that is a whole number, `least` or more."""
    number = whole(name, value)
    if number is None:
        raise ConfigurationError(f"{name} is None; it must be at least {least}")
    if number < least:
        raise ConfigurationError(f"{name} is {number}; it must be at least {least}")
    return number


def number(name: str, value: Any) -> float:
    """Check a parameter that is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigurationError(f"{name} is of type {type(value).__name__}, not a number")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Check a parameter that is True or False: any text but the empty one would be True."""
    if not isinstance(value, bool | np.bool_):
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}", hint="give True or False"
        )
    return bool(value)
