"""What more rows would bring: figures of fits to a part of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splinellm.learn.estimators import EstimatorName, plain_estimator
from splinellm.learn.evaluation import Scores, split_scores
from splinellm.learn.labels import Labels
from splinellm.learn.splits import Split

SHARES = (0.125, 0.25, 0.5, 1.0)


def learning_curve(
    values: np.ndarray,
    labels: Labels,
    splits: Sequence[Split],
    *,
    estimator: EstimatorName = "logistic",
    c: float = 0.01,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit to shares of the training rows of each split, and measure there and on its test rows.

    Parameters
    ----------
    values : ndarray, shape (N, F)
        Features.
    labels : Labels
        Of N rows.
    splits : sequence of (ndarray, ndarray)
        Training and test rows.
    estimator, c
        See :func:`splinellm.learn.estimators.plain_estimator`; the penalty is the same for all.
    shares : sequence of float
        In (0, 1], ascending.
    seed : int
        Of the choice of rows.

    Returns
    -------
    sizes : ndarray, shape (S,)
        Rows learned from, on average over splits. Shares with which a class is not seen in every
        split are left out.
    train, test : ndarray, shape (S, splits)
        ROC-AUC, mean over classes.
    """
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(learn) for learn, _ in splits]

    def scores(learn: np.ndarray, target: np.ndarray, rows: np.ndarray) -> np.ndarray:
        model = plain_estimator(estimator, n_rows=len(learn), c=c, seed=seed)
        return np.asarray(model.fit(values[learn], target).predict_proba(values[rows]))

    found: list[tuple[float, np.ndarray, np.ndarray]] = []
    for share in shares:
        parts = [np.sort(order[: max(2, round(share * len(order)))]) for order in orders]
        train = _means(scores, labels, [(part, part) for part in parts])
        test = _means(
            scores, labels, [(part, rows) for part, (_, rows) in zip(parts, splits, strict=True)]
        )
        if train is not None and test is not None:
            found.append((float(np.mean([len(part) for part in parts])), train, test))
    sizes = np.array([size for size, _, _ in found]).round().astype(int)
    empty = np.empty((0, len(splits)))
    return (
        sizes,
        np.stack([train for _, train, _ in found]) if found else empty,
        np.stack([test for _, _, test in found]) if found else empty,
    )


def _means(scores: Scores, labels: Labels, splits: Sequence[Split]) -> np.ndarray | None:
    """Mean over classes for each split, if all classes can be measured in all of them."""
    found = list(split_scores("learning", "", scores, labels, splits, None))
    if len(found) < len(labels.scored_classes):
        return None
    if any(len(one.values) < len(splits) for one in found):
        return None
    return np.asarray(np.mean([one.values for one in found], axis=0))
