"""Rows that a pooled classifier is fitted to and measured on: windows, words, labels, spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from splinellm.errors import ConfigurationError
from splinellm.learn.estimators import TOLERANCE
from splinellm.learn.labels import Labels
from splinellm.learn.lexicon import Lexicon
from splinellm.learn.pooled_fit import Bags, Design, Terms, bags_of, fit_path, padded_bags
from splinellm.learn.pooled_scorer import PooledScorer, scorer_of
from splinellm.learn.pooling import POOLING, Pooling
from splinellm.learn.splits import Split, stratified_splits
from splinellm.learn.windows import Windows

STRENGTHS = (1e-4, 1e-3, 1e-2)
"""Candidates for C, the inverse strength of the penalty, as scikit-learn counts it."""

LEXICON_STRENGTH = 1.0
"""C of the lexicon's weights; a tenth or ten times of it changes next to nothing."""

SHARES = (0.25, 0.5, 1.0, 2.0)
"""Candidates for the lexicon's spread of scores beside the geometry's."""

PEAKS = (0.0, 0.5)
"""Candidates for the worst word of a window, beside the sum over all its words."""

INNER_FOLDS = 3
COMPONENTS = 300


@dataclass(frozen=True)
class PooledSettings:
    """What is to be trained.

    Parameters
    ----------
    pooling : Pooling
        How windows are cut and pooled.
    hybrid : bool
        Whether a lexicon is to stand beside the geometry.
    augment : bool
        Whether half of the training texts are put among clean ones.
    n_components : int or None
        Principal components that windows are reduced to before the linear model; None for none.
    seed : int
        Of everything that is drawn.
    strengths : tuple of float
        Candidates for C, the inverse strength of the penalty, ascending.
    shares : tuple of float
        Candidates for how much the lexicon's scores of windows vary, beside the geometry's.
    peaks : tuple of float
        Candidates for what the lexicon's score of a window's worst word is multiplied with, before
        it is added to that of all its words; see :mod:`splinellm.learn.lexicon`.
    """

    pooling: Pooling = Pooling()  # noqa: RUF009 (frozen)
    hybrid: bool = False
    augment: bool = True
    n_components: int | None = COMPONENTS
    seed: int = 0
    strengths: tuple[float, ...] = STRENGTHS
    shares: tuple[float, ...] = SHARES
    peaks: tuple[float, ...] = PEAKS

    def __post_init__(self) -> None:
        if not self.strengths or not self.shares or min(*self.strengths, *self.shares) <= 0:
            raise ConfigurationError("there is no positive strength or share to choose from")
        if not self.peaks or not all(0.0 <= peak < np.inf for peak in self.peaks):
            raise ConfigurationError(f"peaks {self.peaks} are not a choice of zero or more")
        if self.n_components is not None and self.n_components < 1:
            raise ConfigurationError(f"{self.n_components} components are none")


