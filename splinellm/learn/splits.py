"""Splits that do not flatter: stratified, group-aware, near-duplicates on one side."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from splinellm.errors import ConfigurationError
from splinellm.learn.labels import Labels

Split = tuple[np.ndarray, np.ndarray]
"""Row numbers to train on and to test on."""

_PERMUTATIONS = 64
_SIMILARITY = 0.8
_NOISE = re.compile(r"https?://\S+|@\w+|\brt\b")
_WORD = re.compile(r"\w+")


def near_duplicates(texts: Sequence[str]) -> np.ndarray:
    """Give the same number to texts that say nearly the same.

    Case, punctuation, links and user names are ignored; beyond that, texts whose sets of word
    triples overlap by about 80 % (Jaccard, by MinHash) count as one.

    Parameters
    ----------
    texts : sequence of str

    Returns
    -------
    ndarray, shape (N,), int64
        Group of each text.
    """
    pairs: list[tuple[int, int]] = []
    index = MinHashLSH(threshold=_SIMILARITY, num_perm=_PERMUTATIONS)
    first_of: dict[str, int] = {}
    for position, text in enumerate(texts):
        words = _words(text)
        # Texts of the same words (or without any) are the same without a sketch.
        key = " ".join(words) or text.strip()
        if key in first_of:
            pairs.append((position, first_of[key]))
            continue
        first_of[key] = position
        if not words:
            continue
        sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
        sketch.update_batch([shingle.encode() for shingle in _shingles(words)])
        pairs.extend((position, other) for other in index.query(sketch))
        index.insert(position, sketch)
    return _connected(len(texts), pairs)


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(_NOISE.sub(" ", folded))


def _shingles(words: list[str]) -> set[str]:
    if len(words) < 3:
        return {" ".join(words)}
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def merged_groups(groupings: Sequence[Iterable[Any]]) -> np.ndarray | None:
    """Combine groupings of the same rows: rows that share a group in any of them stay together.

    Parameters
    ----------
    groupings : sequence of sequences
        Each with one group key per row; may be empty.

    Returns
    -------
    ndarray of int64 or None
        None if no two rows share a group, so that plain stratified splits will do.
    """
    if not groupings:
        return None
    pairs: list[tuple[int, int]] = []
    n_rows = 0
    for grouping in groupings:
        first_of: dict[Hashable, int] = {}
        keys = list(grouping)
        pairs.extend((row, first_of.setdefault(key, row)) for row, key in enumerate(keys))
        n_rows = len(keys)
    groups = _connected(n_rows, pairs)
    return None if len(set(groups.tolist())) == len(groups) else groups


def _connected(n_rows: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Number the connected components of rows that were paired."""
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(n_rows, n_rows))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def stratified_splits(
    labels: Labels, groups: np.ndarray | None, *, n_splits: int, n_repeats: int = 1, seed: int = 0
) -> list[Split]:
    """Repeated stratified k-fold splits.

    Parameters
    ----------
    labels : Labels
        Strata.
    groups : ndarray of int, optional
        Rows of one group are never on both sides.
    n_splits, n_repeats, seed : int
        Folds, repetitions with other shuffles, and the first shuffle's seed.

    Returns
    -------
    list of (ndarray, ndarray)
        ``n_splits * n_repeats`` pairs of training and test rows.

    Raises
    ------
    ConfigurationError
        There are more folds than groups, or than rows of any one stratum.
    """
    strata = labels.strata()
    if groups is not None and (n_groups := len(set(groups.tolist()))) < n_splits:
        raise ConfigurationError(
            f"fewer groups than the {n_splits} folds: the {len(labels):,} rows are of {n_groups}",
            hint="add rows of others; rows that say nearly the same are one group, too",
        )
    n_most = int(np.unique(strata, return_counts=True)[1].max(initial=0))
    if n_most < n_splits:
        raise ConfigurationError(
            f"no class has a row for each of {n_splits} folds: the largest has {n_most:,}",
            hint=f"{n_most:,} folds at most, or more rows",
        )
    splits: list[Split] = []
    for repeat in range(n_repeats):
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        folds = kind(n_splits, shuffle=True, random_state=seed + repeat)
        splits.extend(folds.split(np.zeros(len(labels)), strata, groups))
    return splits


def leave_one_out(keys: Sequence[Hashable]) -> dict[str, Split]:
    """One split per distinct key: train on all other rows, test on the key's own."""
    array = np.array([str(key) for key in keys])
    return {
        str(key): (np.flatnonzero(array != key), np.flatnonzero(array == key))
        for key in sorted(set(array.tolist()))
    }
