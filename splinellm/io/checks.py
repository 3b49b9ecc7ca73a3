"""Whether a row has a prompt, and a file the columns that a run can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from splinellm.errors import InputFileError, PromptError
from splinellm.io.rows import Problem, ReadOptions
from splinellm.prompts import check_prompt


def check_text(values: Mapping[str, Any], text_column: str | None) -> Problem | None:
    """Say why the row's text is no prompt, if it is none and has to be one."""
    if text_column is None:
        return None
    if text_column not in values:
        return Problem(PromptError.code, f"column '{text_column}' is missing")
    text = values[text_column]
    try:
        if isinstance(text, list):  # token ids are prompts to the library, but not in a file
            raise PromptError("expected text, got list")
        check_prompt(text)
    except PromptError as error:
        return Problem(error.code, f"column '{text_column}': {error}")
    return None


def check_columns(source: str, names: Sequence[str], options: ReadOptions) -> None:
    """Refuse columns that cannot be kept or are not there.

    Raises
    ------
    InputFileError
        The text column is missing, a name is there twice, or it is one that the output needs.
    """
    text_column = options.text_column
    if text_column is not None and text_column not in names:
        found = ", ".join(f"'{name[:40]}'" for name in names[:20]) or "none"
        raise InputFileError(
            f"'{source}' has no column '{text_column}', only: {found}",
            hint="--text-column names the one with the texts",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputFileError(f"'{source}' has two columns called '{twice[:80]}'")
    if taken := next(filter(options.is_reserved, names), None):
        raise InputFileError(
            f"'{source}' already has a column '{taken}', which the output adds",
            hint="rename or drop it; was this file extracted before?",
        )
