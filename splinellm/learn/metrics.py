"""Figures of merit of calibrated probabilities, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    precision_recall_curve,
    roc_auc_score,
)

from splinellm.errors import ConfigurationError
from splinellm.learn.labels import Labels
from splinellm.learn.predictions import DEFAULT_THRESHOLD


@dataclass(frozen=True)
class Target:
    """What a threshold is chosen for.

    Parameters
    ----------
    measure : {"precision", "recall"}
        What is to be reached.
    value : float
        How much of it, in (0, 1].
    """

    measure: Literal["precision", "recall"]
    value: float

    def __post_init__(self) -> None:
        if not 0.0 < self.value <= 1.0:
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
        Precision or recall to be reached.

    Returns
    -------
    float or None
        None if no threshold reaches the precision.
    """
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    precision, recall = precision[:-1], recall[:-1]  # the last point has no threshold
    if target.measure == "precision":
        reached = np.flatnonzero(precision >= target.value)
        return float(thresholds[reached[recall[reached].argmax()]]) if len(reached) else None
    reached = np.flatnonzero(recall >= target.value)
    return float(thresholds[reached[precision[reached].argmax()]])


def class_figures(
    labels: Labels, probabilities: np.ndarray, thresholds: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Measure each class against the rest.

    Parameters
    ----------
    labels : Labels
        The truth.
    probabilities : ndarray, shape (N, C)
        In the order of ``labels.classes``.
    thresholds : dict of str to float
        By class; 0.5 where none is given.

    Returns
    -------
    dict of str to dict
        For each scored class: rows with it, ROC-AUC, average precision, Brier score, and precision
        and recall at the threshold.
    """
    figures = {}
    for name in labels.scored_classes:
        truth = labels.indicator(name)
        scores = probabilities[:, labels.classes.index(name)]
        flagged = scores >= thresholds.get(name, DEFAULT_THRESHOLD)
        hits = int((flagged & (truth == 1)).sum())
        figures[name] = {
            "rows": int(truth.sum()),
            "roc_auc": float(roc_auc_score(truth, scores)),
            "average_precision": float(average_precision_score(truth, scores)),
            "brier": float(brier_score_loss(truth, scores)),
            "precision": hits / max(1, int(flagged.sum())),
            "recall": hits / max(1, int(truth.sum())),
        }
    return figures
