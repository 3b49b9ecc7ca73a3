"""From labelled texts to a pooled classifier that says how well it does, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from splinellm.errors import ConfigurationError
from splinellm.learn.annotated import window_labels
from splinellm.learn.card import NORMALISATION, Card
from splinellm.learn.composing import Composition
from splinellm.learn.fairness import Members
from splinellm.learn.labels import Labels
from splinellm.learn.marker import fit_marker
from splinellm.learn.metrics import Target
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.pooled import Pooled, probabilities_of
from splinellm.learn.pooled_figures import PooledTrial, pooled_figures
from splinellm.learn.pooled_material import Material, PooledSettings
from splinellm.learn.pooled_scorer import MARKED
from splinellm.learn.training import require_thresholds_decide
from splinellm.learn.trials import Decisions, held_out_splits
from splinellm.learn.windows import Windows, read_windows
from splinellm.normalisation import require_known
from splinellm.provenance import library_versions

if TYPE_CHECKING:
    from splinellm.extraction.base import Extractor, OnProgress
    from splinellm.provenance import Provenance


def train_pooled(
    texts: Sequence[str],
    labels: Labels,
    extractor: Extractor,
    *,
    settings: PooledSettings | None = None,
    composition: Composition | None = None,
    on_progress: OnProgress | None = None,
    **told: Any,
) -> Pooled:
    """Read texts, each once, and train a pooled classifier on them.

    Parameters
    ----------
    texts : sequence of str
        N texts as they are to be read: normalised already, if `normalisation` is given.
    labels : Labels
        Their labels.
    extractor : Extractor
        Reads every text once.
    settings : PooledSettings, optional
        What is to be trained.
    composition : Composition, optional
        What is composed of these texts, to be read and learned from as well.
    on_progress : callable, optional
        See :meth:`splinellm.extraction.base.Extractor.extract`.
    **told
        See :func:`train_windows`.

    Raises
    ------
    LabelError
        A class has too few rows.
    PromptError
        A text cannot be read; names its position.
    ConfigurationError
        Settings cannot work together.
    """
    settings = settings or PooledSettings()
    labels.require_enough()
    require_known(told.get("normalisation"))
    require_thresholds_decide(labels, told.get("target"), told.get("abstain"))
    require_markable(labels, told.get("marks"))
    to_read = texts if composition is None else [*texts, *composition.composed.texts]
    windows = read_windows(extractor, to_read, settings.pooling, on_progress=on_progress)
    if composition is not None:
        windows, texts, labels, told = composition.beside(windows, texts, labels, told)
    source = extractor.provenance_at("token")
    return train_windows(windows, texts, labels, source, settings=settings, **told)


def train_windows(
    windows: Windows,
    texts: Sequence[str],
    labels: Labels,
    provenance: Provenance,
    *,
    name: str,
    settings: PooledSettings,
    marks: Sequence[np.ndarray | None] | None = None,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    tuning_groups: np.ndarray | None = None,
    split_groups: np.ndarray | None = None,
    measured: np.ndarray | None = None,
    target: Target | None = None,
    abstain: float | None = None,
    data: dict[str, Any] | None = None,
    weaknesses: Sequence[str] = (),
    normalisation: str | None = None,
    members: Members | None = None,
    kept: OutOfFold | None = None,
    tried_longer: bool = False,
) -> Pooled:
    """Train a pooled classifier, and measure it on a fifth of the rows kept aside.

    As with :func:`splinellm.learn.training.train`, what is measured was fitted to the other rows
    with the same procedure as the classifier, which is fitted to all.

    Parameters
    ----------
    windows : Windows
        Of N texts, cut as the settings say.
    texts, labels, settings
        See :func:`train_pooled`.
    provenance : Provenance
        Of the windows' tokens.
    name : str
        Name of the classifier.
    marks : sequence of ndarray or None, optional
        Annotated characters of each text; see :mod:`splinellm.learn.annotated`. For two classes.
    weights : ndarray, shape (N,), optional
        How much each text counts in fitting and calibration; alike without.
    split_groups : ndarray of int, shape (N,), optional
        What splits keep together in place of `groups`, which intervals are then of alone: larger
        groups, of which a few are no measure of chance.
    measured : ndarray of bool, shape (N,), optional
        Which texts thresholds are chosen on and figures are of; from the others is only learned.
    tried_longer : bool
        See :func:`splinellm.learn.pooled_figures.pooled_figures`.
    groups, tuning_groups, target, abstain, data, weaknesses, normalisation, members, kept
        See :func:`splinellm.learn.training.train`.

    Raises
    ------
    LabelError, ConfigurationError
        See :func:`train_pooled`.
    """
    labels.require_enough()
    require_known(normalisation)
    require_thresholds_decide(labels, target, abstain)
    require_markable(labels, marks)
    told = None if marks is None else window_labels(windows, marks)
    material = Material(windows, texts, labels, told, settings, weights)
    outer = groups if split_groups is None else split_groups
    inner = outer if tuning_groups is None else tuning_groups
    told_of = np.ones(len(labels), np.bool_) if measured is None else measured
    n_told = int(told_of.sum())
    trials: list[PooledTrial] = []
    for learn, test in held_out_splits(labels, outer, settings.seed, n_told):
        tried = material.fit(learn, None if inner is None else inner[learn])
        told_learn = told_of[learn]
        chosen = Decisions.choose(
            labels[learn[told_learn]],
            probabilities_of(labels.kind, tried.out_of_fold[told_learn]),
            target,
            None if trials else abstain,
        )
        trials.append(PooledTrial(tried.scorer, test[told_of[test]], chosen))
    decisions = trials[0].decisions
    metrics = pooled_figures(
        material, trials, groups, members, kept, n_rows=n_told, tried_longer=tried_longer
    )
    final = material.fit(np.arange(len(labels)), inner)
    marker = None if marks is None else fit_marker(texts, marks, final.scorer.lexicon_)
    final.scorer.marker_ = marker
    marked = {}
    if marker is not None and marks is not None:
        marked[MARKED] = sum(one is not None and bool(one.any()) for one in marks)
    card = Card(
        name=name,
        kind=labels.kind,
        classes=labels.classes,
        thresholds=decisions.thresholds,
        provenance=provenance,
        data=data or {"rows": n_told},
        settings={
            "estimator": "pooled logistic",
            **final.settings,
            "rows truncated": int(windows.truncated[told_of].sum()),
            **marked,
            **decisions.settings(),
            **({} if normalisation is None else {NORMALISATION: normalisation}),
        },
        metrics=metrics,
        weaknesses=tuple(weaknesses),
        libraries={**library_versions(), "scikit-learn": metadata.version("scikit-learn")},
    )
    return Pooled([final.scorer], card)


def require_markable(labels: Labels, marks: Sequence[Any] | None) -> None:
    """Refuse annotated spans where it is not clear which class they are of."""
    if marks is not None and labels.kind != "binary":
        raise ConfigurationError("annotated spans are for two classes: they do not say of which")


__all__ = ["PooledSettings", "train_pooled", "train_windows"]
