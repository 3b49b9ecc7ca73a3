"""A linear score of windows, trained through the pooling: full batches, L-BFGS, float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.decomposition import PCA

from splinellm.learn.annotated import UNKNOWN
from splinellm.learn.lexicon import Lexicon, highest_in, window_texts, words_in_windows
from splinellm.learn.pooling import Pooling
from splinellm.learn.windows import CHUNK_ROWS, Windows

SPAN_WEIGHT = 0.5
"""Of the loss of annotated windows, beside that of whole texts."""

MAX_PADDING = 64
"""Windows of clean texts that a text is put among, at most; their number is drawn log-uniformly."""

_STEPS = 100
_FIRST_STEPS = 30
"""Of mean pooling, where that is but the beginning of another."""

_NOTHING = 1e-12
_SAMPLE = 20_000
"""Windows whose principal components are found."""


@dataclass(frozen=True, eq=False)
class Bags:
    """Which windows are pooled to one score each, and what that ought to say.

    Parameters
    ----------
    index : ndarray, shape (M,), int64
        Windows of all bags, one bag after the other.
    starts : ndarray, shape (B + 1,), int64
        Where each begins.
    targets : ndarray, shape (B,)
        Zeros and ones.
    weights : ndarray, shape (B,), optional
        How much each counts; alike without.
    """

    index: np.ndarray
    starts: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None

    def balanced(self) -> np.ndarray:
        """Weights with which both classes count alike, shape (B,), with a mean of one."""
        weights = np.ones(len(self.targets)) if self.weights is None else self.weights
        sums = np.maximum(np.bincount(self.targets, weights, minlength=2), _NOTHING)
        balanced: np.ndarray = weights * (len(self.targets) / (2.0 * sums))[self.targets]
        return balanced


def bags_of(
    windows: Windows, texts: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None
) -> Bags:
    """One bag per text, of its own windows; `target` and `weights` are of all texts."""
    counts = windows.n_windows[texts]
    starts = np.concatenate([[0], np.cumsum(counts)])
    own = None if weights is None else weights[texts]
    return Bags(windows.index(texts), starts, target[texts], own)


def padded_bags(
    windows: Windows,
    texts: np.ndarray,
    target: np.ndarray,
    seed: int,
    *,
    share: float = 0.5,
    weights: np.ndarray | None = None,
) -> Bags:
    """The same, with clean texts before and after some of them.

    Parameters
    ----------
    windows : Windows
        Of all texts.
    texts : ndarray of int
        Those to make bags of; the clean ones are taken from these, too.
    target : ndarray, shape (N,)
        Zeros and ones of all texts.
    seed : int
        Of the choice.
    share : float
        Of the texts that are put among others.
    weights : ndarray, shape (N,), optional
        Of all texts.
    """
    random = np.random.default_rng(seed)
    clean = texts[target[texts] == 0]
    chosen = random.random(len(texts)) < share
    if not len(clean):
        chosen[:] = False
    counts = windows.n_windows
    parts: list[np.ndarray] = []
    for text, is_padded in zip(texts.tolist(), chosen.tolist(), strict=True):
        own = np.arange(windows.starts[text], windows.starts[text + 1])
        if is_padded:
            wanted = int(np.exp(random.uniform(0.0, np.log(MAX_PADDING))))
            others: list[np.ndarray] = []
            while wanted > 0:
                other = int(random.choice(clean))
                taken = min(wanted, int(counts[other]))
                others.append(np.arange(windows.starts[other], windows.starts[other] + taken))
                wanted -= taken
            place = int(random.integers(len(others) + 1))
            own = np.concatenate([*others[:place], own, *others[place:]])
        parts.append(own)
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    own_weights = None if weights is None else weights[texts]
    return Bags(np.concatenate(parts), starts.astype(np.int64), target[texts], own_weights)


@dataclass(frozen=True, eq=False)
class Design:
    """Windows as the linear model sees them: standardised, and reduced if wanted.

    Parameters
    ----------
    values : ndarray, shape (W, D), float32
        Coordinates; None where they are computed from the windows when needed.
    center, scale : ndarray, shape (F,)
        Of the standardisation.
    basis : ndarray, shape (F, D), or None
        Principal components of what is standardised.
    """

    windows: Windows
    values: np.ndarray | None
    center: np.ndarray
    scale: np.ndarray
    basis: np.ndarray | None

    @classmethod
    def of(cls, windows: Windows, used: np.ndarray, n_components: int | None, seed: int) -> Design:
        """Standardise by the windows `used`, and keep as many principal components as wanted.

        The components are those of a random sample of 20,000 windows.
        """
        width = windows.values.shape[1]
        sums, squares = np.zeros(width), np.zeros(width)
        for begin in range(0, len(used), CHUNK_ROWS):
            part = windows.floats(used[begin : begin + CHUNK_ROWS]).astype(np.float64)
            sums += part.sum(axis=0)
            squares += (part * part).sum(axis=0)
        center = sums / len(used)
        variance = squares / len(used) - center**2
        # Of a column that never varies, rounding leaves next to nothing, not to be divided by.
        scale = np.where(variance > 1e-12 * (1.0 + center**2), np.sqrt(np.abs(variance)), 1.0)
        plain = cls(windows, None, center, scale, None)
        if n_components is None or n_components >= min(width, len(used)):
            return plain
        random = np.random.default_rng(seed)
        sample = np.sort(random.permutation(used)[:_SAMPLE])
        pca = PCA(n_components, svd_solver="randomized", random_state=seed)
        pca.fit(plain._standardised(sample))
        basis = pca.components_.T.astype(np.float32)
        values = np.empty((len(windows.values), n_components), np.float32)
        for begin in range(0, len(values), CHUNK_ROWS):
            rows = slice(begin, begin + CHUNK_ROWS)
            values[rows] = plain._standardised(rows) @ basis
        return replace(plain, values=values, basis=basis)

    @property
    def width(self) -> int:
        """Number D of coordinates."""
        return len(self.center) if self.basis is None else self.basis.shape[1]

    def _standardised(self, rows: np.ndarray | slice) -> np.ndarray:
        centred = self.windows.floats(rows) - self.center.astype(np.float32)
        centred /= self.scale.astype(np.float32)
        return centred

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Coordinates times weights (D,), shape (W,)."""
        narrow = weights.astype(np.float32)
        if self.values is not None:
            return np.asarray(self.values @ narrow, np.float64)
        found = np.empty(len(self.windows.values))
        for begin in range(0, len(found), CHUNK_ROWS):
            rows = slice(begin, begin + CHUNK_ROWS)
            found[rows] = self._standardised(rows) @ narrow
        return found

    def transposed(self, slopes: np.ndarray) -> np.ndarray:
        """Slopes of windows (W,) as slopes of weights, shape (D,)."""
        narrow = slopes.astype(np.float32)
        if self.values is not None:
            return np.asarray(narrow @ self.values, np.float64)
        total = np.zeros(self.width)
        for begin in range(0, len(narrow), CHUNK_ROWS):
            rows = slice(begin, begin + CHUNK_ROWS)
            if narrow[rows].any():
                total += narrow[rows] @ self._standardised(rows)
        return total

    def unfolded(self, weights: np.ndarray) -> tuple[np.ndarray, float]:
        """Coefficients (F,) and intercept for windows as they are."""
        bias = float(weights[-1])
        coefficients = weights[:-1] if self.basis is None else self.basis @ weights[:-1]
        coefficients = coefficients / self.scale
        return coefficients, bias - float(coefficients @ self.center)


