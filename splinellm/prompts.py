"""What counts as a prompt, decided in one place and without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from splinellm.errors import PromptError

Prompt = str | Sequence[int]
"""A text, or the token ids of one."""


def check_prompt(prompt: object, index: int | None = None) -> None:
    """Refuse what no tokenizer can read.

    White space, NUL, zero-width and right-to-left characters are all text. Token ids are checked
    against the vocabulary later, by whoever knows it.

    Parameters
    ----------
    prompt : object
        Should be a non-empty string, or a non-empty sequence of token ids.
    index : int, optional
        Position of the prompt, for the message.

    Raises
    ------
    PromptError
        The value is missing, of another type, empty, or holds a lone surrogate.
    """
    if isinstance(prompt, str):
        if not prompt:
            raise PromptError("the text is empty", index=index)
        try:
            prompt.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(
                f"the text is not valid Unicode: lone surrogate at character {error.start}",
                index=index,
            ) from None  # the cause quotes the text
    elif prompt is None:
        raise PromptError("the text is missing", index=index)
    elif isinstance(prompt, Sequence) and not isinstance(prompt, (bytes, bytearray)):
        if not prompt:
            raise PromptError("the list of token ids is empty", index=index)
        # bool is an int to Python, but True is no token.
        if not all(isinstance(token, Integral) and not isinstance(token, bool) for token in prompt):
            raise PromptError("token ids must be whole numbers", index=index)
    else:
        raise PromptError(f"expected text, got {type(prompt).__name__}", index=index)
