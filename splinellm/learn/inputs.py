"""What scikit-learn hands over, as plain Python: columns of texts, parameters of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from splinellm import parameters
from splinellm.conversations import is_conversation
from splinellm.errors import PromptError
from splinellm.parameters import listed, number, whole
from splinellm.prompts import WANTED, as_prompts, check_prompt

__all__ = ["listed", "number", "text", "texts_of", "whole"]


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


def text(name: str, value: Any) -> str:
    """Check a parameter that is a string."""
    hint = "see splinellm.learn.register_backbone" if name == "model" else None
    return parameters.text(name, value, hint=hint)
