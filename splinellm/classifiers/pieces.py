"""Short pieces of texts: so that a classifier of domains knows a line as well as a page.

Everything follows from what a text says, so that two runs cut the same pieces, in whatever order
texts come.
"""

from __future__ import annotations

import hashlib
import re
from textwrap import dedent

LONGEST = 3
"""Lines or sentences of a piece, at most."""

_ABBREVIATIONS = (
    *("FIG", "FIGS", "Fig", "Figs", "Mr", "Mrs", "Dr", "St"),
    *("No", "no", "vs", "cf", "al"),
)
"""What a stop does not end a sentence after; beside single letters, as in names and ``s. 9``."""

_OPENING, _CLOSING = "\"'\u201c\u2018", "\"'\u201d\u2019"
"""Straight and curled quotation marks."""

_STOP = "".join(rf"(?<!\b{word}\.)" for word in (*_ABBREVIATIONS, r"\w"))
_END = rf"(?:(?<=[.!?])|(?<=[.!?][{_CLOSING})])){_STOP}"
_SENTENCE_END = re.compile(rf"{_END}\s+(?=[{_OPENING}(\[]*[A-Z0-9])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_CLAUSE_END = re.compile(r"(?<=;)\s+")
"""Claims of a patent are one sentence, however long."""

_WORD = re.compile(r"\w+")
_PLAIN = re.compile(rf"[{_OPENING}-]?\w*[.,:!?{_CLOSING}]*")


def units_of(text: str, *, by_line: bool) -> list[str]:
    """Cut a text into its lines, or into its sentences; a single sentence into its clauses.

    Parameters
    ----------
    text : str
        To be cut; whatever is between two units is white space, and in neither.
    by_line : bool
        Whether lines are what the text is made of, as program text is.
    """
    if by_line:
        return _filled(text.splitlines())
    paragraphs = _PARAGRAPH_END.split(text)
    units = _filled([unit for part in paragraphs for unit in _SENTENCE_END.split(part)])
    return units if len(units) > 1 else _filled(_CLAUSE_END.split(text))


def is_telling(piece: str) -> bool:
    """Whether there are two words or numbers in it: a brace or an answer alone tells no domain."""
    return len(_WORD.findall(piece)) > 1


def is_empty(piece: str) -> bool:
    """Whether it is one word or number, or ordinary marks: nobody could say which text it is of."""
    return _PLAIN.fullmatch(piece) is not None


def pieces_of(text: str, *, by_line: bool, n: int) -> list[str]:
    """Choose pieces of one to three lines or sentences, by what the text says.

    Parameters
    ----------
    text : str
        To be cut; one that is a single line or sentence gives nothing.
    by_line : bool
        See :func:`units_of`.
    n : int
        Pieces, at most: those that would be the whole text, would be there twice, or tell nothing
        (see :func:`is_telling`) are left out.
    """
    units = units_of(text, by_line=by_line)
    found: list[str] = []
    for number in range(n):
        digest = _digest(text, number)
        length = 1 + digest % LONGEST
        if length >= len(units):
            continue
        begin = digest // LONGEST % (len(units) - length + 1)
        piece = _joined(units[begin : begin + length], by_line=by_line)
        if is_telling(piece) and piece not in found:
            found.append(piece)
    return found


def empty_piece_of(text: str, *, by_line: bool) -> str | None:
    """Choose a line or sentence that is nobody's (see :func:`is_empty`), if there is one."""
    units = [unit.strip() for unit in units_of(text, by_line=by_line) if is_empty(unit.strip())]
    return units[_digest(text, 0) % len(units)] if units else None


def _filled(units: list[str]) -> list[str]:
    return [unit for unit in units if unit.strip()]


def _joined(units: list[str], *, by_line: bool) -> str:
    return dedent("\n".join(units)).strip() if by_line else " ".join(units).strip()


def _digest(text: str, number: int) -> int:
    content = f"{number} {text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:8])
