"""What counts as a conversation, and which of its tokens the statistics are over.

A conversation is a list of messages, ``{"role": ..., "content": ...}``, or an object that has one
as its ``messages``. How messages become tokens is :mod:`splinellm.extraction.chat`'s affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from splinellm.errors import ConfigurationError, ConversationError, PromptError

Count = Literal["all", "content", "user", "assistant", "system", "last"]
"""Tokens that the statistics are over; the model reads the whole conversation in any case.

``all`` of them, with those of the template; ``content``, what the messages say; of that what the
``user``, the ``assistant`` or the ``system`` says; or what the ``last`` message says.
"""
COUNTS: tuple[Count, ...] = get_args(Count)
ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 10_000

_WHOSE = {"last": "the last message", "content": "what the messages say"}
_MESSAGES = "messages"
_CALLS = ("tool_calls", "function_call")


@dataclass(frozen=True)
class Message:
    """What somebody says.

    Parameters
    ----------
    role : {"system", "user", "assistant"}
        Who.
    text : str
        What; parts of a content stand on lines of their own.
    """

    role: str
    text: str


def is_message(value: object) -> bool:
    """Whether a value is meant as a message, or as an object that holds messages."""
    if not isinstance(value, Mapping):
        return False
    return _MESSAGES in value or ("role" in value and "content" in value)


def is_conversation(value: object) -> bool:
    """Whether a prompt is meant as a conversation, well made or not."""
    if isinstance(value, Mapping):
        return _MESSAGES in value
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        return False
    return bool(value) and isinstance(value[0], Mapping)


def require_count(count: str) -> None:
    """Refuse what is no :data:`Count`."""
    if not isinstance(count, str) or count not in COUNTS:
        raise ConfigurationError(
            f"unknown count '{str(count)[:40]}'", hint=f"use {', '.join(COUNTS)}"
        )


def messages_of(conversation: Any, index: int | None = None) -> list[Message]:
    """Read a conversation.

    Parameters
    ----------
    conversation : list of mapping, or mapping with ``messages``
        In order. A content is a string, or a list of parts of the type ``text``.
    index : int, optional
        Position of the prompt, for the message.

    Raises
    ------
    ConversationError
        Names the message that cannot be read, and why; never its text.
    """
    found = conversation[_MESSAGES] if isinstance(conversation, Mapping) else conversation
    if isinstance(found, (str, bytes)) or not isinstance(found, Sequence):
        raise ConversationError(f"must be a list, not {_kind(found)}", index=index)
    if not found:
        raise ConversationError("is an empty list", index=index)
    if len(found) > MAX_MESSAGES:
        raise ConversationError(
            f"has {len(found)} messages, but the limit is {MAX_MESSAGES}", index=index
        )
    return [_message(value, f"messages[{i}]", index) for i, value in enumerate(found)]


def of_count(
    messages: Sequence[Message], count: Count, index: int | None = None
) -> Sequence[Message]:
    """The messages of which tokens count.

    Raises
    ------
    ConversationError
        They are those of a role that has none.
    """
    if count == "last":
        return messages[-1:]
    if count not in ROLES:
        return messages
    found = [it for it in messages if it.role == count]
    if not found:
        raise ConversationError(
            f"have no message of the {count}, and its tokens are what counts",
            index=index,
            hint=f"count something else: {', '.join(dict.fromkeys(it.role for it in messages))}",
        )
    return found


def require_counted(
    counted: Sequence[bool], count: Count, index: int | None = None, *, is_cut: bool = False
) -> None:
    """Refuse a prompt without any token to make statistics of.

    Parameters
    ----------
    counted : sequence of bool
        Of every token that is read, whether it counts.
    count : str
        Which do.
    index : int, optional
        Position of the prompt, for the message.
    is_cut : bool
        Whether there were more tokens.

    Raises
    ------
    PromptError
        None is counted.
    """
    if any(counted):
        return
    whose = f"the {count}" if count in ROLES else _WHOSE.get(count, "any message")
    if is_cut:
        hint = "the conversation was cut: raise max_tokens, or let it be read in windows"
    else:
        hint = "count something else"
    raise PromptError(f"no token of {whose} is among those that are read", index=index, hint=hint)


def read_template(path: Path) -> str:
    """Read a chat template.

    Raises
    ------
    ConfigurationError
        The file cannot be read, or there is nothing in it.
    """
    try:
        template = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the chat template '{path}' cannot be read") from error
    if not template.strip():
        raise ConfigurationError(f"the chat template '{path}' is empty")
    return template


def said(conversation: Any, count: Count = "all") -> str:
    """What the messages that count say, each on lines of its own; of ``all``, what any says.

    For who reads words without a chat template: an encoder's classifier, a baseline.

    Raises
    ------
    ConversationError
        The conversation cannot be read, or nobody says anything that counts.
    """
    return "\n".join(it.text for it in of_count(messages_of(conversation), count))


def with_texts(conversation: Any, change: Callable[[str], str]) -> Any:
    """Change what is said in a conversation; one that cannot be read stays as it is."""
    try:
        messages = messages_of(conversation)
    except ConversationError:
        return conversation
    return [{"role": it.role, "content": change(it.text)} for it in messages]


def _message(value: Any, place: str, index: int | None) -> Message:
    if not isinstance(value, Mapping):
        raise ConversationError(f"must be an object, not {_kind(value)}", place=place, index=index)
    if "role" not in value:
        hint = "a message has a role and a content"
        if "from" in value:
            hint = "call its keys role and content, and the roles user and assistant"
        raise ConversationError("has no role", place=place, index=index, hint=hint)
    role = value["role"]
    if not isinstance(role, str) or role not in ROLES:
        named = f"'{role[:20]}'" if isinstance(role, str) else _kind(role)
        hint = f"roles are {', '.join(ROLES)}"
        if role in ("tool", "function"):
            hint = "what tools are told and tell cannot be read: leave these messages out"
        raise ConversationError(f"is {named}", place=f"{place}.role", index=index, hint=hint)
    if calls := next((name for name in _CALLS if value.get(name)), None):
        raise ConversationError(
            "cannot be read",
            place=f"{place}.{calls}",
            index=index,
            hint="leave calls of tools out",
        )
    return Message(role, _text(value.get("content"), f"{place}.content", index))


def _text(content: Any, place: str, index: int | None) -> str:
    if isinstance(content, str):
        texts = [(place, content)]
    elif isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray)):
        texts = [_part(part, f"{place}[{i}]", index) for i, part in enumerate(content)]
    elif content is None:
        raise ConversationError("is missing", place=place, index=index)
    else:
        raise ConversationError(
            f"must be text or a list of parts, not {_kind(content)}", place=place, index=index
        )
    for where, text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConversationError(
                f"is not valid Unicode: lone surrogate at character {error.start}",
                place=where,
                index=index,
            ) from None  # the cause quotes the text
    joined = "\n".join(text for _, text in texts)
    if not joined:
        raise ConversationError("is empty", place=place, index=index)
    return joined


def _part(part: Any, place: str, index: int | None) -> tuple[str, str]:
    if not isinstance(part, Mapping):
        raise ConversationError(f"must be a part, not {_kind(part)}", place=place, index=index)
    kind = part.get("type")
    if kind != "text":
        named = f"'{kind[:40]}'" if isinstance(kind, str) else _kind(kind)
        raise ConversationError(
            f"is {named}",
            place=f"{place}.type",
            index=index,
            hint="only parts of the type text are read",
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise ConversationError(
            f"must be text, not {_kind(text)}", place=f"{place}.text", index=index
        )
    return f"{place}.text", text


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
