"""Short texts inside longer clean ones, as rows to train on.

Tokens of an insult in a long text attend to what is around it, and windows that hold its end hold
some of the next sentence: neither looks as it does when the insult is a text of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.rows import DOMAINS, WEIGHTS, Rows, balanced
from splinellm.classifiers.trials import PLACES, SHORT, filler_of, n_pieces, put_into

MOST = 1500
"""Texts of each source and label that are put among others."""

LENGTHS = (20, 160)
"""Words and marks of the clean part: what is read at once holds both. Drawn log-uniformly."""


COUNT = 4.0
"""How much a composed text counts beside one of the same source that stands alone: with it all of
them together count about as much as all others."""

N_SHARDS = 100
"""Texts that are put together are of one in so many parts of all texts."""


def sharded(groups: np.ndarray) -> np.ndarray:
    """Few groups of many: what is in one of `groups` stays together, shape (N,)."""
    spread = groups.astype(np.uint64) * np.uint64(2654435761) % np.uint64(1 << 32)  # Knuth's hash
    return (spread % np.uint64(N_SHARDS)).astype(np.int64)


def composed_rows(rows: Rows, groups: np.ndarray, *, seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Put short texts, toxic and clean, among clean ones of their own source or of the domains.

    Parameters
    ----------
    rows : Rows
        N rows to make them of.
    groups : ndarray of int, shape (N,)
        Clean texts are taken from the short one's own group, so that no split has parts of one
        composed text on both sides.
    seed : int
        Of the choices.

    Returns
    -------
    composed : Rows
        With the short text's label and source.
    short : ndarray of int
        Row of the short text in each.
    """
    random = np.random.default_rng(seed)
    fillers = _clean_by_group(rows, groups)
    texts: list[str] = []
    kept: list[int] = []
    for row in _chosen(rows, random):
        origins = [str(rows.source[row]), DOMAINS]
        random.shuffle(origins)
        around = [fillers.get((origin, int(groups[row])), []) for origin in origins]
        around = [found for clean in around if (found := [i for i in clean if i != row])]
        length = int(np.exp(random.uniform(*np.log(LENGTHS))))
        place = str(random.choice(PLACES))
        if around:
            filler = filler_of([rows.texts[i] for i in around[0]], length, random)
            texts.append(put_into(filler, rows.texts[row].strip(), place))
            kept.append(row)
    short = np.array(kept, np.int64)
    composed = replace(rows[short], texts=texts, marks=[None] * len(texts))
    return replace(composed, weights=_weights(composed)), short


def _chosen(rows: Rows, random: np.random.Generator) -> list[int]:
    is_short = np.array([0 < n_pieces(text) < SHORT for text in rows.texts])
    chosen: list[int] = []
    for source in dict.fromkeys(rows.source.tolist()):
        for label in (TOXIC, CLEAN):
            alike = np.flatnonzero(is_short & (rows.source == source) & (rows.label == label))
            if source != DOMAINS:
                chosen += random.permutation(alike)[:MOST].tolist()
    return chosen


def _weights(composed: Rows) -> np.ndarray:
    weights = np.empty(len(composed))
    for source in dict.fromkeys(composed.source.tolist()):
        of_it = composed.source == source
        own = balanced(composed.label[of_it])
        weights[of_it] = COUNT * min(1.0, WEIGHTS.get(source, 1.0)) * own
    return weights


def _clean_by_group(rows: Rows, groups: np.ndarray) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for row in np.flatnonzero(rows.label == CLEAN).tolist():
        if n_pieces(rows.texts[row]):
            found.setdefault((str(rows.source[row]), int(groups[row])), []).append(row)
    return found
