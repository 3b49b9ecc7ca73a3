"""PooledClassifier: texts in, labels and the places where they are out, as scikit-learn has it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from splinellm.errors import ConfigurationError, LabelError
from splinellm.extraction.windows import Overflow
from splinellm.learn.annotated import as_read, read_marks
from splinellm.learn.backbones import shared_backbone
from splinellm.learn.inputs import listed, number, text, texts_of, whole
from splinellm.learn.labels import Kind, Labels
from splinellm.learn.metrics import Target
from splinellm.learn.pooling import Pooling, PoolName
from splinellm.learn.splits import merged_groups, near_duplicates
from splinellm.normalisation import VERSION, normalise

if TYPE_CHECKING:
    from splinellm.extraction import SplineExtractor
    from splinellm.learn.pooled import Pooled
    from splinellm.learn.spans import Span


class PooledClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Classify texts of any length by windows of their tokens, and say where a class is.

    A forward pass gives the features of every token. Windows of tokens are scored by a linear model
    that is trained through the pooling of these scores, so that one bad sentence in a long text
    counts. The estimator holds settings; the model is loaded on first use and shared, see
    :mod:`splinellm.learn.backbones`.

    Parameters
    ----------
    model, dtype, device, layers, features, max_tokens, batch_tokens
        See :class:`splinellm.SplineFeatures`; features are those of tokens.
    pool, window, stride, sharpness, agreeing
        See :class:`splinellm.learn.pooling.Pooling`.
    hybrid : bool, default=False
        Whether a lexicon of words and letters stands beside the geometry.
    augment, n_components, seed
        See :class:`splinellm.learn.pooled_material.PooledSettings`.
    compose : bool, default=False
        Whether short texts inside longer clean ones are learned from as well, each read as one
        text; see :mod:`splinellm.learn.composing`. Of two labels the first in order stands for
        clean; of several columns, having none.
    normalise : bool, default=False
        Whether texts are read without what hides words; see :mod:`splinellm.normalisation`.
    target : Target, optional
        What thresholds are chosen for, such as ``Target("fpr", 0.01)``; 0.5 otherwise.
    abstain : float, optional
        Share of rows around a threshold that is called uncertain.
    overflow : {"windows", "error", "truncate"}, default="windows"
        What happens to a text beyond `max_tokens` that is to be classified.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted; for several columns of zeros and ones, their numbers.
    classifier_ : splinellm.learn.pooled.Pooled
        What was trained, with its card; :func:`splinellm.learn.artifact.save_classifier` keeps it.

    Examples
    --------
    >>> model = PooledClassifier(layers="6,7", features="blocks:384")
    >>> model.fit(texts, labels).spans(["..."])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        *,
        dtype: str = "auto",
        device: str | int = "auto",
        layers: str | Collection[int] | None = None,
        features: str | Collection[str] = "blocks",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        pool: PoolName = "log-sum-exp",
        window: int | None = 16,
        stride: int = 8,
        sharpness: float = 3.0,
        agreeing: int = 3,
        hybrid: bool = False,
        augment: bool = True,
        compose: bool = False,
        n_components: int | None = 300,
        normalise: bool = False,
        target: Target | None = None,
        abstain: float | None = None,
        overflow: Overflow = "windows",
        seed: int = 0,
    ) -> None:
        self.model = model
        self.dtype = dtype
        self.device = device
        self.layers = layers
        self.features = features
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens
        self.pool = pool
        self.window = window
        self.stride = stride
        self.sharpness = sharpness
        self.agreeing = agreeing
        self.hybrid = hybrid
        self.augment = augment
        self.compose = compose
        self.n_components = n_components
        self.normalise = normalise
        self.target = target
        self.abstain = abstain
        self.overflow = overflow
        self.seed = seed

    def fit(
        self,
        X: Iterable[str],  # noqa: N803
        y: Any,
        *,
        spans: Sequence[Any] | None = None,
        groups: Sequence[Any] | None = None,
    ) -> Self:
        """Read the texts once, and train.

        Parameters
        ----------
        X : collection of str, N of them
            Texts. Near-duplicates are never on both sides of a split.
        y : array-like, shape (N,) or (N, C)
            A label each, or C columns of zeros and ones.
        spans : sequence, optional
            For each text the annotated characters: a list of offsets or of pairs of begin and end,
            as such or as JSON; None where nobody annotated. For two classes.
        groups : sequence, optional
            Rows with the same value are never on both sides of a split.

        Returns
        -------
        PooledClassifier
            Itself.

        Raises
        ------
        LabelError, PromptError, ConfigurationError
            A label, a text or a parameter cannot be used.
        """
        from splinellm.learn.composing import Composition
        from splinellm.learn.pooled_training import PooledSettings, train_pooled

        texts = texts_of(X)
        self.classes_, labels = _labels(y, len(texts))
        for name, column in (("spans", spans), ("groups", groups)):
            if column is not None and len(column) != len(texts):
                raise LabelError(f"{len(column)} {name} do not fit {len(texts)} texts")
        settings = PooledSettings(
            self._pooling(),
            hybrid=bool(self.hybrid),
            augment=bool(self.augment),
            n_components=whole("n_components", self.n_components),
            seed=whole("seed", self.seed) or 0,
        )
        marks = None
        if spans is not None:
            marks = [
                read_marks(s, t, i) for i, (s, t) in enumerate(zip(spans, texts, strict=True), 1)
            ]
        if self.normalise:
            if marks is not None:
                marks = [
                    None if m is None else as_read(m, t) for m, t in zip(marks, texts, strict=True)
                ]
            texts = [normalise(one).text for one in texts]
        merged = merged_groups([near_duplicates(texts), *([] if groups is None else [groups])])
        composition = None
        if self.compose:
            composition = Composition.of(texts, labels, groups=merged, seed=settings.seed)
        self.classifier_: Pooled = train_pooled(
            texts,
            labels,
            self._extractor(),
            name="pooled",
            settings=settings,
            composition=composition,
            marks=marks,
            groups=merged,
            target=self.target,
            abstain=None if self.abstain is None else number("abstain", self.abstain),
            normalisation=VERSION if self.normalise else None,
        )
        return self

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:  # noqa: N803
        """Calibrated probabilities of each class, shape (N, C)."""
        return np.asarray(self._predictions(X).probabilities)

    def predict(self, X: Iterable[str]) -> np.ndarray:  # noqa: N803
        """Labels by the thresholds in the card: shape (N,), or (N, C) of zeros and ones."""
        found = self._predictions(X)
        if found.kind == "multilabel":
            return np.asarray(found.flags, np.int64)
        position = {name: i for i, name in enumerate(found.classes)}
        chosen = np.array([position[name] for name in found.predicted], np.int64)
        return np.asarray(self.classes_[chosen])

    def spans(self, X: Iterable[str], *, threshold: float | None = None) -> list[list[Span]]:  # noqa: N803
        """Say where in each text a class is; see :meth:`splinellm.learn.pooled.Pooled.spans`."""
        check_is_fitted(self)
        return self.classifier_.spans(
            texts_of(X), self._extractor(), threshold=threshold, overflow=self.overflow
        )

    def _predictions(self, texts: Iterable[str]) -> Any:
        check_is_fitted(self)
        return self.classifier_.predict_texts(
            texts_of(texts), self._extractor(), overflow=self.overflow
        )

    def _pooling(self) -> Pooling:
        return Pooling(
            self.pool,
            whole("window", self.window),
            whole("stride", self.stride) or 0,
            number("sharpness", self.sharpness),
            whole("agreeing", self.agreeing) or 0,
        )

    def _extractor(self) -> SplineExtractor:
        from splinellm.extraction import SplineExtractor  # torch, only now
        from splinellm.schema import FeatureSelection

        features = listed("features", self.features)
        FeatureSelection.parse(features)  # a typo must not cost the loading of a model
        model, dtype = text("model", self.model), text("dtype", self.dtype)
        return SplineExtractor(
            shared_backbone(model, dtype, self.device),
            layers=None if self.layers is None else listed("layers", self.layers),
            features=features,
            max_tokens=whole("max_tokens", self.max_tokens),
            batch_tokens=whole("batch_tokens", self.batch_tokens),
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.classifier_tags.multi_label = True
        return tags


def _labels(y: Any, n_texts: int) -> tuple[np.ndarray, Labels]:
    """Labels as the library has them, and what they are called outside."""
    array = np.asarray(y)
    if len(array) != n_texts or array.ndim not in (1, 2):
        raise LabelError(f"labels of shape {array.shape} do not fit {n_texts} texts")
    if array.ndim == 2:
        if not np.isin(array, (0, 1)).all():
            raise LabelError("with several label columns each must hold zeros and ones")
        classes = np.arange(array.shape[1])
        return classes, Labels("multilabel", tuple(map(str, classes)), array.astype(np.int64))
    try:
        classes, values = np.unique(array, return_inverse=True)
    except TypeError as error:
        raise LabelError("the labels are of several kinds") from error
    if len(classes) < 2:
        raise LabelError("there is one class only")
    if len(classes) > max(50, n_texts // 10):
        raise ConfigurationError(f"{len(classes)} classes for {n_texts} texts: are these labels?")
    kind: Kind = "binary" if len(classes) == 2 else "multiclass"
    return classes, Labels(kind, tuple(map(str, classes.tolist())), values.astype(np.int64))
