"""Sentences of a text, for scores by sentence."""

from __future__ import annotations

import re
from itertools import pairwise

_END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s)|[。！？]+|\n\s*""")  # noqa: RUF001
"""A full stop and what closes with it, before white space; or the end of a line."""


def sentence_spans(text: str, max_spans: int) -> list[tuple[int, int]]:
    """Find the sentences of a text, without the white space around them.

    Parameters
    ----------
    text : str
        Any text.
    max_spans : int
        Of more sentences than that, neighbours are joined.

    Returns
    -------
    list of (int, int)
        Begin and end in Unicode code points, ascending; empty for a blank text.
    """
    ends = [match.end() for match in _END.finditer(text)]
    bounds = [0, *ends, len(text)]
    spans = [
        span for begin, end in pairwise(bounds) if (span := _stripped(text, begin, end)) is not None
    ]
    size = -(-len(spans) // max_spans) or 1
    groups = (spans[start : start + size] for start in range(0, len(spans), size))
    return [(group[0][0], group[-1][1]) for group in groups]


def _stripped(text: str, begin: int, end: int) -> tuple[int, int] | None:
    part = text[begin:end]
    if not part.strip():
        return None
    begin += len(part) - len(part.lstrip())
    return begin, begin + len(part.strip())
