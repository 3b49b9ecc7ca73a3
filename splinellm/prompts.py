"""What counts as a prompt, decided in one place and without importing torch.

Whatever brings prompts along (pandas, Arrow, polars, datasets, NumPy, torch, transformers) is known
by what it can do, so that none of them has to be installed, let alone imported.
"""

from __future__ import annotations

import io
from collections import UserString
from collections.abc import Iterator, KeysView, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Integral, Number, Real
from os import PathLike
from typing import Any

from splinellm.conversations import is_conversation, is_message, messages_of
from splinellm.errors import PromptError

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]
"""A text, the token ids of one, or a conversation; see :mod:`splinellm.conversations`."""

WANTED = "give a list, array or Series of texts, or a table of one column"
_IDS = "input_ids"
_MASK = "attention_mask"
_BYTES = (bytes, bytearray, memoryview)


class PromptWarning(UserWarning):
    """Prompts were read as they are, which may not be as they were meant."""


class DoubleBosWarning(PromptWarning):
    """Prompts begin with two BOS tokens: that of the tokenizer, and their own."""


class SpecialTextWarning(PromptWarning):
    """Prompts spell a special token, which is read as text."""


def as_prompts(prompts: Any) -> list[Any]:
    """List the prompts of whatever container holds them.

    Parameters
    ----------
    prompts : str, iterable of str or of token ids, column, table of one column, or BatchEncoding
        One text is one prompt, and so is one list of messages. A column (Series, Arrow array, NumPy
        array, column of a data set) has a prompt in every row. Token ids of several prompts come
        as lists, or with an attention mask that says which of them are padding.

    Returns
    -------
    list
        Strings, lists of token ids and lists of messages, as plain Python; what is none of these is
        left as it is, for :func:`check_prompt` to refuse alone.

    Raises
    ------
    PromptError
        `prompts` is something else: a mapping, a set, a table of several columns, bytes, a path.
        Iterating over it would give keys, column names or numbers in place of prompts.
    """
    if type(prompts) is list and all(type(prompt) is str for prompt in prompts):
        return list(prompts)  # most are, and several ask for them on a text's way
    return list(iter_prompts(prompts))


def iter_prompts(prompts: Any) -> Iterator[Any]:
    """Iterate over the prompts of a container; see :func:`as_prompts`.

    The container is judged at once, and an iterator consumed no faster than the caller does.
    """
    if isinstance(prompts, (str, UserString)):
        return iter([_plain(prompts)])
    if _is_one_conversation(prompts):
        return iter([_plain(prompts)])
    if isinstance(prompts, Mapping):
        return iter(_encoded(prompts))
    if (names := _column_names(prompts)) is not None:
        return _only_column(prompts, names)
    _refuse_container(prompts)
    return map(_plain, _rows_of(prompts) if _can(prompts, "shape") else _listed(prompts))


def check_prompt(prompt: object, index: int | None = None) -> None:
    """Refuse what no tokenizer can read.

    White space, NUL, zero-width and right-to-left characters are all text. Token ids are checked
    against the vocabulary later, by whoever knows it.

    Parameters
    ----------
    prompt : object
        Should be a non-empty string, a non-empty sequence of token ids, or a conversation.
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
    elif is_conversation(prompt):
        messages_of(prompt, index)
    elif is_missing(prompt):
        raise PromptError("the text is missing", index=index)
    elif isinstance(prompt, Sequence) and not isinstance(prompt, _BYTES):
        if not prompt:
            raise PromptError("the list of token ids is empty", index=index)
        for token in prompt:
            # bool is an int to Python, but True is no token.
            if not _is_id(token):
                raise PromptError(
                    f"token ids must be whole numbers, not {_kind(token)}",
                    index=index,
                    hint=_advice(token, inside=True),
                )
    else:
        raise PromptError(
            f"expected text, got {_kind(prompt)}", index=index, hint=_advice(prompt, inside=False)
        )


def is_missing(value: object) -> bool:
    """Whether a value stands for none: None, NaN, pandas' NA and NaT."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, Real) and bool(value != value)


def _refuse_container(prompts: Any) -> None:
    """Refuse what can be iterated over, but hardly for its prompts."""
    kind = _kind(prompts)
    if isinstance(prompts, _BYTES):
        raise PromptError(f"prompts cannot be {kind}", hint=_advice(prompts, inside=False))
    if isinstance(prompts, AbstractSet) and not isinstance(prompts, KeysView):
        raise PromptError(f"expected prompts in order, got {kind}", hint="give a list")
    if isinstance(prompts, (io.IOBase, PathLike)):
        raise PromptError(
            f"expected prompts, got a file or path ({kind})",
            hint="read it first, or use splinellm extract",
        )
    if not _can(prompts, "__iter__"):
        raise PromptError(f"expected prompts, got {kind}", hint=WANTED)


def _column_names(prompts: Any) -> list[Any] | None:
    """Names of a table's columns; None of what is no table."""
    for attribute in ("column_names", "columns"):  # Arrow's `columns` are the columns themselves
        if _can(prompts, attribute) and (names := getattr(prompts, attribute)) is not None:
            return list(names)
    return None


def _only_column(table: Any, names: list[Any]) -> Iterator[Any]:
    if len(names) != 1:
        raise PromptError(
            f"expected one column of texts, got {_kind(table)} of {len(names)} columns",
            hint="choose one, as in table['text']",
        )
    if not _can(table, "__getitem__"):  # a stream of rows
        return (_plain(row[names[0]]) for row in table)
    return iter_prompts(table[names[0]])


