"""A trained classifier, as scikit-learn knows classifiers: it predicts, and is fitted no more."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from splinellm.learn.handed import extent_of, is_features
from splinellm.learn.labels import class_indices
from splinellm.learn.predictions import Predictions
from splinellm.prompts import as_prompts
from splinellm.table import N_TOKENS, TRUNCATED

if TYPE_CHECKING:
    import pandas as pd

    from splinellm.conversations import Count
    from splinellm.extraction.base import Extractor, OnProgress
    from splinellm.extraction.windows import Overflow
    from splinellm.learn.card import Card
    from splinellm.learn.verdicts import Verdicts


class FrozenClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """What is the same for classifiers of prompts and for those that pool windows of tokens.

    Like :class:`sklearn.frozen.FrozenEstimator` it is cloned with all that it has learned, and
    ``fit`` learns nothing: ``cross_val_score`` then measures it fold by fold. ``fit`` only looks at
    how the labels are written. After labels of 0 and 1 (or False and True), the classes of a
    classifier of two are those, so that what scikit-learn computes from labels and classes agrees.

    Attributes
    ----------
    card : Card
        Everything about it.
    """

    card: Card
    _written: np.ndarray | None = None

    @abstractmethod
    def verdicts(
        self,
        prompts: Any,
        extractor: Extractor | None = None,
        *,
        overflow: Overflow = "windows",
        count: Count | None = None,
        on_progress: OnProgress | None = None,
    ) -> Verdicts:
        """Judge prompts; one that cannot be read fails alone."""

    @abstractmethod
    def predict_features(self, given: Any) -> Predictions:
        """Judge features in whatever container."""

    @property
    def classes_(self) -> np.ndarray:
        """The classes in the order of the probabilities; numbers, if all are called by some.

        After :meth:`fit` they are as the labels there were written.
        """
        if self._written is not None:
            return self._written
        names = self.card.classes
        is_counted = all(name.isascii() and name.isdigit() for name in names)
        if is_counted and [str(int(name)) for name in names] == list(names):
            return np.array([int(name) for name in names])
        return np.array(names)

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803, ARG002 - scikit-learn's
        """Learn nothing: it is trained. Labels of 0 and 1 become the names of its two classes.

        Raises
        ------
        LabelError
            A label is none of the classifier's; lists its classes.
        """
        self._written = None
        if y is not None:
            found = class_indices(self.card.kind, self.card.classes, y)
            told = np.asarray(y)
            is_number = self.card.kind == "binary" and told.dtype.kind in "biuf"
            if is_number and np.array_equal(told, found):  # they are no names, such as 1 and 2
                self._written = np.array([0, 1]).astype(told.dtype)
        return self

    def predict(
        self,
        X: Any,  # noqa: N803
        *,
        threshold: Any = None,
        overflow: Overflow = "windows",
    ) -> np.ndarray:
        """Say which class each text is of, by the thresholds in the card.

        Parameters
        ----------
        X : texts, conversations, or features
            A column of texts in any container, whose model is loaded when it is needed and shared;
            or what an extractor made of them: a FeatureTable, a DataFrame or Arrow table with its
            columns, or an array of the classifier's own columns.
        threshold : float, or mapping of str to float, optional
            In place of the card's: of all classes, or by class.
        overflow : {"windows", "error", "truncate"}
            What happens to a text beyond the card's token limit.

        Returns
        -------
        ndarray, shape (N,), or (N, C) of zeros and ones where several labels may hold

        Raises
        ------
        PromptError
            A text cannot be read; names its position.
        ArtifactError, TableFormatError
            The features are not the classifier's; names the first difference.
        ConfigurationError
            There is no such class, or a threshold is impossible.
        """
        found = self._predictions(X, overflow).with_thresholds(threshold)
        if found.kind == "multilabel":
            return np.asarray(found.flags, np.int64)
        position = {name: i for i, name in enumerate(found.classes)}
        chosen = np.array([position[name] for name in found.predicted], np.int64)
        return np.asarray(self.classes_[chosen])

    def predict_proba(self, X: Any, *, overflow: Overflow = "windows") -> np.ndarray:  # noqa: N803
        """Calibrated probabilities, shape (N, C), in the order of ``classes_``.

        Parameters
        ----------
        X, overflow
            See :meth:`predict`.
        """
        return np.asarray(self._predictions(X, overflow).probabilities)

    def scores(
        self,
        X: Any,  # noqa: N803
        *,
        threshold: Any = None,
        overflow: Overflow = "windows",
    ) -> pd.DataFrame:
        """What ``splinellm predict`` adds to each row, as a DataFrame.

        Parameters
        ----------
        X, threshold, overflow
            See :meth:`predict`.

        Returns
        -------
        DataFrame
            ``n_tokens`` and ``truncated`` as far as they are known, ``predicted`` and
            ``probability.<class>``; with the index of `X`, if it has one.
        """
        if is_features(X):
            extent, found = extent_of(X), self.predict_features(X)
        else:
            told = self.verdicts(X, overflow=overflow).complete()
            extent, found = {N_TOKENS: told.n_tokens, TRUNCATED: told.truncated}, told.predictions
        frame: pd.DataFrame = found.with_thresholds(threshold).to_arrow().to_pandas()
        for place, (name, values) in enumerate(extent.items()):
            frame.insert(place, name, values)
        if hasattr(type(X), "iloc"):
            frame.index = X.index
        return frame

    def predict_texts(
        self,
        texts: Any,
        extractor: Extractor | None = None,
        *,
        overflow: Overflow = "windows",
        count: Count | None = None,
        on_progress: OnProgress | None = None,
    ) -> Predictions:
        """Judge texts, all of each, and tell everything about it.

        Parameters
        ----------
        texts : str or iterable of str or of conversations
            As they are; they are normalised if the classifier reads such.
        extractor : Extractor, optional
            With the settings that ``Plan.of(card.provenance)`` gives, or more layers or features.
            The card's model is loaded, and shared, if none is given.
        overflow : {"windows", "error", "truncate"}
            What happens to a text beyond the card's token limit: it is read in pieces that overlap,
            refused, or cut.
        count : str, optional
            What of conversations, to a classifier that pools; see
            :func:`splinellm.conversations.said`.
        on_progress : callable, optional
            See :meth:`splinellm.extraction.base.Extractor.extract`.

        Raises
        ------
        PromptError
            A text cannot be read; names its position.
        ArtifactError
            The extractor's features are not the classifier's.
        ConfigurationError
            What is to count is not what the classifier was trained on.
        """
        found = self.verdicts(
            texts, extractor, overflow=overflow, count=count, on_progress=on_progress
        )
        return found.complete().predictions

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Share of the rows that are predicted right; of several labels, with all of them right.

        Parameters
        ----------
        X
            See :meth:`predict`.
        y : array-like, shape (N,) or (N, C)
            Classes, or 0 and 1 of two; of several labels a flag each.
        sample_weight : array-like, shape (N,), optional
            Of the rows.

        Raises
        ------
        LabelError
            A label is none of the classifier's; lists its classes.
        """
        from sklearn.metrics import accuracy_score

        kind, classes = self.card.kind, self.card.classes
        truth = class_indices(kind, classes, y)  # a wrong label comes before the model reads
        predicted = class_indices(kind, classes, self.predict(X))
        return float(accuracy_score(truth, predicted, sample_weight=sample_weight))

    def _predictions(self, given: Any, overflow: Overflow) -> Predictions:
        if is_features(given):
            return self.predict_features(given)
        return self.predict_texts(as_prompts(given), overflow=overflow)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's
        """None: what it was trained with is in the card."""
        return {}

    def __sklearn_clone__(self) -> Self:
        return copy(self)  # what fit() sees in one fold is not for another

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = self.card.kind == "multilabel"
        return tags

    def __repr__(self) -> str:  # scikit-learn's takes arguments, and shows parameters
        return f"{type(self).__name__}({self.card.in_brief})"
