"""Parts of a text that a class was found in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from splinellm.errors import ConfigurationError


class Span(NamedTuple):
    """A part of a text that a class was found in."""

    begin: int
    """First character, in code points of the text as it was given."""
    end: int
    """One after the last."""
    label: str
    """The class."""
    score: float
    """The highest probability in it, each token's being that of a text like it."""


def require_threshold(threshold: float | None) -> None:
    """Refuse what is no probability."""
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ConfigurationError(f"threshold {threshold} is not in [0, 1]")


def merged_spans(
    begin: np.ndarray, end: np.ndarray, scores: np.ndarray, inside: np.ndarray, label: str
) -> list[Span]:
    """Merge adjacent tokens that are inside; what is nowhere is passed over.

    Parameters
    ----------
    begin, end, scores : ndarray, shape (T,)
        Of tokens, in order.
    inside : ndarray, shape (T,), bool
        Tokens that count.
    label : str
        Of the spans.
    """
    spans: list[Span] = []
    is_open = False
    columns = (begin.tolist(), end.tolist(), scores.tolist(), inside.tolist())
    for a, b, score, counts in zip(*columns, strict=True):
        if not 0 <= a < b:
            continue
        if not counts:
            is_open = False
        elif is_open:
            last = spans[-1]
            spans[-1] = last._replace(end=max(last.end, b), score=max(last.score, score))
        else:
            spans.append(Span(a, b, label, score))
            is_open = True
    return spans
