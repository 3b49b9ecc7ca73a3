"""Bootstrap intervals of held-out figures: rows, or groups of rows, drawn anew many times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from splinellm.learn.fairness import wilson
from splinellm.learn.labels import Labels
from splinellm.learn.predictions import verdict_flags

if TYPE_CHECKING:
    from splinellm.learn.metrics import Target

INTERVALS = "intervals"
"""Of the figures of a class: low and high of each, 95 %."""
RESAMPLES = 1000
LEVEL = (2.5, 97.5)
_PART = 2_000_000
"""Weights that are held at once."""


def figure_intervals(
    labels: Labels,
    probabilities: np.ndarray,
    thresholds: Mapping[str, float | np.ndarray],
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> dict[str, dict[str, list[float]]]:
    """Percentile intervals of what :func:`splinellm.learn.metrics.class_figures` measures.

    A figure that is the same in every resample, as of classes that are told apart without a
    mistake, has none of its own; its interval is that of an equal share, counted in as many rows
    (Wilson's): a few rows without a mistake prove little.

    Parameters
    ----------
    labels, probabilities, thresholds
        See :func:`splinellm.learn.metrics.class_figures`.
    groups : ndarray of int, optional
        Rows of one group are drawn together.
    seed : int
        Of the draws.

    Returns
    -------
    dict of str to dict of str to [float, float]
        By class, low and high by figure; figures that no resample has are left out.
    """
    n_rows = len(probabilities)
    numbers = np.arange(n_rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_groups = int(numbers.max()) + 1 if n_rows else 0
    said = verdict_flags(labels.kind, labels.classes, probabilities, thresholds)
    random = np.random.default_rng(seed)
    size = max(1, _PART // max(1, n_rows))
    found: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in labels.scored_classes}
    for start in range(0, RESAMPLES if n_rows else 0, size):
        n_draws = min(size, RESAMPLES - start)
        drawn = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), n_draws)
        weights = drawn[:, numbers].astype(np.float64)
        for name, kept in found.items():
            column = labels.classes.index(name)
            scores, flagged = probabilities[:, column], said[:, column]
            for key, values in _figures(weights, labels.indicator(name), scores, flagged).items():
                kept.setdefault(key, []).append(values)
    return {name: _intervals(kept, labels.indicator(name)) for name, kept in found.items()}


def share_interval(
    hits: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
) -> list[float]:
    """Percentile interval of the share of rows that something is true of.

    Parameters
    ----------
    hits : ndarray, shape (N,), bool
        Of which; at least one row.
    groups, seed
        See :func:`figure_intervals`.
    """
    share = float(hits.mean())
    if share in (0.0, 1.0):
        return [float(end) for end in np.clip(wilson(share, len(hits)), 0.0, 1.0)]
    numbers = np.arange(len(hits)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(numbers).astype(np.float64)
    of_groups = np.bincount(numbers, hits)
    random = np.random.default_rng(seed)
    shares = [
        float(drawn @ of_groups / (drawn @ sizes))
        for drawn in (
            random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)))
            for _ in range(RESAMPLES)
        )
    ]
    return [float(end) for end in np.percentile(shares, LEVEL)]


def threshold_interval(
    truth: np.ndarray, scores: np.ndarray, target: Target, *, resamples: int = 200, seed: int = 0
) -> list[float] | None:
    """Percentile interval of the threshold that a target chooses; None if it seldom finds one."""
    from splinellm.learn.metrics import choose_threshold  # which measures with this

    random = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        rows = random.integers(len(truth), size=len(truth))
        if 0 < truth[rows].sum() < len(rows):
            chosen = choose_threshold(truth[rows], scores[rows], target)
            found += [] if chosen is None else [chosen]
    if len(found) < resamples / 2:
        return None
    return [float(value) for value in np.percentile(found, LEVEL)]


def _intervals(kept: Mapping[str, list[np.ndarray]], truth: np.ndarray) -> dict[str, list[float]]:
    n_with = int((truth == 1).sum())
    counted_in = {"recall": n_with, "fpr": len(truth) - n_with, "precision": n_with}
    found: dict[str, list[float]] = {}
    for key, parts in kept.items():
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        low, high = (float(value) for value in np.percentile(values, LEVEL))
        if low == high and key != "brier" and low in (0.0, 1.0):
            rows = counted_in.get(key, min(n_with, len(truth) - n_with))
            low, high = np.clip(wilson(low, max(1, rows)), 0.0, 1.0).tolist()
        found[key] = [low, high]
    return found


def _figures(
    weights: np.ndarray, truth: np.ndarray, scores: np.ndarray, flagged: np.ndarray
) -> dict[str, np.ndarray]:
    """Figures of resamples (R, N), each shape (R,); NaN where a resample lacks a class."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    positive = np.add.reduceat((weights * truth)[:, order], starts, axis=1)
    negative = np.add.reduceat((weights * (1 - truth))[:, order], starts, axis=1)
    n_with, n_without = positive.sum(axis=1), negative.sum(axis=1)
    above = np.cumsum(positive, axis=1)  # with the class, from this score on
    with np.errstate(invalid="ignore", divide="ignore"):
        area = ((above - positive / 2) * negative).sum(axis=1) / (n_with * n_without)
        n_from = np.cumsum(positive + negative, axis=1)
        precision = np.where(n_from > 0, above / np.maximum(n_from, 1), 0.0)
        average = (precision * positive).sum(axis=1) / n_with
        hits = weights @ (flagged * truth)
        n_flagged = weights @ flagged
        return {
            "roc_auc": area,
            "average_precision": average,
            "brier": weights @ ((scores - truth) ** 2) / weights.sum(axis=1),
            "precision": hits / np.where(n_flagged > 0, n_flagged, np.nan),
            "recall": hits / np.where(n_with > 0, n_with, np.nan),
            "fpr": (n_flagged - hits) / np.where(n_without > 0, n_without, np.nan),
        }