@dataclass(frozen=True, eq=False)
class Terms:
    """Windows as a lexicon sees them.

    Parameters
    ----------
    matrix : csr_matrix, shape (W, V)
        Of all windows.
    words : csr_matrix, shape (D, V)
        Of the words in them, each once.
    index : ndarray of int, shape (M,)
        Which of these the texts consist of, one text after the other.
    ranges : ndarray of int, shape (W, 2)
        First of a window's words in the index, and the one after the last.
    """

    matrix: csr_matrix
    words: csr_matrix
    index: np.ndarray
    ranges: np.ndarray

    @classmethod
    def of(cls, lexicon: Lexicon, texts: Sequence[str], spans: Sequence[np.ndarray]) -> Terms:
        """Find those of a lexicon in texts and their windows."""
        words, ranges = words_in_windows(texts, spans)
        places: dict[str, int] = {}
        index = np.array([places.setdefault(word, len(places)) for word in words], np.int64)
        matrix = lexicon.matrix(list(window_texts(texts, spans)))
        return cls(matrix, lexicon.word_matrix(list(places)), index, ranges)

    @property
    def width(self) -> int:
        """Number V of terms."""
        return int(self.matrix.shape[1])

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Terms times weights (V,), shape (W,)."""
        return np.asarray(self.matrix @ weights.astype(np.float32), np.float64)

    def highest(self, weights: np.ndarray) -> np.ndarray:
        """Score of the worst word of each window by weights (V,), shape (W,)."""
        of_words = np.asarray(self.words @ weights.astype(np.float32), np.float64)
        return highest_in(of_words[self.index, None], self.ranges)[:, 0]

    def transposed(self, slopes: np.ndarray) -> np.ndarray:
        """Slopes of windows (W,) as slopes of weights, shape (V,)."""
        return np.asarray(slopes.astype(np.float32) @ self.matrix, np.float64)


def fit_path(
    design: Design | Terms,
    bags: Bags,
    pooling: Pooling,
    strengths: Sequence[float],
    labels: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Fit a linear score for each of several penalties.

    Minimises the mean over bags of the balanced cross entropy of the pooled score, plus half of
    that of annotated windows, plus ``|w|² / (2 C B)``. Mean pooling has one minimum; the other
    poolings begin there, and each penalty where the one before ended.

    Parameters
    ----------
    design : Design or Terms
        The windows.
    bags : Bags
        What to pool.
    pooling : Pooling
        How.
    strengths : sequence of float
        Values of C, ascending.
    labels : ndarray, shape (W,), optional
        Of windows; those that are not 0 or 1 have no say.

    Returns
    -------
    list of ndarray, shape (D + 1,)
        Weights and, last, the bias, for each C.
    """
    if pooling.pool == "mean" and labels is None and isinstance(design, Design):
        design, bags = averaged(design, bags)
    weights = np.zeros(design.width + 1)
    found: list[np.ndarray] = []
    stages = (replace(pooling, pool="mean"), pooling) if pooling.pool != "mean" else (pooling,)
    for c in strengths:
        for stage in stages if not found else stages[-1:]:
            loss = _Loss(design, bags, stage, c, labels)
            steps = _STEPS if stage is stages[-1] else _FIRST_STEPS
            options = {"maxiter": steps, "ftol": 1e-7, "gtol": 1e-6}
            weights = minimize(loss, weights, jac=True, method="L-BFGS-B", options=options).x
        found.append(weights)
    return found


