"""What the classifier of domains learns from: whole texts, and short pieces of them.

Texts of the collections are long but for instructions, so that whole texts alone teach that what is
short is an instruction or of no domain.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from splinellm.classifiers.pieces import empty_piece_of, pieces_of
from splinellm.learn.splits import near_duplicates

OTHER = "other"
"""The class of texts of no known domain."""

BY_LINE = frozenset({"code", "math"})
"""Domains whose texts are made of lines, not of sentences."""

PIECES = 2
"""Of a text, at most; what is left out of them, :func:`~splinellm.classifiers.pieces.pieces_of`
says."""

ALIKE = 0.5
"""Share of common words, among all words of two short texts, from which they are too alike."""

_WORD = re.compile(r"\w+")


def with_pieces(frame: pd.DataFrame) -> pd.DataFrame:
    """Add short pieces of texts as rows of their own.

    Pieces have the label of their text. One more of each text, if it has a line or sentence that
    could be of any text, has the label :data:`OTHER`. Of pieces that say nearly the same, or what a
    whole text says, only the first is there: none of them is in two groups.

    Parameters
    ----------
    frame : pandas.DataFrame
        With the columns ``text`` and ``label``.

    Returns
    -------
    pandas.DataFrame
        The rows, then those of pieces, with the columns ``origin``: the position of the row that
        each was cut from, its own for a whole text; and ``is_piece``.
    """
    frame = frame.reset_index(drop=True)
    cut: list[tuple[int, str, str]] = []
    for position, (text, label) in enumerate(zip(frame["text"], frame["label"], strict=True)):
        by_line = label in BY_LINE
        cut += [(position, piece, label) for piece in pieces_of(text, by_line=by_line, n=PIECES)]
        empty = empty_piece_of(text, by_line=by_line)
        if empty is not None and empty != text.strip():
            cut.append((position, empty, OTHER))
    origins = np.array([position for position, _, _ in cut], np.int64)
    pieces = frame.iloc[origins].assign(
        text=[piece for _, piece, _ in cut], label=[label for _, _, label in cut]
    )
    whole = frame.assign(origin=np.arange(len(frame)), is_piece=False)
    pieces = pieces.assign(origin=origins, is_piece=True)
    both = pd.concat([whole, pieces], ignore_index=True)
    _, first = np.unique(near_duplicates(list(both["text"])), return_index=True)
    kept = np.union1d(np.arange(len(frame)), first)
    return both.iloc[kept].reset_index(drop=True)


def like_any(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Which texts have at least half of their words in common with one of some others.

    Parameters
    ----------
    texts : sequence of str
        N texts.
    others : sequence of str
        Short ones; those without any word are alike if they are the same.

    Returns
    -------
    ndarray, shape (N,), bool
    """
    sets = [_words(other) for other in others]
    return np.array(
        [any(_are_alike(_words(text), one) for one in sets) for text in texts], np.bool_
    )


@cache
def lines_of_domains() -> tuple[str, ...]:
    """Sentences of this project that are of a known domain: not to be called other."""
    path = Path(__file__).with_name("domain_lines.toml")
    return tuple(tomllib.loads(path.read_text(encoding="utf-8"))["lines"])


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold())) or frozenset({text.strip()})


def _are_alike(words: frozenset[str], others: frozenset[str]) -> bool:
    return len(words & others) >= ALIKE * len(words | others)
