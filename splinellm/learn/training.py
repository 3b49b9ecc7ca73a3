"""From a labelled feature table to a classifier that says how well it does."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from splinellm.errors import ConfigurationError
from splinellm.learn.card import NORMALISATION, Card
from splinellm.learn.classifier import Classifier
from splinellm.learn.decisions import (
    require_share,
)
from splinellm.learn.estimators import EstimatorName, fit_calibrated
from splinellm.learn.fairness import Members
from splinellm.learn.labels import Labels
from splinellm.learn.lengths import BY_LENGTH
from splinellm.learn.metrics import Target
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.predictions import scored_classes
from splinellm.learn.splits import Split, stratified_splits
from splinellm.learn.trials import (
    N_FOLDS,
    Decisions,
    Trial,
    held_out_splits,
    trial_figures,
    trial_lengths,
)
from splinellm.normalisation import require_known
from splinellm.provenance import library_versions
from splinellm.table import FeatureTable


def train(
    table: FeatureTable,
    labels: Labels,
    *,
    name: str,
    estimator: EstimatorName = "logistic",
    groups: np.ndarray | None = None,
    tuning_groups: np.ndarray | None = None,
    target: Target | None = None,
    data: dict[str, Any] | None = None,
    weaknesses: Sequence[str] = (),
    normalisation: str | None = None,
    abstain: float | None = None,
    members: Members | None = None,
    kept: OutOfFold | None = None,
    seed: int = 0,
) -> Classifier:
    """Train a classifier, and measure it on a fifth of the rows kept aside.

    A first fit on four fifths of the rows gives the held-out figures; the classifier itself is
    then fitted to all rows with the same procedure.

    Parameters
    ----------
    table : FeatureTable
        Features of N prompts.
    labels : Labels
        Their labels.
    name : str
        Name of the classifier.
    estimator : {"logistic", "forest", "boosting"}
        See :func:`splinellm.learn.estimators.plain_estimator`.
    groups : ndarray of int, optional
        Rows of one group are never on both sides of a split.
    tuning_groups : ndarray of int, optional
        Groups for the folds that tune and calibrate, if other than `groups`: with the rows' sources
        here, penalty and calibration are chosen for sources that were not trained on.
    target : Target, optional
        Precision, recall or false positive rate for which each class' threshold is chosen, on
        out-of-fold probabilities; 0.5 otherwise.
    data : dict, optional
        Name, rows and hash of the training data, for the card.
    weaknesses : sequence of str
        For the card.
    normalisation : str, optional
        Version of :func:`splinellm.normalisation.normalise` that the texts went through before
        their features were computed; the classifier will read all texts through it.
    abstain : float, optional
        Share of rows around each threshold that the classifier calls uncertain, on out-of-fold
        probabilities; see :mod:`splinellm.learn.decisions`. Not for more than two classes.
    members : mapping of str to ndarray, shape (N,), bool, optional
        Which rows are of which group of people, for the card's figures of unintended bias; see
        :mod:`splinellm.learn.fairness`.
    kept : OutOfFold, optional
        Gets the probabilities of the rows that were kept aside, for a report.
    seed : int
        Of shuffles and forests.

    Returns
    -------
    Classifier

    Raises
    ------
    LabelError
        A class has too few rows.
    ConfigurationError
        The normalisation is unknown, or a target or uncertain band is for exclusive classes.
    TableFormatError
        The rows do not stand for prompts.
    """
    table.provenance.require_prompts("the table")
    labels.require_enough()
    require_known(normalisation)
    require_thresholds_decide(labels, target, abstain)
    if tuning_groups is None:
        tuning_groups = groups
    trials: list[Trial] = []
    for learn, test in held_out_splits(labels, groups, seed):
        learn_groups = None if tuning_groups is None else tuning_groups[learn]
        tried, _ = _fit(estimator, table.values[learn], labels[learn], learn_groups, seed)
        out_of_fold = None
        if target is not None or (abstain is not None and not trials):
            out_of_fold = _out_of_fold(
                estimator, table.values[learn], labels[learn], learn_groups, seed
            )
        chosen = Decisions.choose(labels[learn], out_of_fold, target, None if trials else abstain)
        probabilities = _probabilities(tried, labels, table.values[test])
        trials.append(Trial(test, probabilities, chosen))
    decisions = trials[0].decisions
    fitted, settings = _fit(estimator, table.values, labels, tuning_groups, seed)
    settings |= decisions.settings()
    if normalisation is not None:
        settings[NORMALISATION] = normalisation
    card = Card(
        name=name,
        kind=labels.kind,
        classes=labels.classes,
        thresholds=decisions.thresholds,
        provenance=table.provenance,
        data=data or {"rows": len(labels)},
        settings=settings,
        metrics={
            **trial_figures(trials, labels, groups, members, kept),
            BY_LENGTH: trial_lengths(trials, labels, table.n_tokens, groups),
        },
        weaknesses=tuple(weaknesses),
        libraries={**library_versions(), "scikit-learn": metadata.version("scikit-learn")},
    )
    return Classifier(fitted, card)


def _targets(labels: Labels) -> list[np.ndarray]:
    """What each estimator learns: all classes at once, or label by label."""
    if labels.kind == "multilabel":
        return [labels.indicator(name) for name in labels.classes]
    return [labels.values]


def _fit(
    estimator: EstimatorName,
    values: np.ndarray,
    labels: Labels,
    groups: np.ndarray | None,
    seed: int,
) -> tuple[list[Any], dict[str, Any]]:
    fitted, chosen = [], []
    for target, splits in _tasks(labels, groups, seed):
        one, settings = fit_calibrated(estimator, values, target, splits, seed=seed)
        fitted.append(one)
        chosen.append(settings)
    if len(chosen) == 1:
        return fitted, chosen[0]
    merged = {key: [settings[key] for settings in chosen] for key in chosen[0]}
    return fitted, {k: v[0] if len(set(v)) == 1 else v for k, v in merged.items()}


def _tasks(
    labels: Labels, groups: np.ndarray | None, seed: int
) -> list[tuple[np.ndarray, list[Split]]]:
    tasks = []
    for target in _targets(labels):
        stratify = Labels.from_indices(target)
        tasks.append((target, stratified_splits(stratify, groups, n_splits=N_FOLDS, seed=seed)))
    return tasks


def _probabilities(estimators: list[Any], labels: Labels, values: np.ndarray) -> np.ndarray:
    if labels.kind == "multilabel":
        return np.stack([e.predict_proba(values)[:, 1] for e in estimators], axis=1)
    return np.asarray(estimators[0].predict_proba(values))


def _out_of_fold(
    estimator: EstimatorName,
    values: np.ndarray,
    labels: Labels,
    groups: np.ndarray | None,
    seed: int,
) -> np.ndarray:
    """Probabilities (N, C) of rows that neither fit nor calibration saw."""
    columns = []
    for task, splits in _tasks(labels, groups, seed):
        out_of_fold = np.zeros((len(task), int(task.max()) + 1))
        for learn, test in splits:
            inner_groups = None if groups is None else groups[learn]
            part = Labels.from_indices(task[learn])
            inner = stratified_splits(part, inner_groups, n_splits=3, seed=seed)
            fitted, _ = fit_calibrated(estimator, values[learn], task[learn], inner, seed=seed)
            out_of_fold[test] = fitted.predict_proba(values[test])
        columns.append(out_of_fold)
    return np.stack([c[:, 1] for c in columns], 1) if len(columns) > 1 else columns[0]


def require_thresholds_decide(labels: Labels, target: Target | None, abstain: float | None) -> None:
    """Refuse what thresholds are chosen for, and bands around them, where none would decide.

    Parameters
    ----------
    labels : Labels
        What is to be learnt.
    target, abstain
        See :func:`train`.

    Raises
    ------
    ConfigurationError
        The share is none, or the classes exclude each other.
    """
    require_share(abstain)
    if scored_classes(labels.kind, labels.classes):
        return
    if target is not None:
        raise ConfigurationError(
            f"a target {target.measure} is reached by a threshold, and of several classes the most "
            "probable is chosen without one",
            hint="leave the target out, or label one class and all others",
        )
    if abstain is not None:
        raise ConfigurationError(
            "an uncertain band is around a threshold, and of several classes the most probable is "
            "chosen without one"
        )
