"""What scikit-learn hands over, as plain Python: columns of texts, parameters of a search."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from splinellm.errors import ConfigurationError, PromptError
from splinellm.prompts import check_prompt

_WANTED = "give a list, array or Series of texts, or a table of one column"


def texts_of(column: Any) -> list[str]:
    """Read a column of texts, in whatever container scikit-learn passes it.

    Parameters
    ----------
    column : list, tuple, 1-d array, Series, or array or DataFrame of one column
        Texts.

    Returns
    -------
    list of str

    Raises
    ------
    PromptError
        `column` is something else, or one of its values is no readable text: names its position.
    """
    values = _values_of(column)
    for index, value in enumerate(values):
        if isinstance(value, str):
            check_prompt(value, index)
        elif pd.api.types.is_scalar(value) and pd.isna(value):  # None, NaN, NA, NaT
            raise PromptError("the text is missing", index=index)
        else:
            raise PromptError(f"expected text, got {type(value).__name__}", index=index)
    return values


def _values_of(column: Any) -> list[Any]:
    kind = type(column).__name__
    # Each of these can be iterated, over what is hardly meant: characters, keys, columns.
    unordered = isinstance(column, (str, bytes, bytearray, Mapping, AbstractSet))
    if unordered or not hasattr(column, "__len__") or not hasattr(column, "__iter__"):
        raise PromptError(f"expected a column of texts, got {kind}", hint=_WANTED)
    if not hasattr(column, "shape"):
        return list(column)
    if len(column.shape) not in (1, 2) or (len(column.shape) == 2 and column.shape[1] != 1):
        shape = " x ".join(map(str, column.shape))
        raise PromptError(f"expected one column of texts, got {kind} of {shape}", hint=_WANTED)
    values: list[Any] = np.asarray(column, dtype=object).ravel().tolist()
    return values


def listed(name: str, value: Any) -> str | tuple[Any, ...]:
    """Check a parameter that is a string or a collection (an iterator would be used up once)."""
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, Collection):
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}", hint="give a string or a list"
        )
    return tuple(value)


def text(name: str, value: Any) -> str:
    """Check a parameter that is a string."""
    if not isinstance(value, str):
        hint = "see splinellm.learn.register_backbone" if name == "model" else None
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}, not a string", hint=hint
        )
    return str(value)


def whole(name: str, value: Any) -> int | None:
    """Check a parameter that is a whole number or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigurationError(f"{name} is of type {type(value).__name__}, not a whole number")
    return int(value)


def number(name: str, value: Any) -> float:
    """Check a parameter that is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigurationError(f"{name} is of type {type(value).__name__}, not a number")
    return float(value)
