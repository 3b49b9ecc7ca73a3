"""Figures of merit of calibrated probabilities, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_curve,
    roc_auc_score,
)

from splinellm.errors import ConfigurationError
from splinellm.learn.bootstrap import INTERVALS, figure_intervals, share_interval
from splinellm.learn.labels import Labels
from splinellm.learn.predictions import CHOICE, MOST_PROBABLE, verdict_flags
from splinellm.parameters import number

ACCURACY, ACCURACY_INTERVAL = "accuracy", "accuracy interval"
"""Of a card's figures of exclusive classes."""


@dataclass(frozen=True)
class Target:
    """What a threshold is chosen for.

    Parameters
    ----------
    measure : {"precision", "recall", "fpr"}
        What is to be reached; ``fpr``, the share of rows without the class that are flagged, is not
        to be exceeded.
    value : float
        How much of it, in (0, 1].
    """

    measure: Literal["precision", "recall", "fpr"]
    value: float

    def __post_init__(self) -> None:
        if self.measure not in ("precision", "recall", "fpr"):
            raise ConfigurationError(
                f"unknown target '{str(self.measure)[:40]}'", hint="use precision, recall or fpr"
            )
        if not 0.0 < number(f"target {self.measure}", self.value) <= 1.0:
            raise ConfigurationError(f"target {self.measure} {self.value} is not in (0, 1]")


def choose_threshold(truth: np.ndarray, scores: np.ndarray, target: Target) -> float | None:
    """Choose the threshold that reaches a target at the least cost of the other measure.

    Parameters
    ----------
    truth : ndarray, shape (N,)
        Zeros and ones.
    scores : ndarray, shape (N,)
        Probabilities of rows that were not trained on.
    target : Target
        Precision or recall to be reached, or the false positive rate to be kept to.

    Returns
    -------
    float or None
        None if no threshold reaches the precision, or none that flags a row keeps to the rate.
    """
    if target.measure == "fpr":
        return _threshold_for_fpr(truth, scores, target.value)
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    precision, recall = precision[:-1], recall[:-1]  # the last point has no threshold
    if target.measure == "precision":
        reached = np.flatnonzero(precision >= target.value)
        return float(thresholds[reached[recall[reached].argmax()]]) if len(reached) else None
    reached = np.flatnonzero(recall >= target.value)
    return float(thresholds[reached[precision[reached].argmax()]])


def _threshold_for_fpr(truth: np.ndarray, scores: np.ndarray, rate: float) -> float | None:
    """Lowest score from which at most a share `rate` of the rows without the class is flagged."""
    negatives = np.sort(scores[truth == 0])
    candidates = np.unique(scores)
    flagged = len(negatives) - np.searchsorted(negatives, candidates)
    kept = candidates[flagged <= rate * len(negatives)]
    return float(kept[0]) if len(kept) else None


def nearest_threshold(truth: np.ndarray, scores: np.ndarray, target: Target) -> float:
    """Threshold that comes closest to a target that no threshold reaches.

    Of the rates of false positives the lowest that a threshold which flags a row has; of the
    precisions the highest.
    """
    candidates = np.unique(scores)
    flagged = scores >= candidates[:, None]
    wrong = (flagged & (truth == 0)).sum(axis=1)
    if target.measure == "fpr":
        return float(candidates[int(np.argmin(wrong))])
    precision = 1.0 - wrong / flagged.sum(axis=1)
    return float(candidates[int(np.argmax(precision))])


def misses(target: Target, figures: Mapping[str, Any]) -> bool:
    """Whether held-out figures of a class fall short of a target."""
    value = float(figures[target.measure])
    return value > target.value if target.measure == "fpr" else value < target.value


def class_figures(
    labels: Labels,
    probabilities: np.ndarray,
    thresholds: Mapping[str, float | np.ndarray],
    groups: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure each class against the rest.

    Parameters
    ----------
    labels : Labels
        The truth.
    probabilities : ndarray, shape (N, C)
        In the order of ``labels.classes``.
    thresholds : mapping of str to float, or to ndarray of shape (N,)
        By class, for all rows or row by row; 0.5 where none is given. Not of exclusive classes: a
        row has the most probable one, and no other.
    groups : ndarray of int, optional
        Rows of one group are no independent evidence.

    Returns
    -------
    dict of str to dict
        For each scored class: rows with it, ROC-AUC, average precision, Brier score, and precision,
        recall and false positive rate of the verdict, which is by the thresholds; and their 95 %
        ``intervals``, see :mod:`splinellm.learn.bootstrap`.
    """
    intervals = figure_intervals(labels, probabilities, thresholds, groups)
    said = verdict_flags(labels.kind, labels.classes, probabilities, thresholds)
    figures: dict[str, dict[str, Any]] = {}
    for name in labels.scored_classes:
        truth = labels.indicator(name)
        column = labels.classes.index(name)
        scores, flagged = probabilities[:, column], said[:, column]
        hits = int((flagged & (truth == 1)).sum())
        figures[name] = {
            "rows": int(truth.sum()),
            "roc_auc": float(roc_auc_score(truth, scores)),
            "average_precision": float(average_precision_score(truth, scores)),
            "brier": float(brier_score_loss(truth, scores)),
            "precision": hits / max(1, int(flagged.sum())),
            "recall": hits / max(1, int(truth.sum())),
            "fpr": (int(flagged.sum()) - hits) / max(1, int((truth == 0).sum())),
            INTERVALS: intervals[name],
        }
    return figures


def choice_figures(
    labels: Labels, probabilities: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Of exclusive classes, how often the most probable one is right; of others nothing.

    Parameters
    ----------
    labels, probabilities, groups
        See :func:`class_figures`.

    Returns
    -------
    dict
        What decides, ``accuracy``, and its 95 % ``accuracy interval``.
    """
    if labels.kind != "multiclass":
        return {}
    hits = probabilities.argmax(axis=1) == labels.values
    return {
        CHOICE: MOST_PROBABLE,
        ACCURACY: float(hits.mean()),
        ACCURACY_INTERVAL: share_interval(hits, groups),
    }


def recall_at_fpr(truth: np.ndarray, scores: np.ndarray, rate: float) -> float:
    """Share of the rows with a class that is found while at most a share of the others is.

    Parameters
    ----------
    truth : ndarray, shape (N,)
        Zeros and ones.
    scores : ndarray, shape (N,)
        Any that rise with probability.
    rate : float
        False alarms, in (0, 1].
    """
    threshold = _threshold_for_fpr(truth, scores, rate)
    found = 0 if threshold is None else int((scores[truth == 1] >= threshold).sum())
    return found / max(1, int((truth == 1).sum()))
