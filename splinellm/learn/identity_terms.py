"""Which groups of people a text names, by the words of ``identity_terms.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_FILE = Path(__file__).with_name("identity_terms.toml")


def identity_groups() -> tuple[str, ...]:
    """Names of the built-in groups."""
    return tuple(_patterns())


def identity_members(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Find the texts that name each group.

    Parameters
    ----------
    texts : sequence of str
        N texts.

    Returns
    -------
    dict of str to ndarray, shape (N,), bool
        By group; a text may be of several.
    """
    plain = [text.replace("\u2019", "'") for text in texts]
    return {
        name: np.array([pattern.search(text) is not None for text in plain], np.bool_)
        for name, pattern in _patterns().items()
    }


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    record: dict[str, Any] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    words = {name: _any_of(record[key]) for name, key in (("person", "persons"), ("be", "be"))}
    found = {}
    for name, terms in record["groups"].items():
        pattern = _any_of(terms)
        for word, alternatives in words.items():
            pattern = pattern.replace(re.escape(f"{{{word}}}"), alternatives)
        # An apostrophe ends a word ("the woman's"), an underscore does not.
        found[name] = re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE)
    return found


def _any_of(terms: Sequence[str]) -> str:
    longest_first = sorted(terms, key=len, reverse=True)
    return "(?:" + "|".join(r"[\s-]+".join(map(re.escape, t.split())) for t in longest_first) + ")"