@dataclass(frozen=True, eq=False)
class Fitted:
    """What some rows make of a :class:`Material`."""

    scorer: PooledScorer
    out_of_fold: np.ndarray
    """Calibrated logits (rows, C) of rows that the linear models did not see."""
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Material:
    """All rows, from which some are fitted to and others measured on."""

    windows: Windows
    texts: Sequence[str]
    labels: Labels
    told: np.ndarray | None
    settings: PooledSettings
    weights: np.ndarray | None = None

    @property
    def targets(self) -> list[np.ndarray]:
        """Zeros and ones of all rows, for each class that is scored."""
        return [self.labels.indicator(name) for name in self.labels.scored_classes]

    def fit(self, rows: np.ndarray, groups: np.ndarray | None) -> Fitted:
        """Tune, fit and calibrate on some rows."""
        part = self.labels[rows]
        splits = stratified_splits(part, groups, n_splits=INNER_FOLDS, seed=self.settings.seed)
        folds = [(rows[learn], rows[test]) for learn, test in splits]
        scorer = scorer_of(self.settings.pooling)
        geometry = self._fit_geometry(scorer, rows, folds)
        lexicon = self._fit_lexicon(scorer, rows, folds) if self.settings.hybrid else None
        width = len(self.targets)
        scorer.calibration_ = np.zeros((width, 2))
        scorer.share_, peaks = np.zeros(width), np.zeros(width)
        out_of_fold = np.empty((len(rows), width))
        for column, target in enumerate(self.targets):
            bags = self.unseen_bags(folds, target)
            scores = geometry[1][:, column]
            if lexicon is not None:
                sums, highest = (of_words[:, column] for of_words in lexicon)
                chosen = self._peak_and_share(scores, sums, highest, bags)
                peaks[column], scorer.share_[column] = chosen
                scores = scores + scorer.share_[column] * (sums + peaks[column] * highest)
            slope, constant = _calibration(self.pool(scores, bags), bags)
            scorer.calibration_[column] = slope, constant
            own = self.pool(scores, bags_of(self.windows, rows, target))
            out_of_fold[:, column] = slope * own + constant
        if scorer.lexicon_ is not None:
            scorer.lexicon_.peak_ = peaks
        return Fitted(scorer, out_of_fold, self._described(scorer, geometry[0]))

    def fit_once(self, rows: np.ndarray, design: Design | None = None) -> PooledScorer:
        """Fit with the first strength and share, without folds: enough to rank texts by.

        Parameters
        ----------
        rows : ndarray of int
            To fit to.
        design : Design, optional
            Of all windows; that of the rows' own is made without.
        """
        settings, windows = self.settings, self.windows
        used = windows.index(rows)
        design = design or Design.of(windows, used, settings.n_components, settings.seed)
        scorer = scorer_of(settings.pooling)
        paths = [self._path(design, rows, t, settings.strengths[:1])[0] for t in self.targets]
        self._set_linear(scorer, [design.unfolded(weights) for weights in paths])
        scorer.share_ = np.zeros(len(paths))
        scorer.calibration_ = np.tile([1.0, 0.0], (len(paths), 1))
        if settings.hybrid:
            lexicon, terms = self._terms(rows)
            self._set_words(lexicon, [self._word_path(terms, rows, t) for t in self.targets])
            scorer.lexicon_ = lexicon
            lexicon.peak_ = np.full(len(paths), settings.peaks[0])
            geometry = windows.scores(scorer.coef_.T, scorer.intercept_)[used]
            highest = np.column_stack([terms.highest(weights) for weights in lexicon.coef_])
            words = (terms.matrix @ lexicon.coef_.T + lexicon.peak_ * highest)[used]
            scorer.share_ = settings.shares[0] * geometry.std(axis=0) / words.std(axis=0)
        return scorer

    def _fit_geometry(
        self, scorer: PooledScorer, rows: np.ndarray, folds: list[Split]
    ) -> tuple[list[float], np.ndarray]:
        """Set the linear model; give its penalties, and scores of windows by folds without them."""
        settings, windows = self.settings, self.windows
        design = Design.of(windows, windows.index(rows), settings.n_components, settings.seed)
        found = np.zeros((len(windows.values), len(self.targets)))
        chosen: list[float] = []
        linear = []
        for column, target in enumerate(self.targets):
            by_strength = np.zeros((len(windows.values), len(settings.strengths)))
            for learn, test in folds:
                path = self._path(design, learn, target, settings.strengths)
                seen = windows.index(test)
                for i, weights in enumerate(path):
                    by_strength[seen, i] = (design.scores(weights[:-1]) + weights[-1])[seen]
            bags = self.unseen_bags(folds, target)
            areas = [self._area(column_of, bags) for column_of in by_strength.T]
            best = next(i for i, area in enumerate(areas) if area >= max(areas) - TOLERANCE)
            found[:, column] = by_strength[:, best]
            chosen.append(settings.strengths[best])
            weights = self._path(design, rows, target, settings.strengths[: best + 1])[-1]
            linear.append(design.unfolded(weights))
        self._set_linear(scorer, linear)
        return chosen, found

    @staticmethod
    def _set_linear(scorer: PooledScorer, linear: Sequence[tuple[np.ndarray, float]]) -> None:
        scorer.coef_ = np.array([coefficients for coefficients, _ in linear])
        scorer.intercept_ = np.array([intercept for _, intercept in linear])
        scorer.lexicon_ = None
        scorer.marker_ = None

    def _path(
        self,
        design: Design | Terms,
        rows: np.ndarray,
        target: np.ndarray,
        strengths: Sequence[float],
    ) -> list[np.ndarray]:
        settings = self.settings
        share = 0.5 if settings.augment else 0.0
        bags = padded_bags(
            self.windows, rows, target, settings.seed, share=share, weights=self.weights
        )
        told = None
        if self.told is not None:
            told = np.full(len(self.told), -1, np.int8)
            seen = self.windows.index(rows)
            told[seen] = self.told[seen]
        return fit_path(design, bags, settings.pooling, strengths, told)

    def _fit_lexicon(
        self, scorer: PooledScorer, rows: np.ndarray, folds: list[Split]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Set the lexicon; score windows and their worst words by folds without their texts."""
        lexicon, terms = self._terms(rows)
        found = np.zeros((len(self.windows.values), len(self.targets)))
        highest = np.zeros_like(found)
        for learn, test in folds:
            seen = self.windows.index(test)
            for column, target in enumerate(self.targets):
                weights = self._word_path(terms, learn, target)
                found[seen, column] = (terms.scores(weights[:-1]) + weights[-1])[seen]
                highest[seen, column] = terms.highest(weights[:-1])[seen]
        self._set_words(lexicon, [self._word_path(terms, rows, t) for t in self.targets])
        scorer.lexicon_ = lexicon
        return found, highest

    def _terms(self, rows: np.ndarray) -> tuple[Lexicon, Terms]:
        """Terms of some rows, and all windows as these see them."""
        lexicon = Lexicon().fit_terms([self.texts[row] for row in rows])
        return lexicon, Terms.of(lexicon, *self.pieces(np.arange(len(self.windows))))

    def _word_path(self, terms: Terms, rows: np.ndarray, target: np.ndarray) -> np.ndarray:
        return self._path(terms, rows, target, (LEXICON_STRENGTH,))[0]

    @staticmethod
    def _set_words(lexicon: Lexicon, paths: Sequence[np.ndarray]) -> None:
        lexicon.set_weights(
            np.array([weights[:-1] for weights in paths]), np.array([w[-1] for w in paths])
        )

    def pieces(self, rows: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
        """Some rows' texts, and where in each its windows are."""
        starts = self.windows.starts
        spans = [self.windows.characters[starts[row] : starts[row + 1]] for row in rows]
        return [self.texts[row] for row in rows], spans

    def judged_bags(self, rows: np.ndarray, target: np.ndarray, fold: int) -> list[Bags]:
        """Texts as they are and, where training put some among others, once more as such."""
        bags = [bags_of(self.windows, rows, target, self.weights)]
        if self.settings.augment:
            seed = self.settings.seed + 1 + fold
            more = padded_bags(self.windows, rows, target, seed, share=1.0, weights=self.weights)
            bags.append(more)
        return bags

    def unseen_bags(self, folds: Sequence[Split], target: np.ndarray) -> Bags:
        """The same of the rows that each fold is measured on, together."""
        return _merged(
            [
                bags
                for fold, (_, test) in enumerate(folds)
                for bags in self.judged_bags(test, target, fold)
            ]
        )

    def pool(self, scores: np.ndarray, bags: Bags) -> np.ndarray:
        """Scores of bags (B,) of those of all windows (W,)."""
        return self.settings.pooling.pooled(scores[bags.index], bags.starts)

    def _peak_and_share(
        self, scores: np.ndarray, sums: np.ndarray, highest: np.ndarray, bags: Bags
    ) -> tuple[float, float]:
        """Factors of a window's worst word, and of the lexicon, that tell classes apart best."""
        used = np.unique(bags.index)
        spread = float(scores[used].std())
        best = -np.inf, 0.0, 0.0
        for peak in self.settings.peaks:
            words = sums + peak * highest
            one = spread / max(float(words[used].std()), 1e-9)
            for share in self.settings.shares:
                area = self._area(scores + share * one * words, bags)
                if area > best[0]:
                    best = area, peak, share * one
        return best[1:]

    def _area(self, scores: np.ndarray, bags: Bags) -> float:
        return float(
            roc_auc_score(bags.targets, self.pool(scores, bags), sample_weight=bags.weights)
        )

    def _described(self, scorer: PooledScorer, chosen: list[float]) -> dict[str, Any]:
        settings = self.settings
        found: dict[str, Any] = {
            POOLING: settings.pooling.settings(),
            "channels": ["geometry", *(["lexicon"] if settings.hybrid else [])],
            "C": chosen[0] if len(set(chosen)) == 1 else chosen,
            "components": settings.n_components,
            "among clean texts": settings.augment,
            "annotated windows": 0 if self.told is None else int((self.told >= 0).sum()),
            "calibration": "sigmoid",
            "rows truncated": int(self.windows.truncated.sum()),
        }
        if scorer.lexicon_ is not None:
            tops = scorer.lexicon_.top_words()
            found["words"] = dict(zip(self.labels.scored_classes, tops, strict=True))
            peaks = np.asarray(scorer.lexicon_.peak_).tolist()
            found["worst word"] = peaks[0] if len(set(peaks)) == 1 else peaks
        return found


def _merged(bags: Sequence[Bags]) -> Bags:
    shifts = np.cumsum([0, *(len(bag.index) for bag in bags)])
    starts = [bag.starts[:-1] + shift for bag, shift in zip(bags, shifts[:-1], strict=True)]
    weights = [bag.weights for bag in bags if bag.weights is not None]
    return Bags(
        np.concatenate([bag.index for bag in bags]),
        np.concatenate([*starts, shifts[-1:]]),
        np.concatenate([bag.targets for bag in bags]),
        np.concatenate(weights) if weights else None,
    )


def _calibration(scores: np.ndarray, bags: Bags) -> tuple[float, float]:
    """Platt's sigmoid: a factor and a constant."""
    spread = max(float(scores.std()), 1e-9)
    regression = LogisticRegression(C=10.0, tol=1e-6, max_iter=1000)
    regression.fit(scores[:, None] / spread, bags.targets, bags.weights)
    return float(regression.coef_[0, 0]) / spread, float(regression.intercept_[0])
