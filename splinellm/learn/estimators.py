"""The estimators: the paper's two, gradient boosting, and self-training; tuned and calibrated."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from splinellm.errors import ConfigurationError
from splinellm.learn.splits import Split

EstimatorName = Literal["logistic", "forest", "boosting"]
ESTIMATORS: tuple[EstimatorName, ...] = ("logistic", "forest", "boosting")

REGULARISATION = (1e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0)
"""Candidates for C, the inverse strength of the logistic regression's L2 penalty."""

TOLERANCE = 1e-3
"""Of ROC-AUC: what is closer to the best counts as equal."""

PAPER_MIN_SAMPLES_LEAF = 100
SELF_TRAINING_CONFIDENCE = 0.9


def plain_estimator(name: EstimatorName, *, n_rows: int, c: float = 0.01, seed: int = 0) -> Any:
    """Make an estimator with fixed hyperparameters.

    Parameters
    ----------
    name : {"logistic", "forest", "boosting"}
        ``logistic``: standardised, L2 penalty, balanced classes. ``forest``: the paper's random
        forest, leaves of at least 100 rows (one row in a hundred below 10,000), balanced.
        ``boosting``: histogram gradient boosting, balanced.
    n_rows : int
        Rows to be trained on.
    c : float
        Inverse penalty of the logistic regression.
    seed : int
        Of what is random.
    """
    if name == "logistic":
        regression = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
        return make_pipeline(StandardScaler(), regression)
    if name == "forest":
        leaf = min(PAPER_MIN_SAMPLES_LEAF, max(1, n_rows // 100))
        return RandomForestClassifier(
            min_samples_leaf=leaf, class_weight="balanced", n_jobs=-1, random_state=seed
        )
    if name == "boosting":
        return HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)
    raise ConfigurationError(
        f"unknown estimator '{str(name)[:40]}'", hint=f"use {', '.join(ESTIMATORS)}"
    )


def best_c(values: np.ndarray, target: np.ndarray, splits: Sequence[Split]) -> float:
    """Choose the logistic regression's C by cross-validated ROC-AUC.

    Parameters
    ----------
    values : ndarray, shape (N, F)
        Features.
    target : ndarray, shape (N,)
        Class indices.
    splits : sequence of (ndarray, ndarray)
        A partition of the rows into test folds.

    Returns
    -------
    float
        The strongest penalty whose score is within a thousandth of the best: between equals the
        simpler one.
    """
    scores: list[float] = []
    for c in REGULARISATION:
        if len(scores) > 2 and max(scores[-2:]) < max(scores) - TOLERANCE:
            break  # past the peak, and not by chance: weaker penalties take longest to fit
        estimator = plain_estimator("logistic", n_rows=len(target), c=c)
        with warnings.catch_warnings():
            # On columns that barely vary the line search gives up at some penalties, on some
            # processors. Such a candidate is judged by its score like the others.
            warnings.simplefilter("ignore", ConvergenceWarning)
            out_of_fold = cross_val_predict(
                estimator, values, target, cv=splits, method="predict_proba"
            )
        scores.append(area_under_curve(target, out_of_fold))
    enough = max(scores) - TOLERANCE
    return next(c for c, score in zip(REGULARISATION, scores, strict=False) if score >= enough)


def area_under_curve(target: np.ndarray, probabilities: np.ndarray) -> float:
    """ROC-AUC, the mean over classes one against the rest where there are more than two."""
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(target, probabilities[:, 1]))
    return float(roc_auc_score(target, probabilities, multi_class="ovr"))


def fit_calibrated(
    name: EstimatorName,
    values: np.ndarray,
    target: np.ndarray,
    splits: Sequence[Split],
    *,
    seed: int = 0,
) -> tuple[Any, dict[str, Any]]:
    """Tune, fit and calibrate one estimator.

    The scores of balanced estimators are no probabilities. A calibrator (Platt's sigmoid for two
    classes, one temperature for more) is fitted to out-of-fold scores, and the estimator then to
    all rows.

    Parameters
    ----------
    name : {"logistic", "forest", "boosting"}
        See :func:`plain_estimator`.
    values, target : ndarray
        Features (N, F) and class indices (N,).
    splits : sequence of (ndarray, ndarray)
        A partition of the rows into test folds, for tuning and calibration.
    seed : int
        Of what is random.

    Returns
    -------
    estimator : CalibratedClassifierCV
        Fitted.
    settings : dict
        What was chosen, for the card.
    """
    settings: dict[str, Any] = {"estimator": name}
    c = 0.01
    if name == "logistic":
        settings["C"] = c = best_c(values, target, splits)
    method = "sigmoid" if len(np.unique(target)) == 2 else "temperature"
    settings["calibration"] = method
    base = plain_estimator(name, n_rows=len(target), c=c, seed=seed)
    calibrated = CalibratedClassifierCV(base, method=method, cv=list(splits), ensemble=False)
    calibrated.fit(values, target)
    calibrated.cv = None  # row numbers of the training data have no place in an artifact
    return calibrated, settings


class SelfTrained(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Learn from a share of the labels, then from its own confident guesses on the rest.

    The paper's semi-supervised setting: labels are hidden at random, stratified by class.

    Parameters
    ----------
    labelled_share : float
        Share of the rows whose label is used, in (0, 1].
    c : float
        Inverse penalty of the logistic regression inside.
    seed : int
        Of the choice of labelled rows.
    """

    def __init__(self, labelled_share: float = 0.1, c: float = 0.01, seed: int = 0) -> None:
        self.labelled_share = labelled_share
        self.c = c
        self.seed = seed

    def fit(self, values: np.ndarray, target: np.ndarray) -> SelfTrained:
        """Fit on all rows, with most labels hidden."""
        if not 0.0 < self.labelled_share <= 1.0:
            raise ConfigurationError(f"labelled share {self.labelled_share} is not in (0, 1]")
        random = np.random.default_rng(self.seed)
        known = np.full(len(target), -1)  # scikit-learn's mark of a hidden label
        for label in np.unique(target):
            rows = np.flatnonzero(target == label)
            count = max(2, round(len(rows) * self.labelled_share))
            kept = random.permutation(rows)[:count]
            known[kept] = label
        base = plain_estimator("logistic", n_rows=len(target), c=self.c)
        self.estimator_ = SelfTrainingClassifier(base, threshold=SELF_TRAINING_CONFIDENCE)
        self.estimator_.fit(values, known)
        self.classes_ = self.estimator_.classes_
        return self

    def predict_proba(self, values: np.ndarray) -> np.ndarray:
        """Class probabilities, shape (N, C)."""
        return np.asarray(self.estimator_.predict_proba(values))

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Most probable class."""
        return np.asarray(self.classes_[self.predict_proba(values).argmax(axis=1)])
