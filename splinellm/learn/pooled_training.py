"""From labelled texts to a pooled classifier that says how well it does, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from splinellm.errors import ConfigurationError
from splinellm.learn.annotated import window_labels
from splinellm.learn.classifier import NORMALISATION, Card
from splinellm.learn.labels import Labels
from splinellm.learn.metrics import Target
from splinellm.learn.pooled import Pooled, probabilities_of
from splinellm.learn.pooled_figures import pooled_figures
from splinellm.learn.pooled_material import Material, PooledSettings
from splinellm.learn.splits import stratified_splits
from splinellm.learn.training import N_FOLDS, Decisions, held_out, require_band_possible
from splinellm.learn.windows import read_windows
from splinellm.normalisation import require_known
from splinellm.provenance import library_versions

if TYPE_CHECKING:
    from splinellm.extraction.base import Extractor, OnProgress


def train_pooled(
    texts: Sequence[str],
    labels: Labels,
    extractor: Extractor,
    *,
    name: str,
    settings: PooledSettings | None = None,
    marks: Sequence[np.ndarray | None] | None = None,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    tuning_groups: np.ndarray | None = None,
    target: Target | None = None,
    abstain: float | None = None,
    data: dict[str, Any] | None = None,
    weaknesses: Sequence[str] = (),
    normalisation: str | None = None,
    on_progress: OnProgress | None = None,
) -> Pooled:
    """Train a pooled classifier, and measure it on a fifth of the rows kept aside.

    As with :func:`splinellm.learn.training.train`, what is measured was fitted to the other rows
    with the same procedure as the classifier, which is fitted to all.

    Parameters
    ----------
    texts : sequence of str
        N texts as they are to be read: normalised already, if `normalisation` is given.
    labels : Labels
        Their labels.
    extractor : Extractor
        Reads every text once.
    name : str
        Name of the classifier.
    settings : PooledSettings, optional
        What is to be trained.
    marks : sequence of ndarray or None, optional
        Annotated characters of each text; see :mod:`splinellm.learn.annotated`. For two classes.
    weights : ndarray, shape (N,), optional
        How much each text counts in fitting and calibration; alike without.
    groups, tuning_groups, target, abstain, data, weaknesses, normalisation
        See :func:`splinellm.learn.training.train`.
    on_progress : callable, optional
        See :meth:`splinellm.extraction.base.Extractor.extract`.

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
    require_known(normalisation)
    require_band_possible(labels, abstain)
    if marks is not None and labels.kind != "binary":
        raise ConfigurationError("annotated spans are for two classes: they do not say of which")
    windows = read_windows(extractor, texts, settings.pooling, on_progress=on_progress)
    told = None if marks is None else window_labels(windows, marks)
    material = Material(windows, texts, labels, told, settings, weights)
    learn, test = stratified_splits(labels, groups, n_splits=N_FOLDS, seed=settings.seed)[0]
    inner = groups if tuning_groups is None else tuning_groups
    tried = material.fit(learn, None if inner is None else inner[learn])
    decisions = Decisions.choose(
        labels[learn], probabilities_of(labels.kind, tried.out_of_fold), target, abstain
    )
    metrics = pooled_figures(
        material, tried.scorer, test, decisions, held_out(len(test), len(labels), groups)
    )
    final = material.fit(np.arange(len(labels)), inner)
    card = Card(
        name=name,
        kind=labels.kind,
        classes=labels.classes,
        thresholds=decisions.thresholds,
        provenance=extractor.provenance_at("token"),
        data=data or {"rows": len(labels)},
        settings={
            "estimator": "pooled logistic",
            **final.settings,
            **decisions.settings(),
            **({} if normalisation is None else {NORMALISATION: normalisation}),
        },
        metrics=metrics,
        weaknesses=tuple(weaknesses),
        libraries={**library_versions(), "scikit-learn": metadata.version("scikit-learn")},
    )
    return Pooled([final.scorer], card)


__all__ = ["PooledSettings", "train_pooled"]
