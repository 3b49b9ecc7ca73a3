"""How well features separate classes: cross-validated, by part, beside baselines.

The paper's protocol (sections 5 and 6): ROC-AUC one class against the rest over repeated
stratified splits, of all features, of each layer, of the first k layers and of each feature; and on
the same folds the baselines without which no such figure means anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer

from splinellm.learn.estimators import (
    EstimatorName,
    SelfTrained,
    best_c,
    plain_estimator,
)
from splinellm.learn.labels import Labels
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.splits import Split, stratified_splits
from splinellm.schema import is_sign_block
from splinellm.table import FeatureTable

LENGTH_ALONE = 0.9
"""ROC-AUC from which length alone is said to separate a class."""

Scores = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(training rows, their classes, test rows) to probabilities (test rows, classes)."""


@dataclass(frozen=True)
class Score:
    """ROC-AUC of one set of inputs for one class.

    Parameters
    ----------
    section : str
        ``features``, ``baseline``, ``layer``, ``first layers``, ``feature`` or ``labelled share``.
    item : str
        Which of the section.
    label : str
        The class, one against the rest.
    values : tuple of float
        ROC-AUC on each split.
    """

    section: str
    item: str
    label: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over splits."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Sample standard deviation over splits; 0.0 for one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0


def evaluate(
    table: FeatureTable,
    labels: Labels,
    splits: Sequence[Split],
    *,
    texts: Sequence[str] | None = None,
    hidden: np.ndarray | None = None,
    estimator: EstimatorName = "logistic",
    ablations: bool = True,
    labelled_shares: Sequence[float] = (),
    tuning_groups: np.ndarray | None = None,
    kept: OutOfFold | None = None,
) -> Iterator[Score]:
    """Measure features and baselines on the same splits.

    Parameters
    ----------
    table : FeatureTable
        Features of N prompts.
    labels : Labels
        Their labels.
    splits : sequence of (ndarray, ndarray)
        Training and test rows; hyperparameters are tuned inside the training rows of each.
    texts : sequence of str, optional
        For the TF-IDF baseline.
    hidden : ndarray, shape (N, D), optional
        Mean-pooled last hidden states, for that baseline.
    estimator : {"logistic", "forest", "boosting"}
        What the features are given to; baselines always use logistic regression.
    ablations : bool
        Whether to measure each layer, the first k layers and each feature, too.
    labelled_shares : sequence of float
        Shares of labels for the semi-supervised setting.
    tuning_groups : ndarray of int, optional
        Kept whole by the inner folds that tune the penalty.
    kept : OutOfFold, optional
        Gets the scores of the rows by all features, for :mod:`splinellm.learn.fairness`.

    Yields
    ------
    Score
        As soon as it is known; classes for which a split has one side only are left out.

    Raises
    ------
    TableFormatError
        The rows do not stand for prompts.
    """
    table.provenance.require_prompts("the table")
    array = table.array
    n_layers, n_features = table.schema.shape

    def run(
        section: str, item: str, scores: Scores, kept: OutOfFold | None = None
    ) -> Iterator[Score]:
        yield from split_scores(section, item, scores, labels, splits, kept)

    def on(values: np.ndarray, name: EstimatorName = estimator) -> Scores:
        return _on(values, name, tuning_groups)

    yield from run("features", f"{estimator}, all", on(table.values), kept)
    yield from run("baseline", "length", _length_baseline(table.n_tokens))
    if texts is not None:
        yield from run("baseline", "TF-IDF", _text_baseline(texts))
    if hidden is not None:
        yield from run("baseline", "mean hidden state", on(hidden, "logistic"))
    for share in labelled_shares:
        scores = _self_trained(table.values, share)
        yield from run("labelled share", f"{share:g}", scores)
    if not ablations:
        return
    for position, feature in enumerate(table.schema.features if n_features > 1 else ()):
        if not is_sign_block(feature):
            yield from run("feature", feature, on(array[:, :, position]))
    for position, layer in enumerate(table.schema.layers if n_layers > 1 else ()):
        yield from run("layer", str(layer), on(array[:, position]))
    for count in _depths(n_layers):
        first = array[:, :count].reshape(len(table), -1)
        yield from run("first layers", str(count), on(first))


