"""False alarms on harmless texts with features of African American English, against the others.

Annotators of tweets took the dialect itself for offence (Sap, Card, Gabriel, Choi and Smith, "The
Risk of Racial Bias in Hate Speech Detection", ACL 2019), and classifiers learn it from them. What
is measured here are texts that even these annotators called harmless. Its limits: a text has the
dialect if it has a word of ``dialect.toml``, which says nothing about who wrote it; most texts in
the dialect have none of them; and the labels are of the annotators whose bias is in question, so
that the true difference may well be larger.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from splinellm.classifiers.judging import Judge
from splinellm.errors import ConfigurationError
from splinellm.learn.fairness import MIN_ROWS, wilson

TITLE = "dialect"
"""Of a card's figures."""


def has_dialect(texts: Sequence[str]) -> np.ndarray:
    """Whether each text has a feature of the list, shape (N,), bool."""
    pattern = _pattern()
    return np.array([pattern.search(text.replace("\u2019", "'")) is not None for text in texts])


@cache
def _pattern() -> re.Pattern[str]:
    path = Path(__file__).with_name("dialect.toml")
    words = tomllib.loads(path.read_text(encoding="utf-8"))["features"]
    alternatives = "|".join(r"\s+".join(map(re.escape, word.split())) for word in words)
    return re.compile(rf"(?<![\w@#'])(?:{alternatives})(?![\w'])", re.IGNORECASE)


def dialect_figures(
    judge: Judge, clean: Sequence[str], *, threshold: float | None = None
) -> dict[str, Any]:
    """Compare false positive rates.

    Parameters
    ----------
    judge : Judge
        See :func:`splinellm.classifiers.judging.judge_of`; one that was trained on these texts
        looks fairer than it is.
    clean : sequence of str
        Texts that annotators called harmless, such as the tweets of davidson called "neither".
    threshold : float, optional
        The judge's own by default.

    Returns
    -------
    dict
        For a card: ``measured on`` with the limits in a line, and rows ``with features`` and
        ``without``: ``texts``, ``flagged`` (the share) and ``95 %`` (Wilson's interval).

    Raises
    ------
    ConfigurationError
        Either side has fewer than ten texts.
    """
    inside = has_dialect(clean)
    sides = {"with features": inside, "without": ~inside}
    for name, among in sides.items():
        if among.sum() < MIN_ROWS:
            raise ConfigurationError(
                f"{int(among.sum())} texts {name} of the dialect are too few to compare",
                hint=f"at least {MIN_ROWS} are needed",
            )
    limit = judge.threshold if threshold is None else threshold
    flags = judge.scores(clean) >= limit
    rows: dict[str, Any] = {}
    for name, among in sides.items():
        share, n = float(flags[among].mean()), int(among.sum())
        rows[name] = {"texts": n, "flagged": share, "95 %": list(wilson(share, n))}
    return {
        "measured on": f"harmless texts with and without features of African American English "
        f"(dialect.toml: words, not speakers; labels are of annotators who may share the bias), "
        f"threshold {limit:.4g}",
        **rows,
    }
