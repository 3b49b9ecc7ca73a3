"""Judging by sources that are left out: what every choice of the boxed classifiers was made by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from splinellm.classifiers.classes import TOXIC
from splinellm.classifiers.rows import Rows
from splinellm.learn.pooled_figures import window_scores
from splinellm.learn.pooled_fit import Design, bags_of
from splinellm.learn.pooled_material import Material

JUDGED = ("jigsaw", "davidson", "surge", "wiki_detox", "toxigen")
"""Sources that are left out in turn; the others have one class, or are made for training."""

MEAN_OF = JUDGED[:4]
"""Sources of which the mean is told; toxigen is of another kind: statements, no insults."""


def judged(
    material: Material,
    rows: Rows,
    sources: Sequence[str] = JUDGED,
    *,
    measured: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """ROC-AUC on each source left out, of each channel and of all together.

    Parameters
    ----------
    material : Material
        Of the rows; the first strength and share of its settings are used.
    rows : Rows
        With their sources.
    sources : sequence of str
        To leave out in turn.
    measured : ndarray of bool, optional
        Which rows the figures are of; from the others is only learned.
    """
    everything = np.arange(len(material.windows.values))
    settings = material.settings
    design = Design.of(material.windows, everything, settings.n_components, settings.seed)
    target = (rows.label == TOXIC).astype(int)
    found: dict[str, dict[str, float]] = {}
    for source in sources:
        of_it = rows.source == source
        test = np.flatnonzero(of_it if measured is None else of_it & measured)
        scorer = material.fit_once(np.flatnonzero(~of_it), design)
        scores = window_scores(material, scorer, test)
        by_channel = {"all channels": scorer.summed(scores), "geometry": scores["geometry"]}
        if "lexicon" in scores:
            by_channel["lexicon"] = scores["lexicon"]
        bags = bags_of(material.windows, test, target)
        found[source] = {
            name: float(roc_auc_score(bags.targets, material.pool(z[:, 0], bags)))
            for name, z in by_channel.items()
        }
    return found