def length_warning(scores: Sequence[Score]) -> str | None:
    """Say so when length alone separates a class."""
    telling = [
        f"'{s.label}' ({s.mean:.1%})"
        for s in scores
        if (s.section, s.item) == ("baseline", "length") and s.mean >= LENGTH_ALONE
    ]
    if not telling:
        return None
    return f"length alone separates {', '.join(telling)}: other figures may measure length, too"


def _depths(n_layers: int) -> list[int]:
    return [k for k in (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 80) if k < n_layers]


def split_scores(
    section: str,
    item: str,
    scores: Scores,
    labels: Labels,
    splits: Sequence[Split],
    kept: OutOfFold | None,
) -> Iterator[Score]:
    """ROC-AUC on the test rows of each split, class by class; see :func:`evaluate`."""
    values: dict[str, list[float]] = {name: [] for name in labels.scored_classes}
    for learn, test in splits:
        for name, probability in _by_class(scores, labels, learn, test):
            truth = labels.indicator(name)[test]
            if kept is not None:
                kept.add(name, test, probability)
            if 0 < truth.sum() < len(truth):
                values[name].append(float(roc_auc_score(truth, probability)))
    for name, found in values.items():
        if found:
            yield Score(section, item, name, tuple(found))


def _by_class(
    scores: Scores, labels: Labels, learn: np.ndarray, test: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    if labels.kind == "multilabel":
        for name in labels.classes:
            target = labels.indicator(name)[learn]
            if 0 < target.sum() < len(target):
                yield name, scores(learn, target, test)[:, 1]
    else:
        # A source that is left out may be the only one with a class.
        present, target = np.unique(labels.values[learn], return_inverse=True)
        if len(present) < 2:
            return
        probabilities = scores(learn, target, test)
        column = {labels.classes[p]: i for i, p in enumerate(present.tolist())}
        for name in labels.scored_classes:
            if name in column:
                yield name, probabilities[:, column[name]]


def _on(values: np.ndarray, estimator: EstimatorName, groups: np.ndarray | None) -> Scores:
    def scores(learn: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
        inner = None if groups is None else groups[learn]
        c = _tuned_c(values[learn], target, inner) if estimator == "logistic" else 0.01
        model = plain_estimator(estimator, n_rows=len(learn), c=c)
        return np.asarray(model.fit(values[learn], target).predict_proba(values[test]))

    return scores


def _self_trained(values: np.ndarray, share: float) -> Scores:
    def scores(learn: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
        model = SelfTrained(labelled_share=share)
        return model.fit(values[learn], target).predict_proba(values[test])

    return scores


def _tuned_c(values: np.ndarray, target: np.ndarray, groups: np.ndarray | None) -> float:
    labels = Labels.from_indices(target)
    return best_c(values, target, stratified_splits(labels, groups, n_splits=3))


def _length_baseline(n_tokens: np.ndarray) -> Scores:
    values = n_tokens[:, None].astype(np.float64)

    def scores(learn: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
        # Bins, so that a class of middling length shows as well as a long one.
        bins = KBinsDiscretizer(20, encode="onehot", quantile_method="averaged_inverted_cdf")
        model = make_pipeline(bins, LogisticRegression(class_weight="balanced", max_iter=1000))
        with warnings.catch_warnings():  # about fewer bins than asked for: few lengths, few bins
            warnings.simplefilter("ignore", UserWarning)
            return np.asarray(model.fit(values[learn], target).predict_proba(values[test]))

    return scores


def _text_baseline(texts: Sequence[str]) -> Scores:
    array = np.array(texts, dtype=object)

    def scores(learn: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        regression = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
        model = make_pipeline(words, regression)
        return np.asarray(model.fit(array[learn], target).predict_proba(array[test]))

    return scores
