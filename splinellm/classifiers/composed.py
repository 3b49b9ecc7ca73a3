"""Short texts inside longer clean ones, as rows to train on; see :mod:`splinellm.learn.composing`.

Of each source as many, and each among clean texts of its own source or of the domains.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.rows import DOMAINS, WEIGHTS, Rows, balanced
from splinellm.learn.composing import COUNT, MOST, compose

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
    found = compose(
        rows.texts,
        groups,
        kinds=_kinds(rows),
        clean=rows.label == CLEAN,
        origins=rows.source,
        everywhere=DOMAINS,
        most=MOST,
        seed=seed,
    )
    composed = replace(rows[found.short], texts=found.texts, marks=[None] * len(found))
    return replace(composed, weights=_weights(composed)), found.short


def _kinds(rows: Rows) -> np.ndarray:
    """Sources in their order, toxic texts before clean ones; of domains none is put anywhere."""
    names = list(dict.fromkeys(rows.source.tolist()))
    numbers = np.array([2 * names.index(name) for name in rows.source.tolist()], np.int64)
    kinds = np.where(rows.label == TOXIC, numbers, numbers + 1)
    return np.where(rows.source == DOMAINS, -1, kinds)


def _weights(composed: Rows) -> np.ndarray:
    """With these all of them together count about as much as all others."""
    weights = np.empty(len(composed))
    for source in dict.fromkeys(composed.source.tolist()):
        of_it = composed.source == source
        own = balanced(composed.label[of_it])
        weights[of_it] = COUNT * min(1.0, WEIGHTS.get(source, 1.0)) * own
    return weights


__all__ = ["COUNT", "MOST", "N_SHARDS", "composed_rows", "sharded"]
