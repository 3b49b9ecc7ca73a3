"""What linear classifiers weigh features with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from splinellm.learn.pooled_scorer import PooledScorer

if TYPE_CHECKING:
    from splinellm.learn.classifier import Classifier


def coefficients_of(classifier: Classifier) -> tuple[dict[str, np.ndarray], str] | None:
    """Coefficients of a classifier by scored class, in the order of its columns, and their unit.

    Parameters
    ----------
    classifier : Classifier
        Of whatever estimator.

    Returns
    -------
    (dict of str to ndarray, str) or None
        ``per sd`` of a feature over texts, or ``per unit`` where a classifier pools windows; None
        for forests and boosting.
    """
    card = classifier.card
    names = card.classes[1:] if card.kind == "binary" else card.classes
    first = classifier.estimators[0]
    if isinstance(first, PooledScorer):
        return dict(zip(names, first.coef_, strict=True)), "per unit"
    rows = [_linear(one) for one in classifier.estimators]
    if any(row is None for row in rows):
        return None
    grid = np.concatenate([row for row in rows if row is not None])
    return dict(zip(names, grid, strict=True)), "per sd"


def _linear(estimator: Any) -> np.ndarray | None:
    """Rows of coefficients of the regression inside a calibrated pipeline."""
    if not isinstance(estimator, CalibratedClassifierCV):
        return None
    inner = estimator.calibrated_classifiers_[0].estimator
    regression = inner[-1] if isinstance(inner, Pipeline) else None
    return regression.coef_ if isinstance(regression, LogisticRegression) else None
