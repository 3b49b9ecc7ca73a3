"""What a pooled classifier consists of: arrays, and what they make of a text's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from sklearn.base import BaseEstimator

from splinellm.errors import LATER, ArtifactError, ConfigurationError
from splinellm.learn.lexicon import Lexicon
from splinellm.learn.marker import Marker
from splinellm.learn.pooling import Pooling, PoolName, window_means
from splinellm.learn.token_reading import TokenRows

if TYPE_CHECKING:
    from splinellm.learn.card import Card


MARKED = "marked texts"
"""Of a card's settings: how many texts with marked characters its marker was fitted to."""


class Channels(TypedDict, total=False):
    """Scores by channel; a lexicon's where there is one."""

    geometry: np.ndarray
    lexicon: np.ndarray


class PooledScorer(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Linear scores of windows for C classes, pooled and calibrated. Plain arrays, no model.

    Parameters
    ----------
    pool, window, stride, sharpness, agreeing
        See :class:`splinellm.learn.pooling.Pooling`.

    Attributes
    ----------
    coef_ : ndarray, shape (C, F), float64
        Of a window's features, which are means over its tokens.
    intercept_ : ndarray, shape (C,), float64
    share_ : ndarray, shape (C,), float64
        What a window's score by the lexicon is multiplied with before it is added to that by the
        geometry; zeros without a lexicon.
    calibration_ : ndarray, shape (C, 2), float64
        What pooled scores are multiplied with, and what is added to them, for logits.
    lexicon_ : Lexicon or None
    marker_ : Marker or None
        Of the words that people marked; see :mod:`splinellm.learn.marker`.
    """

    def __init__(
        self,
        pool: PoolName = "log-sum-exp",
        window: int | None = 16,
        stride: int = 8,
        sharpness: float = 3.0,
        agreeing: int = 3,
    ) -> None:
        self.pool = pool
        self.window = window
        self.stride = stride
        self.sharpness = sharpness
        self.agreeing = agreeing

    @property
    def pooling(self) -> Pooling:
        """How windows are cut and pooled."""
        return Pooling(self.pool, self.window, self.stride, self.sharpness, self.agreeing)

    @property
    def n_features_in_(self) -> int:
        """Number F of features."""
        return int(self.coef_.shape[1])

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Scores of tokens (T, F) on their own, shape (T, C): a window's is their mean."""
        # Not by BLAS. Its threads go on waiting for work while those of the next forward pass want
        # the cores, a third of the time of short texts; and its sums depend on the number of rows.
        found = np.einsum("tf,cf->tc", values, self.coef_.astype(np.float32))
        return np.asarray(found.astype(np.float64) + self.intercept_)

    def channels(self, tokens: TokenRows, text: Any) -> tuple[Channels, np.ndarray]:
        """Scores of a text's windows by channel, each (W, C), and which tokens they hold.

        Parameters
        ----------
        tokens : TokenRows
            With :meth:`logits` as values.
        text : str
            That they were read of; anything else will do where there is no lexicon.
        """
        bounds = self.pooling.bounds(len(tokens))
        found: Channels = {"geometry": window_means(tokens.values, bounds)}
        if self.lexicon_ is not None:
            found["lexicon"] = self.lexicon_.scores_of_windows([text], [tokens.characters(bounds)])
        return found, bounds

    def summed(self, channels: Channels) -> np.ndarray:
        """Scores of windows by all channels, shape (W, C)."""
        total = channels["geometry"]
        return total + channels["lexicon"] * self.share_ if "lexicon" in channels else total

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Logits of probability of scores that were pooled, or are of a text of one window."""
        calibrated: np.ndarray = scores * self.calibration_[:, 0] + self.calibration_[:, 1]
        return calibrated

    def pooled(self, scores: np.ndarray) -> np.ndarray:
        """Logits of probability (C,) of one text, from the scores of its windows (W, C)."""
        starts = np.array([0, len(scores)])
        pooled = [self.pooling.pooled(column, starts)[0] for column in scores.T]
        return self.calibrated(np.array(pooled))


def require_pooled_fit(estimators: Any, card: Card, n_features: int) -> None:
    """Refuse estimators that are not what a card of pooled scores says.

    Raises
    ------
    ArtifactError
        Names what differs.
    """
    if not isinstance(estimators, list) or [*map(type, estimators)] != [PooledScorer]:
        raise ArtifactError("the card says that scores are pooled, but the file holds no such")
    scorer: PooledScorer = estimators[0]
    n_scored = 1 if card.kind == "binary" else len(card.classes)
    shapes = {
        "coef_": (n_scored, n_features),
        "intercept_": (n_scored,),
        "share_": (n_scored,),
        "calibration_": (n_scored, 2),
    }
    for name, shape in shapes.items():
        array = getattr(scorer, name, None)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            found = array.shape if isinstance(array, np.ndarray) else "missing"
            raise ArtifactError(f"{name} is {found}, but the card makes it {shape}")
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ArtifactError(f"{name} holds something else than finite numbers")
    try:
        pooling = scorer.pooling
    except ConfigurationError as error:
        raise ArtifactError(error.message, hint=error.hint) from None
    if pooling != card.pooling:
        raise ArtifactError("the file pools otherwise than the card says")
    # Nothing that a file put there may stand in for a method.
    if more := sorted(set(vars(scorer)) - {*shapes, *pooling.settings(), "lexicon_", "marker_"}):
        raise ArtifactError(f"the estimator holds something else: {more[0][:40]}", hint=LATER)
    lexicon, marker = getattr(scorer, "lexicon_", None), getattr(scorer, "marker_", None)
    for channel, is_told in (
        (lexicon, "lexicon" in card.settings.get("channels", ())),
        (marker, bool(card.settings.get(MARKED))),
    ):
        if (channel is not None) != is_told:
            raise ArtifactError("the file's channels are not those of the card")
    if lexicon is not None:
        if type(lexicon) is not Lexicon:
            raise ArtifactError("the lexicon is something else")
        lexicon.require_fit(n_scored)
    if type(marker) is Lexicon:  # of words alone, as it was kept at first
        marker = scorer.marker_ = Marker.of_words(marker)
    if marker is not None:
        if type(marker) is not Marker:
            raise ArtifactError("the marker is something else")
        marker.require_fit()


def scorer_of(pooling: Pooling) -> PooledScorer:
    """Make an estimator that pools so."""
    return PooledScorer(**pooling.settings())
