"""Fits that are tried on rows which they have not seen: what was decided, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splinellm.learn.decisions import ABSTAIN, Band, band_figures, choose_band, settings_of
from splinellm.learn.fairness import FAIRNESS, Members, fairness_figures, members_among
from splinellm.learn.labels import Labels
from splinellm.learn.lengths import length_figures
from splinellm.learn.metrics import (
    Target,
    choice_figures,
    choose_threshold,
    class_figures,
    nearest_threshold,
)
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.predictions import DEFAULT_THRESHOLD
from splinellm.learn.splits import Split, stratified_splits

N_FOLDS = 5
FEW_ROWS = 1000
"""With fewer, a classifier is tried on every fifth of them."""


@dataclass(frozen=True)
class Decisions:
    """What was chosen on probabilities of rows that were not trained on.

    Parameters
    ----------
    thresholds : dict of str to float
        Of each scored class.
    bands : dict of str to Band
        Uncertain probabilities of each; empty if there are to be none.
    target : Target or None
        What the thresholds are for.
    unreached : list of str
        Classes for which no threshold is; they have the nearest.
    """

    thresholds: dict[str, float]
    bands: dict[str, Band]
    target: Target | None
    unreached: list[str]

    @classmethod
    def choose(
        cls,
        labels: Labels,
        scores: np.ndarray | None,
        target: Target | None,
        abstain: float | None,
    ) -> Decisions:
        """Choose on out-of-fold probabilities (N, C); without any, 0.5 it is."""
        thresholds = dict.fromkeys(labels.scored_classes, DEFAULT_THRESHOLD)
        bands: dict[str, Band] = {}
        unreached: list[str] = []
        if scores is None:
            return cls(thresholds, bands, target, unreached)
        for name in thresholds:
            column = scores[:, labels.classes.index(name)]
            if target is not None:
                chosen = choose_threshold(labels.indicator(name), column, target)
                if chosen is None:
                    unreached.append(name)
                    chosen = nearest_threshold(labels.indicator(name), column, target)
                thresholds[name] = chosen
            if abstain is not None:
                bands[name] = choose_band(column, thresholds[name], abstain)
        return cls(thresholds, bands, target, unreached)

    def settings(self) -> dict[str, Any]:
        """For a card."""
        found: dict[str, Any] = {}
        if self.target is not None:
            found["threshold_for"] = f"{self.target.measure} {self.target.value}"
        if self.unreached:
            found["target_not_reached"] = self.unreached
        if self.bands:
            found[ABSTAIN] = settings_of(self.bands)
        return found


@dataclass(frozen=True, eq=False)
class Trial:
    """A fit to some rows, tried on the others.

    Parameters
    ----------
    rows : ndarray of int
        Those that it was tried on.
    probabilities : ndarray, shape (rows, C)
        Of these.
    decisions : Decisions
        Chosen on the rows that it was fitted to.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    decisions: Decisions


def held_out_splits(
    labels: Labels, groups: np.ndarray | None, seed: int, n_rows: int | None = None
) -> list[Split]:
    """Splits that a classifier is tried on before it is fitted to all rows.

    One, which keeps a fifth aside; of fewer than :data:`FEW_ROWS` rows all five, so that the
    figures are not those of a lucky fifth of a few. `n_rows` says of how many figures are, where
    that is not of all.
    """
    splits = stratified_splits(labels, groups, n_splits=N_FOLDS, seed=seed)
    return splits if (len(labels) if n_rows is None else n_rows) < FEW_ROWS else splits[:1]


def held_out(n_test: int, n_rows: int, groups: np.ndarray | None, n_splits: int = 1) -> str:
    """Say what figures were measured on."""
    text = f"{n_test} of {n_rows} rows, stratified"
    if n_splits > 1:
        text = f"each of {n_rows} rows once, in {n_splits} splits, stratified"
    if groups is not None:
        text += ", no group or near-duplicate on both sides"
    return text


def trial_figures(
    trials: Sequence[Trial],
    labels: Labels,
    groups: np.ndarray | None,
    members: Members | None = None,
    kept: OutOfFold | None = None,
    *,
    n_rows: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure trials, each by its own thresholds, for a card; groups of people, too, if any.

    `n_rows` is of how many figures could be, where that is not all.
    """
    n_rows = len(labels) if n_rows is None else n_rows
    rows = np.concatenate([trial.rows for trial in trials])
    probabilities = np.concatenate([trial.probabilities for trial in trials])
    if kept is not None:
        for name in labels.scored_classes:
            kept.add(name, rows, probabilities[:, labels.classes.index(name)])
    first = trials[0]
    thresholds = {
        name: np.concatenate(
            [np.full(len(trial.rows), trial.decisions.thresholds[name]) for trial in trials]
        )
        for name in first.decisions.thresholds
    }
    measured_on = held_out(len(first.rows), n_rows, groups, len(trials))
    groups_of = None if groups is None else groups[rows]
    found: dict[str, dict[str, Any]] = {
        "held out": {
            "measured on": measured_on,
            **choice_figures(labels[rows], probabilities, groups_of),
            **class_figures(labels[rows], probabilities, thresholds, groups_of),
        }
    }
    if first.decisions.bands:
        found["uncertain"] = {
            "measured on": held_out(len(first.rows), n_rows, groups),
            **band_figures(
                labels[first.rows],
                first.probabilities,
                first.decisions.thresholds,
                first.decisions.bands,
            ),
        }
    fairness = fairness_figures(
        labels[rows],
        probabilities,
        members_among(members, rows),
        first.decisions.thresholds,
        measured_on,
    )
    if fairness:
        found[FAIRNESS] = fairness
    return found


def trial_lengths(
    trials: Sequence[Trial], labels: Labels, n_tokens: np.ndarray, groups: np.ndarray | None
) -> dict[str, Any]:
    """Reliability of the probabilities of trials by the length of texts, for a card."""
    rows = np.concatenate([trial.rows for trial in trials])
    probabilities = np.concatenate([trial.probabilities for trial in trials])
    return {
        "measured on": held_out(len(trials[0].rows), len(labels), groups, len(trials)),
        **length_figures(labels[rows], probabilities, n_tokens[rows]),
    }
