"""Whether a row has a prompt, and a file the columns that a run can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from splinellm import strict_json
from splinellm.conversations import is_conversation, messages_of
from splinellm.errors import ConversationError, InputFileError, PromptError
from splinellm.io.rows import Problem, ReadOptions
from splinellm.prompts import check_prompt, is_missing

_DEEPEST = 64
"""Levels of nesting in the JSON of messages."""


def conversation_of(value: Any) -> Any:
    """The conversation in a cell: a list of messages, or the JSON of one.

    Raises
    ------
    ConversationError
        The cell is text, and no JSON of a list or of an object with ``messages``.
    """
    if not isinstance(value, str):
        return value
    try:
        found = strict_json.loads(value, max_depth=_DEEPEST)
    except (ValueError, RecursionError):
        raise ConversationError("are not valid JSON") from None
    if not isinstance(found, list) and not is_conversation(found):
        raise ConversationError("are JSON, but no list")
    return found


def check_text(values: Mapping[str, Any], options: ReadOptions) -> Problem | None:
    """Say why the row's text is no prompt, if it is none and has to be one."""
    text_column = options.text_column
    if text_column is None:
        return None
    if text_column not in values:
        hint = resembling(text_column, [*values], _option(options)) or _naming(options)
        return Problem(
            PromptError.code,
            f"column '{text_column}' is missing, there are only: {_listed([*values])} ({hint})",
        )
    text = values[text_column]
    try:
        if options.holds_messages:
            if is_missing(text):
                raise ConversationError("are missing")
            messages_of(conversation_of(text))
            return None
        if isinstance(text, list):  # token ids are prompts to the library, but not in a file
            raise PromptError("expected text, got list")
        check_prompt(text)
    except PromptError as error:
        return Problem(error.code, f"column '{text_column}': {error}")
    return None


def check_columns(
    source: str,
    names: Sequence[str],
    options: ReadOptions,
    *,
    hint: str | None = None,
    are_all: bool = True,
) -> None:
    """Refuse columns that cannot be kept or are not there.

    Parameters
    ----------
    source : str
        Name of the file.
    names : sequence of str
        Its columns.
    options : ReadOptions
        How it is to be read; columns that are not wanted are not in the way.
    hint : str, optional
        What may be wrong if the text column is missing and nothing resembles it.
    are_all : bool
        Whether no row can have other columns.

    Raises
    ------
    InputFileError
        A wanted column is missing, a name is there twice, or it is one that the output needs.
    """
    text_column = options.text_column
    if text_column is not None and text_column not in names:
        raise InputFileError(
            f"'{source}' has no column '{text_column}', only: {_listed(names)}",
            hint=(resembling(text_column, names, _option(options)) or hint or _naming(options))
            if names
            else "there is nothing in it",
        )
    for wanted in (options.columns or ()) if are_all else ():
        if wanted not in names:
            raise InputFileError(
                f"'{source}' has no column '{wanted[:80]}', only: {_listed(names)}",
                hint="--columns names those to keep",
            )
    kept = [name for name in names if options.keeps(name)]
    if len(set(kept)) < len(kept):
        twice = next(name for name in kept if kept.count(name) > 1)
        called = f"called '{twice[:80]}'" if twice else "without a name"
        raise InputFileError(
            f"'{source}' has two columns {called}", hint="rename one, or keep others with --columns"
        )
    if taken := next(filter(options.is_reserved, kept), None):
        raise InputFileError(
            f"'{source}' already has a column '{taken}', which the output adds",
            hint="rename it or leave it out with --columns; was this file extracted before?",
        )


def require_same_columns(
    source: str, names: Sequence[str], first: str, first_names: Sequence[str]
) -> None:
    """Refuse a file that has not the columns of the first of several.

    Parameters
    ----------
    source, names
        The file, and its columns.
    first, first_names
        The first file, and its.

    Raises
    ------
    InputFileError
        Names the file and the first column that only one of them has.
    """
    unlike = f"'{source}' does not have the columns of '{first}'"
    hint = "--columns reads some columns only"
    known, found = set(first_names), set(names)
    if extra := next((name for name in names if name not in known), None):
        raise InputFileError(f"{unlike}: column '{extra[:80]}' is not in the first", hint=hint)
    if missing := next((name for name in first_names if name not in found), None):
        raise InputFileError(f"{unlike}: column '{missing[:80]}' is missing", hint=hint)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name[:40]}'" for name in names[:20]) or "none"


def _option(options: ReadOptions) -> str:
    """The option that names the column of prompts."""
    return "--messages-column" if options.holds_messages else "--text-column"


def _naming(options: ReadOptions) -> str:
    what = "conversations" if options.holds_messages else "texts"
    return f"{_option(options)} names the one with the {what}"


def resembling(wanted: str, names: Sequence[str], option: str = "--text-column") -> str | None:
    """Ask for the column that is only spelled otherwise, if there is one."""
    plain = {name.strip().casefold(): name for name in reversed(names)}
    close = get_close_matches(wanted.strip().casefold(), plain, n=1, cutoff=0.8)
    return f"did you mean {option} '{plain[close[0]][:40]}'?" if close else None
