"""Parameters of public functions: their types are checked, numbers become Python's own."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

from splinellm.errors import ConfigurationError


def plain(value: Any) -> Any:
    """Unwrap NumPy's and torch's scalars, and arrays without dimensions: known by what they can."""
    is_scalar = getattr(value, "shape", None) == () and hasattr(value, "tolist")
    return value.tolist() if is_scalar else value


def listed(name: str, value: Any) -> str | tuple[Any, ...]:
    """Check a parameter that is a string or a collection (an iterator would be used up once)."""
    value = plain(value)
    if isinstance(value, str):
        return str.__str__(value)  # of enumerations, too, what they are equal to
    if not isinstance(value, Collection):
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}", hint="give a string or a list"
        )
    return tuple(value)


def text(name: str, value: Any, *, hint: str | None = None) -> str:
    """Check a parameter that is a string."""
    value = plain(value)
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}, not a string", hint=hint
        )
    return str.__str__(value)


def whole(name: str, value: Any) -> int | None:
    """Check a parameter that is a whole number or None."""
    value = plain(value)
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
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigurationError(f"{name} is of type {type(value).__name__}, not a number")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Check a parameter that is True or False: any text but the empty one would be True."""
    value = plain(value)
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}", hint="give True or False"
        )
    return bool(value)


def device_name(value: Any) -> str:
    """Check a parameter that is a device: its name, an object of torch's, or a number of CUDA's."""
    value = plain(value)
    if not isinstance(value, bool) and isinstance(value, Integral):
        if value < 0:
            raise ConfigurationError(
                f"device is {value}, but devices are counted from 0", hint="use 'cpu' for none"
            )
        return f"cuda:{int(value)}"
    kind = type(value)
    if (kind.__module__, kind.__name__) == ("torch", "device"):  # torch need not be there
        return str(value)
    return text("device", value, hint="give a name such as 'cpu', or the number of a CUDA device")
