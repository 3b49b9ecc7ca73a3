"""Shapes of JSON: from the `input` of a request to prompts.

Everything here is checked before a token is computed, and runs off the event loop: an input may be
a million numbers. Errors name the culprit as ``input[3]``, or ``input`` where there is but one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import BatchTooLargeError, InputTooLongError, InvalidRequestError
from splinellm.errors import PromptError, SplineLLMError
from splinellm.prompts import Prompt, check_prompt

if TYPE_CHECKING:
    from service.settings import Settings

MAX_PARTS = 32
"""Content parts of one moderation input."""


@dataclass(frozen=True)
class Inputs:
    """The prompts of a request, and what to call them.

    Parameters
    ----------
    prompts : list of str or of list of int
        At least one; each may still be refused by the tokenizer.
    names : list of str
        Where each is in the request, such as ``input[3]``.
    """

    prompts: list[Prompt]
    names: list[str]

    def __len__(self) -> int:
        return len(self.prompts)

    def with_parts(self, parts: Sequence[str]) -> Inputs:
        """Add parts of the one text that this is."""
        return Inputs([*self.prompts, *parts], self.names * (1 + len(parts)))


def parse_input(value: Any, settings: Settings) -> Inputs:
    """Read an `input`: a text, texts, the token ids of one text, or lists of such.

    Raises
    ------
    InvalidRequestError, PromptError
        It is none of these, or a text or an id in it cannot be read.
    BatchTooLargeError, InputTooLongError
        It is beyond a limit of `settings`.
    """
    if isinstance(value, str) or (isinstance(value, list) and value and _is_token(value[0])):
        return _checked([value], ["input"], settings)
    _require_list(value)
    _check_batch(len(value), settings)
    _check_kinds(value)
    return _checked(value, [f"input[{index}]" for index in range(len(value))], settings)


def parse_moderation_input(value: Any, settings: Settings) -> Inputs:
    """Read the `input` of a moderation: a text, texts, or the content parts of one input.

    Raises
    ------
    InvalidRequestError, PromptError, BatchTooLargeError, InputTooLongError
        As for :func:`parse_input`; a part that is no text is an invalid request, too.
    """
    if not isinstance(value, str):
        _require_list(value)
        if isinstance(value[0], dict):
            return _checked([_joined_parts(value)], ["input"], settings)
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise InvalidRequestError(
                    f"input[{index}] must be text, not {_type_name(item)}", param=f"input[{index}]"
                )
    return parse_input(value, settings)


def name_text(text: str, name: str, settings: Settings) -> Inputs:
    """Check one text that has its own name in the request.

    Raises
    ------
    PromptError, InputTooLongError
        As for :func:`parse_input`.
    """
    return _checked([text], [name], settings)


def blame(error: SplineLLMError, name: str) -> SplineLLMError:
    """Make a copy of an error that names an input of the request; others may share the error."""
    copied = copy.copy(error)
    copied.message = f"{name}: {error.message}"
    vars(copied).update(index=None, param=name)  # the error body is made of them
    return copied


def _checked(prompts: list[Any], names: list[str], settings: Settings) -> Inputs:
    limit = settings.max_input_chars
    prompts = [_whole_numbers(prompt) if isinstance(prompt, list) else prompt for prompt in prompts]
    for prompt, name in zip(prompts, names, strict=True):
        if len(prompt) > limit:
            unit = "characters" if isinstance(prompt, str) else "token ids"
            raise InputTooLongError(
                f"{name} has {len(prompt)} {unit}, but the limit is {limit}", param=name
            )
        try:
            check_prompt(prompt)
        except PromptError as error:
            raise blame(error, name) from None
    return Inputs(prompts, names)


def _check_kinds(value: list[Any]) -> None:
    kind, wanted = {"text": (str, "text"), "a list": (list, "a list of token ids")}.get(
        _type_name(value[0]), (str, "text or a list of token ids")
    )
    for index, item in enumerate(value):
        if not isinstance(item, kind):
            raise InvalidRequestError(
                f"input[{index}] must be {wanted}, not {_type_name(item)}", param=f"input[{index}]"
            )


def _whole_numbers(ids: list[Any]) -> list[Any]:
    """JSON has one kind of number: 3.0 is as whole as 3."""
    return [int(i) if isinstance(i, float) and i.is_integer() else i for i in ids]


def _joined_parts(parts: list[Any]) -> str:
    if len(parts) > MAX_PARTS:
        raise InvalidRequestError(f"input has more than {MAX_PARTS} parts", param="input")
    texts = []
    for index, part in enumerate(parts):
        name = f"input[{index}]"
        if not isinstance(part, dict):
            raise InvalidRequestError(
                f"{name} must be a content part, not {_type_name(part)}", param=name
            )
        if part.get("type") != "text":
            raise InvalidRequestError(
                f"{name}.type must be 'text': nothing else can be read", param=f"{name}.type"
            )
        try:
            text = part.get("text")
            if not isinstance(text, str):
                raise PromptError(f"expected text, got {_type_name(text)}")
            check_prompt(text)
        except PromptError as error:
            raise blame(error, f"{name}.text") from None
        texts.append(text)
    return "\n".join(texts)


def _require_list(value: Any) -> None:
    if not isinstance(value, list):
        raise InvalidRequestError(
            f"input must be text or a list, not {_type_name(value)}", param="input"
        )
    if not value:
        raise InvalidRequestError("input is an empty list", param="input")


def _check_batch(size: int, settings: Settings) -> None:
    if size > settings.max_client_batch_size:
        raise BatchTooLargeError(
            f"{size} inputs in one request, but the limit is {settings.max_client_batch_size}",
            param="input",
        )


def _is_token(value: Any) -> bool:
    # Anything that is no text, list or object: whatever it is, it stands where an id should.
    return not isinstance(value, (str, list, dict)) and value is not None


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
