"""Which format standard input has, by how it begins; a table is never read as prose."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from splinellm.errors import InputFileError
from splinellm.io.checks import resembling
from splinellm.io.encodings import marked_encoding
from splinellm.io.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from splinellm.io.rows import ReadOptions

_JSON = re.compile(r'\{|\[\s*(?:[{"]|\]?\s*$)')  # a text may well begin with a bracket, as [INST]
_EXCEL_DELIMITER = re.compile(r"sep=.\s*")
_DELIMITERS = ",;\t|"
_NAME = re.compile(r"[^\W\d](?:[\w.:/#%()\[\]-]|[ ](?=\S)){0,39}")
"""What a column may be called that nobody told us of."""
_MOST_WORDS = 3
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_MOST_LINES = 20
_HINT = "--input-format csv reads it as a table, --input-format txt as a prompt a line"


def recognised(head: bytes, encoding: str | None, options: ReadOptions) -> str:
    """Tell the format of a stream.

    Parameters
    ----------
    head : bytes
        What it begins with.
    encoding : str or None
        Of text, if it was told.
    options : ReadOptions
        Name the column of the texts.

    Returns
    -------
    str
        A format that is told by its first bytes; ``jsonl`` for an object or a list of them; ``csv``
        or ``tsv`` for a header that has the column of the texts, or if a delimiter was told; else
        ``txt``.

    Raises
    ------
    InputFileError
        It looks like a table, but without a header that has the column.
    """
    for known in FORMATS:
        if known.begins and head.startswith(known.begins):
            return known.name
    text = head.decode(encoding or marked_encoding(head) or "utf-8", "replace")
    text = text.lstrip("\ufeff \r\n")
    if _JSON.match(text.lstrip()):
        return "jsonl"
    if options.delimiter is not None or _EXCEL_DELIMITER.match(text):
        return "csv"
    lines = text.splitlines()[:_MOST_LINES]
    whole = lines if text.endswith("\n") or len(lines) < len(text.splitlines()) else lines[:-1]
    return _kind_of_lines(lines[:1], whole, options.text_column)


def _kind_of_lines(first: Sequence[str], whole: Sequence[str], wanted: str | None) -> str:
    if not first:
        return "txt"
    if first[0].strip().strip('"') == wanted:
        raise InputFileError(
            f"'stdin' begins like a table of the one column '{wanted}'", hint=_HINT
        )
    for delimiter in _DELIMITERS:
        cells = _cells(first[0], delimiter)
        if len(cells) < 2:
            continue
        names = [cell.strip() for cell in cells]
        if wanted in cells and names == cells:
            return "tsv" if delimiter == "\t" else "csv"
        rows = [_cells(line, delimiter) for line in whole if line]
        if _are_names(names) and _are_a_header(cells, rows[1:], wanted):
            raise _no_texts(cells, wanted)
        if _are_rows(rows):
            raise InputFileError(
                f"'stdin' looks like a table of {len(cells)} columns without a header",
                hint=f"put one before it; {_HINT}",
            )
    return "txt"


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _are_names(cells: Sequence[str]) -> bool:
    """Whether cells might be those of a header, rather than parts of a sentence."""
    named = [cell for cell in cells if cell]  # a data frame's index has no name
    return len(set(cells)) == len(cells) > 1 and all(
        _NAME.fullmatch(cell) and len(cell.split()) <= _MOST_WORDS for cell in named
    )


def _are_a_header(cells: Sequence[str], rows: Sequence[Sequence[str]], wanted: str | None) -> bool:
    """Whether what follows fits names in this line; sentences have a space after a comma."""
    if any(cell != cell.strip() for cell in cells):
        return wanted in [cell.strip() for cell in cells] or (len(rows) > 1 and _are_rows(rows))
    return all(len(of_row) >= len(cells) for of_row in rows[:1])


def _are_rows(rows: Sequence[Sequence[str]]) -> bool:
    """Whether lines have as many cells, with a number in the same place of each."""
    if len(rows) < 2 or len({len(cells) for cells in rows}) > 1 or len(rows[0]) < 2:
        return False
    return any(
        all(_NUMBER.fullmatch(cell.strip()) for cell in in_place)
        for in_place in zip(*rows, strict=True)
    )


def _no_texts(cells: Sequence[str], wanted: str | None) -> InputFileError:
    # The names are not told: they may be a prompt after all.
    close = None if wanted is None else resembling(wanted, cells)
    return InputFileError(
        f"'stdin' looks like a table whose header has {len(cells)} columns"
        + ("" if wanted is None else f", none called '{wanted[:80]}'"),
        hint=f"--text-column names the one with the texts; {close or _HINT}",
    )
