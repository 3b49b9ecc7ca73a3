"""Shapes of JSON: from the `input` of a request to prompts.

Everything here is checked before a token is computed, and runs off the event loop: an input may be
a million numbers. Errors name the culprit as ``input[3]``, or ``input`` where there is but one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from service.errors import BatchTooLargeError, InputTooLongError, InvalidRequestError
from splinellm.conversations import Count, is_conversation, messages_of, said
from splinellm.errors import ConversationError, PromptError, SplineLLMError
from splinellm.prompts import Prompt, check_prompt

if TYPE_CHECKING:
    from service.settings import Settings

MAX_PARTS = 32
"""Content parts of one moderation input."""
IMAGE = "image_url"


@dataclass(frozen=True)
class Inputs:
    """The prompts of a request, and what to call them.

    Parameters
    ----------
    prompts : list of str or of list of int
        At least one; each may still be refused by the tokenizer.
    names : list of str
        Where each is in the request, such as ``input[3]``.
    unscored : list of dict
        Parts of the one input that this is which cannot be read: ``part`` and ``type``.
    """

    prompts: list[Prompt]
    names: list[str]
    unscored: list[dict[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.prompts)

    def at(self, places: Sequence[int]) -> Inputs:
        """Select some of them."""
        return Inputs([self.prompts[i] for i in places], [self.names[i] for i in places])

    def said(self, count: Count) -> Inputs:
        """Put what is said in conversations in their place, for who reads words.

        Raises
        ------
        ConversationError
            Nobody says anything that counts; names the input.
        """
        texts: list[Prompt] = []
        for prompt, name in zip(self.prompts, self.names, strict=True):
            try:
                texts.append(said(prompt, count) if is_conversation(prompt) else prompt)
            except ConversationError as error:
                raise blame(error, name) from None
        return replace(self, prompts=texts)

    def with_parts(self, parts: Sequence[str]) -> Inputs:
        """Add parts of the one text that this is."""
        return Inputs([*self.prompts, *parts], self.names * (1 + len(parts)))


def parse_input(value: Any, settings: Settings) -> Inputs:
    """Read an `input`: a text, a conversation, the token ids of one text, or lists of such.

    A conversation is an object with ``messages``; it may stand among texts.

    Raises
    ------
    InvalidRequestError, PromptError
        It is none of these, or a text or an id in it cannot be read.
    BatchTooLargeError, InputTooLongError
        It is beyond a limit of `settings`.
    """
    if isinstance(value, dict):
        return _checked([_messages(value, "input")], ["input"], settings)
    value = [
        _messages(item, f"input[{index}]") if isinstance(item, dict) else item
        for index, item in enumerate(value if isinstance(value, list) else [])
    ] or value
    return _parsed(value, settings, settings.max_client_batch_size)


def parse_openai_input(value: Any, settings: Settings) -> Inputs:
    """Read an `input` of OpenAI's embeddings: as :func:`parse_input`, but for conversations.

    Raises
    ------
    InvalidRequestError, PromptError, BatchTooLargeError, InputTooLongError
        As for :func:`parse_input`; or it is of token ids, which a setting refuses.
    """
    is_refused = settings.token_ids == "refuse"  # noqa: S105 (no secret)
    if is_refused and isinstance(value, list) and value:
        first = value[0][0] if isinstance(value[0], list) and value[0] else value[0]
        if _is_token(first):
            raise InvalidRequestError(
                "input is of token ids, which this server refuses: whose tokenizer's are they?",
                param="input",
                hint="send texts; LangChain does with check_embedding_ctx_length=False",
            )
    return _parsed(value, settings, settings.max_openai_inputs)


def _parsed(value: Any, settings: Settings, max_inputs: int) -> Inputs:
    if isinstance(value, str) or (isinstance(value, list) and value and _is_token(value[0])):
        return _checked([value], ["input"], settings)
    _require_list(value)
    _check_batch(len(value), max_inputs)
    _check_kinds(value)
    return _checked(value, [f"input[{index}]" for index in range(len(value))], settings)


def parse_moderation_input(value: Any, settings: Settings) -> Inputs:
    """Read the `input` of a moderation: a text, texts, or the content parts of one input.

    Raises
    ------
    InvalidRequestError, PromptError, BatchTooLargeError, InputTooLongError
        As for :func:`parse_input`; a part that can be neither read nor reported is an invalid
        request, too.
    """
    settings = settings.model_copy(update={"max_input_chars": settings.max_moderation_chars})
    if not isinstance(value, str):
        _require_list(value)
        if isinstance(value[0], dict):
            text, unscored = _joined_parts(value, settings)
            return replace(_checked([text], ["input"], settings), unscored=unscored)
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise InvalidRequestError(
                    f"input[{index}] must be text, not {_type_name(item)}", param=f"input[{index}]"
                )
    return _parsed(value, settings, settings.max_openai_inputs)


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
    place = f"{name}.{error.place}" if isinstance(error, ConversationError) else name
    vars(copied).update(index=None, param=place)  # the error body is made of them
    return copied


def _checked(prompts: list[Any], names: list[str], settings: Settings) -> Inputs:
    limit = settings.max_input_chars
    prompts = [_whole_numbers(prompt) if isinstance(prompt, list) else prompt for prompt in prompts]
    for prompt, name in zip(prompts, names, strict=True):
        try:
            size, unit = len(prompt), "characters" if isinstance(prompt, str) else "token ids"
            if is_conversation(prompt):
                size = sum(len(message.text) for message in messages_of(prompt))
                unit = "characters"
            if size > limit:
                raise InputTooLongError(
                    f"{name} has {size} {unit}, but the limit is {limit}",
                    param=name,
                    hint="send it in parts, or raise the server's max_input_chars",
                )
            check_prompt(prompt)
        except PromptError as error:
            raise blame(error, name) from None
    return Inputs(prompts, names)


def _messages(item: dict[str, Any], name: str) -> Any:
    """The conversation of an object that has nothing else."""
    if "messages" not in item:
        raise InvalidRequestError(
            f"{name} is an object without messages",
            param=name,
            hint="a conversation is an object with messages",
        )
    if len(item) > 1:
        raise InvalidRequestError(f"{name} has messages and something else", param=name)
    return item


def _check_kinds(value: list[Any]) -> None:
    kind, wanted = {"text": (str, "text"), "a list": (list, "a list of token ids")}.get(
        _type_name(value[0]), (str, "text or a list of token ids")
    )
    for index, item in enumerate(value):
        if not isinstance(item, kind) and not (kind is str and is_conversation(item)):
            raise InvalidRequestError(
                f"input[{index}] must be {wanted}, not {_type_name(item)}", param=f"input[{index}]"
            )


def _whole_numbers(ids: list[Any]) -> list[Any]:
    """JSON has one kind of number: 3.0 is as whole as 3."""
    return [int(i) if isinstance(i, float) and i.is_integer() else i for i in ids]


def _joined_parts(parts: list[Any], settings: Settings) -> tuple[str, list[dict[str, str]]]:
    """The text of all parts, and those that are none."""
    if len(parts) > MAX_PARTS:
        raise InvalidRequestError(f"input has more than {MAX_PARTS} parts", param="input")
    texts, unscored = [], []
    for index, part in enumerate(parts):
        name = f"input[{index}]"
        if not isinstance(part, dict):
            raise InvalidRequestError(
                f"{name} must be a content part, not {_type_name(part)}", param=name
            )
        if part.get("type") == IMAGE and settings.image_parts == "report":
            unscored.append({"part": name, "type": IMAGE})
            continue
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
    if not texts:
        raise InvalidRequestError("input has no part of the type 'text'", param="input")
    return "\n".join(texts), unscored


def _require_list(value: Any) -> None:
    if not isinstance(value, list):
        raise InvalidRequestError(
            f"input must be text or a list, not {_type_name(value)}", param="input"
        )
    if not value:
        raise InvalidRequestError("input is an empty list", param="input")


def _check_batch(size: int, max_inputs: int) -> None:
    if size > max_inputs:
        raise BatchTooLargeError(
            f"{size} inputs in one request, but the limit is {max_inputs}",
            param="input",
        )


def _is_token(value: Any) -> bool:
    # Anything that is no text, list or object: whatever it is, it stands where an id should.
    return not isinstance(value, (str, list, dict)) and value is not None


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
