"""What scikit-learn hands over, as plain Python: columns of texts, parameters of a search."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from typing import Any

from splinellm.conversations import is_conversation
from splinellm.errors import ConfigurationError, PromptError
from splinellm.prompts import WANTED, as_prompts, check_prompt


def texts_of(column: Any) -> list[Any]:
    """Read a column of texts or of conversations, in whatever container scikit-learn passes it.

    Parameters
    ----------
    column : list, tuple, 1-d array, Series, or array or DataFrame of one column
        Texts or conversations.

    Returns
    -------
    list of str or of conversation

    Raises
    ------
    PromptError
        `column` is something else, or one of its values is no readable text: names its position.
    """
    # Each of these holds prompts in order, but is hardly meant as a column.
    is_single = isinstance(column, (str, Mapping, AbstractSet))
    if is_single or not hasattr(column, "__len__") or not hasattr(column, "__iter__"):
        kind = type(column).__name__
        raise PromptError(f"expected a column of texts, got {kind}", hint=WANTED)
    if getattr(column, "shape", None) == ():
        raise PromptError("expected one column of texts, got a single value", hint=WANTED)
    values = as_prompts(column)
    for index, value in enumerate(values):
        is_text = isinstance(value, (str, bytes, bytearray)) or is_conversation(value)
        if isinstance(value, Sequence) and not is_text:
            raise PromptError(f"expected text, got {type(value).__name__}", index=index)
        check_prompt(value, index)
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