def averaged(design: Design, bags: Bags) -> tuple[Design, Bags]:
    """Bags of one window each, which is the mean of theirs.

    The mean of linear scores is the score of the mean: under mean pooling both are the same to fit,
    and of long texts these are far fewer rows. Without coordinates there is nothing to average.
    """
    if design.values is None:
        return design, bags
    n_bags = len(bags.targets)
    counts = np.diff(bags.starts)
    shares = np.repeat((1.0 / counts).astype(np.float32), counts)
    means = csr_matrix((shares, bags.index, bags.starts), shape=(n_bags, len(design.values)))
    whole = replace(bags, index=np.arange(n_bags), starts=np.arange(n_bags + 1))
    return replace(design, values=np.asarray(means @ design.values)), whole


class _Loss:
    """What is minimised, with its gradient."""

    def __init__(
        self,
        design: Design | Terms,
        bags: Bags,
        pooling: Pooling,
        c: float,
        labels: np.ndarray | None,
    ) -> None:
        self._design = design
        self._bags = bags
        self._pooling = pooling
        n_bags = len(bags.targets)
        self._penalty = 1.0 / (c * n_bags)
        self._shares = bags.balanced() / n_bags
        self._annotated = np.empty(0, np.int64)
        if labels is not None:
            self._annotated = np.flatnonzero(labels != UNKNOWN)
            self._labels = labels[self._annotated].astype(np.float64)

    def __call__(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        linear, bias = weights[:-1], weights[-1]
        scores = self._design.scores(linear) + bias
        index, starts = self._bags.index, self._bags.starts
        pooled, parts = self._pooling.gradient(scores[index], starts)
        loss, slopes_of_bags = _cross_entropy(pooled, self._bags.targets, self._shares)
        slopes = np.bincount(
            index,
            weights=np.repeat(slopes_of_bags, np.diff(starts)) * parts,
            minlength=len(scores),
        )
        if n_annotated := len(self._annotated):
            shares = np.full(n_annotated, SPAN_WEIGHT / n_annotated)
            more, part = _cross_entropy(scores[self._annotated], self._labels, shares)
            loss += more
            slopes[self._annotated] += part
        gradient = np.append(self._design.transposed(slopes), slopes.sum())
        gradient[:-1] += self._penalty * linear
        return loss + 0.5 * self._penalty * float(linear @ linear), gradient


def _cross_entropy(
    scores: np.ndarray, targets: np.ndarray, shares: np.ndarray
) -> tuple[float, np.ndarray]:
    loss = float(shares @ (np.logaddexp(0.0, scores) - targets * scores))
    return loss, shares * (expit(scores) - targets)
