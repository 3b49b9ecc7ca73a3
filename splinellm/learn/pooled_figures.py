"""Figures of a pooled classifier on rows that it was not fitted to, for its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from splinellm.learn.fairness import Members
from splinellm.learn.lengths import BY_LENGTH, TRIED_UP_TO, reliability_by_length, tried_up_to
from splinellm.learn.metrics import recall_at_fpr
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.pooled import probabilities_of
from splinellm.learn.pooled_fit import Bags
from splinellm.learn.pooled_material import INNER_FOLDS, Material
from splinellm.learn.pooled_scorer import Channels, PooledScorer
from splinellm.learn.trials import Decisions, Trial, held_out, trial_figures
from splinellm.learn.windows import Windows

FALSE_ALARMS = 0.01
"""Share of texts without a class at which the card says how many of those with it are found."""


@dataclass(frozen=True, eq=False)
class PooledTrial:
    """A scorer that was fitted to some rows, to be tried on the others.

    Parameters
    ----------
    scorer : PooledScorer
        Fitted.
    rows : ndarray of int
        To measure on.
    decisions : Decisions
        Thresholds and bands, chosen on the rows that it was fitted to.
    """

    scorer: PooledScorer
    rows: np.ndarray
    decisions: Decisions


def pooled_figures(
    material: Material,
    trials: Sequence[PooledTrial],
    groups: np.ndarray | None,
    members: Members | None = None,
    kept: OutOfFold | None = None,
    *,
    n_rows: int | None = None,
    tried_longer: bool = False,
) -> dict[str, dict[str, Any]]:
    """Measure scorers: held out, by group of people, and the first by channel and by length.

    Parameters
    ----------
    material : Material
        All rows.
    trials : sequence of PooledTrial
        At least one.
    groups : ndarray of int, optional
        Of all rows: those of one are on one side of every split.
    members : mapping of str to ndarray, shape (N,), bool, optional
        Of all rows, which are of which group of people.
    kept : OutOfFold, optional
        Gets the probabilities of the rows that were measured.
    n_rows : int, optional
        Of how many figures could be; of all without.
    tried_longer : bool
        Whether texts beyond the length of the rows are tried by whoever calls.
    """
    first, *others = trials
    labels = material.labels
    logits, channels, lengths = _measured(material, first)
    if tried_longer:
        lengths.pop(TRIED_UP_TO, None)  # which would end with these rows
    of_trials = [logits, *(_measured(material, one)[0] for one in others)]
    measured = trial_figures(
        [
            Trial(one.rows, probabilities_of(labels.kind, found), one.decisions)
            for one, found in zip(trials, of_trials, strict=True)
        ],
        labels,
        groups,
        members,
        kept,
        n_rows=n_rows,
    )
    measured_on = held_out(len(first.rows), len(labels) if n_rows is None else n_rows, groups)
    longer = ", and the same among clean texts" if material.settings.augment else ""
    measured["channels"] = {"measured on": measured_on, **channels}
    measured[BY_LENGTH] = {"measured on": measured_on + longer, **lengths}
    return measured


def _measured(
    material: Material, trial: PooledTrial
) -> tuple[np.ndarray, dict[str, dict[str, float]], dict[str, Any]]:
    """Logits of a trial's rows, and figures by channel and by length."""
    labels, targets, scorer, rows = material.labels, material.targets, trial.scorer, trial.rows
    scores = window_scores(material, scorer, rows)
    channels: dict[str, dict[str, float]] = {}
    lengths: dict[str, Any] = {}
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
        truth = np.concatenate([bag.targets for bag in bags])
        n_tokens = np.concatenate([_tokens(material.windows, bag) for bag in bags])
        probabilities = probabilities_of("multilabel", np.concatenate(sums))
        found = reliability_by_length(truth, probabilities, n_tokens)
        lengths = lengths or dict(tried_up_to(n_tokens))
        lengths |= {prefix + name: figures for name, figures in found.items()}
    return logits, channels, lengths


def window_scores(material: Material, scorer: PooledScorer, rows: np.ndarray) -> Channels:
    """Of windows, by channel; a lexicon's only of the windows of `rows`."""
    windows = material.windows
    scores: Channels = {"geometry": windows.scores(scorer.coef_.T, scorer.intercept_)}
    if scorer.lexicon_ is not None:
        scores["lexicon"] = np.zeros_like(scores["geometry"])
        own = scorer.lexicon_.scores_of_windows(*material.pieces(rows))
        scores["lexicon"][windows.index(rows)] = own
    return scores


def _figures(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {
        "roc_auc": float(roc_auc_score(truth, scores)),
        f"recall at {FALSE_ALARMS:.0%} false alarms": recall_at_fpr(truth, scores, FALSE_ALARMS),
    }


def _tokens(windows: Windows, bags: Bags) -> np.ndarray:
    """About how many tokens each bag has: windows share them, so by the texts' own means."""
    per_window = windows.n_tokens / windows.n_windows
    return np.add.reduceat(per_window[windows.owners[bags.index]], bags.starts[:-1])