def _rows_of(array: Any) -> list[Any]:
    """Rows of an array: one column of texts, or token ids that no padding can be among."""
    shape = tuple(array.shape)
    rows = _listed(array) if shape else [_listed(array)]
    if not shape and not isinstance(rows[0], str):
        raise PromptError(f"expected prompts, got one {_kind(rows[0])}", hint=WANTED)
    if len(shape) < 2:
        return rows
    is_ids = bool(rows) and isinstance(rows[0], list) and all(map(_is_id, rows[0]))
    if len(shape) == 2 and is_ids:
        if shape[0] == 1:
            return rows
        raise PromptError(
            f"a {_kind(array)} of {shape[0]} rows of token ids may hold padding",
            hint="give lists of ids without it, or the whole encoding with its attention mask",
        )
    if len(shape) == 2 and shape[1] == 1 and all(isinstance(row, list) for row in rows):
        return [value for row in rows for value in row]
    size = " x ".join(map(str, shape))
    raise PromptError(f"expected one column of texts, got {_kind(array)} of {size}", hint=WANTED)


def _encoded(encoding: Mapping[Any, Any]) -> list[Any]:
    """Token ids of what a tokenizer gave, without padding."""
    if _IDS not in encoding:
        hint = "give one of its values, as in data['text']"
        raise PromptError(
            f"expected prompts, got a mapping ({_kind(encoding)})",
            hint=_advice(encoding, inside=False) if is_message(encoding) else hint,
        )
    if encoding.get(_MASK) is None:
        ids = _listed(encoding[_IDS])
        return [ids] if all(map(_is_id, ids)) else as_prompts(encoding[_IDS])
    rows, masks = _listed(encoding[_IDS]), _listed(encoding[_MASK])
    if rows and all(map(_is_id, rows)):
        rows, masks = [rows], [masks]
    if len(rows) != len(masks):
        raise PromptError(f"{len(rows)} prompts of token ids, but {len(masks)} attention masks")
    return [_unmasked(row, mask, i) for i, (row, mask) in enumerate(zip(rows, masks, strict=True))]


def _unmasked(row: Any, mask: Any, index: int | None) -> list[Any]:
    ids, flags = _listed(row), _listed(mask)
    if len(ids) != len(flags):
        raise PromptError(
            f"{len(ids)} token ids, but an attention mask of {len(flags)}", index=index
        )
    return [token for token, is_read in zip(ids, flags, strict=True) if is_read]


def _plain(value: Any) -> Any:
    """Make a prompt plain Python, if it is one in disguise."""
    kind = type(value)
    if kind is str or kind is list:
        return value
    if isinstance(value, str):  # NumPy's, an enumeration's
        return str.__str__(value)
    if isinstance(value, UserString):
        return str(value)
    if _can(value, "as_py"):  # Arrow's scalars
        return value.as_py()
    if is_conversation(value):
        messages = value["messages"] if isinstance(value, Mapping) else list(value)
        return messages if is_conversation(messages) else value
    if isinstance(value, Mapping) and _IDS in value and not is_message(value):
        rows = _encoded(value)
        return rows[0] if len(rows) == 1 else value
    if not isinstance(value, (Sequence, Mapping)) and _can(value, "tolist"):
        listed = value.tolist()
        if isinstance(listed, list) and len(listed) == 1 and isinstance(listed[0], list):
            listed = listed[0]  # the ids of one text, as tokenizers give tensors
        of_ids = isinstance(listed, list) and bool(listed) and all(map(_is_id, listed))
        return listed if of_ids or isinstance(listed, str) or is_conversation(listed) else value
    return value


def _listed(values: Any) -> Any:
    """Values of a column as plain Python, whoever's column it is."""
    for method in ("to_pylist", "tolist", "to_list"):  # Arrow, NumPy and pandas and torch, polars
        if _can(values, method):
            return getattr(values, method)()
    return values if isinstance(values, Iterator) else list(values)


def _can(value: object, attribute: str) -> bool:
    """Whether a value's class has an attribute; a Series has its labels as attributes, too."""
    return hasattr(type(value), attribute)


def _is_id(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


def _is_one_conversation(prompts: Any) -> bool:
    """Whether a container is no list of prompts, but one list of messages."""
    if isinstance(prompts, Mapping):
        return is_conversation(prompts) and _IDS not in prompts
    if not isinstance(prompts, (list, tuple)) or not prompts:
        return False
    return all(is_message(value) and not is_conversation(value) for value in prompts)


def _kind(value: object) -> str:
    return type(value).__name__


def _advice(value: object, *, inside: bool) -> str | None:
    """What to give in place of a value; `inside` a list that should hold token ids."""
    if is_message(value):
        return "a conversation is a list of messages"
    if isinstance(value, str):
        return "give texts in one flat list"
    if isinstance(value, _BYTES):
        return "decode them, as in data.decode('utf-8')"
    if isinstance(value, Mapping):
        return "give one of its values, as in row['text']"
    if isinstance(value, PathLike):
        return "read the file, as in path.read_text()"
    if _is_id(value):
        return "token ids of one prompt go in a list of their own, as in [[5, 6, 7]]"
    if isinstance(value, Number):
        return None
    if inside and isinstance(value, Sequence):
        return "give one list of token ids for each prompt"
    return "give one list of token ids for each prompt" if _can(value, "shape") else None
