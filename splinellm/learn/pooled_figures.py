"""Figures of a pooled classifier on rows that it was not fitted to, for its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from splinellm.learn.fairness import Members, members_among
from splinellm.learn.metrics import recall_at_fpr, reliability_by_length
from splinellm.learn.pooled import probabilities_of
from splinellm.learn.pooled_fit import Bags
from splinellm.learn.pooled_material import INNER_FOLDS, Material
from splinellm.learn.pooled_scorer import Channels, PooledScorer
from splinellm.learn.training import Decisions
from splinellm.learn.windows import Windows

FALSE_ALARMS = 0.01
"""Share of texts without a class at which the card says how many of those with it are found."""


def pooled_figures(
    material: Material,
    scorer: PooledScorer,
    rows: np.ndarray,
    decisions: Decisions,
    measured_on: str,
    members: Members | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure a scorer: held out, by group of people, by channel, and by length.

    Parameters
    ----------
    material : Material
        All rows.
    scorer : PooledScorer
        Fitted to others.
    rows : ndarray of int
        To measure on.
    decisions : Decisions
        Thresholds and bands.
    measured_on : str
        What the card says of the rows.
    members : mapping of str to ndarray, shape (N,), bool, optional
        Of all rows, which are of which group.
    """
    labels, targets = material.labels, material.targets
    scores = window_scores(material, scorer, rows)
    channels: dict[str, dict[str, float]] = {}
    lengths: dict[str, dict[str, float]] = {}
    logits = np.empty((len(rows), len(targets)))
    for column, (label, target) in enumerate(zip(labels.scored_classes, targets, strict=True)):
        prefix = f"{label}: " if len(targets) > 1 else ""
        bags = material.judged_bags(rows, target, INNER_FOLDS)
        slope, constant = scorer.calibration_[column]
        of_windows = scorer.summed(scores)[:, column]
        sums = [slope * material.pool(of_windows, bag) + constant for bag in bags]
        logits[:, column] = sums[0]
        alone = {}
        if len(scores) > 1:
            alone = {
                "geometry alone": material.pool(scores["geometry"][:, column], bags[0]),
                "lexicon alone": material.pool(scores["lexicon"][:, column], bags[0]),
            }
        for name, z in {**alone, "all channels": sums[0]}.items():
            channels[prefix + name] = _figures(bags[0].targets, z)
        found = _by_length(material.windows, bags, sums)
        lengths |= {prefix + name: figures for name, figures in found.items()}
    probabilities = probabilities_of(labels.kind, logits)
    among = members_among(members, rows)
    measured = decisions.figures(labels[rows], probabilities, measured_on, among)
    longer = ", and the same among clean texts" if material.settings.augment else ""
    measured["channels"] = {"measured on": measured_on, **channels}
    measured["reliability by length"] = {"measured on": measured_on + longer, **lengths}
    return measured


def window_scores(material: Material, scorer: PooledScorer, rows: np.ndarray) -> Channels:
    """Of windows, by channel; a lexicon's only of the windows of `rows`."""
    windows = material.windows
    scores: Channels = {"geometry": windows.scores(scorer.coef_.T, scorer.intercept_)}
    if scorer.lexicon_ is not None:
        scores["lexicon"] = np.zeros_like(scores["geometry"])
        scores["lexicon"][windows.index(rows)] = scorer.lexicon_.scores(material.pieces(rows))
    return scores


def _figures(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {
        "roc_auc": float(roc_auc_score(truth, scores)),
        f"recall at {FALSE_ALARMS:.0%} false alarms": recall_at_fpr(truth, scores, FALSE_ALARMS),
    }


def _by_length(
    windows: Windows, bags: Sequence[Bags], logits: Sequence[np.ndarray]
) -> dict[str, dict[str, float]]:
    return reliability_by_length(
        np.concatenate([bag.targets for bag in bags]),
        probabilities_of("multilabel", np.concatenate(logits)),
        np.concatenate([_tokens(windows, bag) for bag in bags]),
    )


def _tokens(windows: Windows, bags: Bags) -> np.ndarray:
    """About how many tokens each bag has: windows share them, so by the texts' own means."""
    per_window = windows.n_tokens / windows.n_windows
    return np.add.reduceat(per_window[windows.owners[bags.index]], bags.starts[:-1])
