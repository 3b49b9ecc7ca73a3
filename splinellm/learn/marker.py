"""How likely each word of a text is to be marked: learnt from characters that people marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import vstack
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from splinellm.errors import ArtifactError
from splinellm.learn.lexicon import Lexicon, words_at, words_of

STRENGTH = 0.01
"""C of the words' logistic regression."""

SUM_STRENGTH = 0.01
"""C of the one that adds other channels to it, of standardised columns."""

N_FOLDS = 3
"""Parts of the texts: what is added to the words is learnt beside scores of unseen texts."""

N_COMPONENTS = 300
"""Principal components of the features of a word that are learnt from, of a sample of words."""

SAMPLE = 20_000
HALF = 0.5
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class WordRows:
    """Features of the words of N texts.

    Parameters
    ----------
    values : ndarray, shape (W, F), uint8 or float32
        Means over the tokens that are in a word; of all words of the first text, then the second.
    is_read : ndarray, shape (W,), bool
        Whether a word has such tokens: a text may have been cut.
    scale : float
        What a value is multiplied with to be what was computed.
    """

    values: np.ndarray
    is_read: np.ndarray
    scale: float = 1.0

    def floats(self, rows: np.ndarray) -> np.ndarray:
        """What was computed of some words, float32."""
        found: np.ndarray = self.values[rows].astype(np.float32) * np.float32(self.scale)
        return found


class Marker(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A sum for each word: its own weight, those of a lexicon around it, and its geometry.

    Attributes
    ----------
    lexicon_ : Lexicon
        Weights of single words and of their letters for being marked, and the constant.
    around_ : ndarray, shape (3,), float64
        What the scores that the classifier's own lexicon gives the word before, the word and the
        word after are multiplied with; zeros where there is none.
    coef_ : ndarray, shape (F,), float64
        Of the features of its tokens, over which their products are averaged; none, shape (0,),
        where the marker reads words alone.
    """

    def logits(
        self, words: Sequence[str], around: Lexicon | None, geometry: np.ndarray | None
    ) -> np.ndarray:
        """Score the words of one text, shape (W,): the logit of the probability to be marked.

        Parameters
        ----------
        words : sequence of str
            As :func:`splinellm.learn.lexicon.words_of` gives each.
        around : Lexicon or None
            Of the classifier.
        geometry : ndarray, shape (W,), or None
            Scores of their tokens.
        """
        total = self.lexicon_.word_scores(words)[:, 0] + self.lexicon_.intercept_[0]
        if around is not None and self.around_.any():
            total = total + neighbours(around, words) @ self.around_
        return np.asarray(total if geometry is None else total + geometry)

    def token_scores(self, values: np.ndarray) -> np.ndarray:
        """Scores of tokens by their features (T, F), shape (T, 1) or, of words alone, (T, 0)."""
        if not len(self.coef_):
            return np.empty((len(values), 0))
        return np.asarray((values @ self.coef_.astype(np.float32))[:, None], np.float64)

    def require_fit(self, n_features: int) -> None:
        """Refuse what does not belong together, as a damaged file may have.

        Raises
        ------
        ArtifactError
            Names it.
        """
        lexicon = getattr(self, "lexicon_", None)
        if type(lexicon) is not Lexicon:
            raise ArtifactError("the marker's lexicon is something else")
        lexicon.require_fit(1)
        for name, sizes in (("around_", (3,)), ("coef_", (0, n_features))):
            array = getattr(self, name, None)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or len(array) not in sizes:
                raise ArtifactError(f"the marker's {name} is damaged")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ArtifactError(f"the marker's {name} holds something else than numbers")
        # Nothing that a file put there may stand in for a method.
        if more := sorted(set(vars(self)) - {"lexicon_", "around_", "coef_"}):
            raise ArtifactError(f"the marker holds something else: {more[0][:40]}")


def neighbours(lexicon: Lexicon, words: Sequence[str]) -> np.ndarray:
    """Scores of the word before, of the word, and of the word after, shape (W, 3)."""
    own = np.concatenate([[0.0], lexicon.word_scores(words)[:, 0], [0.0]])
    return np.column_stack([own[:-2], own[1:-1], own[2:]])


def fit_marker(
    texts: Sequence[str],
    marks: Sequence[np.ndarray | None],
    around: Lexicon | None = None,
    rows: WordRows | None = None,
) -> Marker | None:
    """Learn how likely each word is to be marked.

    The weights of words are learnt first. What else there is, is added to scores that they give to
    texts that they were not learnt from, with one weight for all words.

    Parameters
    ----------
    texts : sequence of str
        As they are read.
    marks : sequence of ndarray or None
        Marked characters of each; None where nobody looked.
    around : Lexicon, optional
        Of the classifier, whose first class is the one that was marked.
    rows : WordRows, optional
        Of the words of those texts that somebody looked at.

    Returns
    -------
    Marker or None
        None if no word is marked, or all are.
    """
    read = [(text, marked) for text, marked in zip(texts, marks, strict=True) if marked is not None]
    words: list[list[str]] = []
    is_marked: list[np.ndarray] = []
    for text, marked in read:
        places = words_at(text)
        words.append([text[a:b] for a, b in places])
        is_marked.append(np.array([marked[a:b].mean() > HALF for a, b in places], np.bool_))
    told = np.concatenate([*is_marked, np.empty(0, np.bool_)])
    if len(set(told.tolist())) < 2:
        return None
    marker = Marker()
    marker.lexicon_ = Lexicon().fit_terms([text for text, _ in read])
    marker.around_ = np.zeros(3)
    marker.coef_ = np.empty(0)
    _fit_words(marker.lexicon_, words, is_marked)
    if around is not None or rows is not None:
        _add_channels(marker, words, is_marked, around, rows)
    return marker


def _fit_words(
    lexicon: Lexicon, words: Sequence[Sequence[str]], marked: Sequence[np.ndarray]
) -> bool:
    """Set the weights of words; False if these texts do not say what is marked."""
    counts: dict[str, list[int]] = {}
    for text, flags in zip(words, marked, strict=True):
        for word, flag in zip(text, flags.tolist(), strict=True):
            counts.setdefault(word.lower(), [0, 0])[flag] += 1
    numbers = np.array(list(counts.values()), float).reshape(-1, 2)
    if not numbers.sum(axis=0).all():
        return False
    matrix = lexicon.matrix(list(counts))
    weights = np.concatenate([numbers[:, 0], numbers[:, 1]])
    used = np.flatnonzero(weights)
    fitted = LogisticRegression(C=STRENGTH, solver="liblinear", tol=1e-4)
    target = np.repeat([0, 1], len(counts))
    fitted.fit(vstack([matrix, matrix]).tocsr()[used], target[used], weights[used])
    lexicon.set_weights(fitted.coef_, fitted.intercept_)
    return True


def _unseen_scores(
    lexicon: Lexicon, words: Sequence[Sequence[str]], marked: Sequence[np.ndarray]
) -> np.ndarray | None:
    """Scores of words by weights that were learnt from other texts, shape (W,)."""
    found: list[np.ndarray] = [np.empty(0)] * len(words)
    part = Lexicon()
    vars(part).update(lexicon.__getstate__())
    for fold in range(N_FOLDS):
        seen = [i for i in range(len(words)) if i % N_FOLDS != fold]
        if not _fit_words(part, [words[i] for i in seen], [marked[i] for i in seen]):
            return None
        for i in range(fold, len(words), N_FOLDS):
            own = [" ".join(words_of(word)) for word in words[i]]
            found[i] = part.word_scores(own)[:, 0] + part.intercept_[0]
    return np.concatenate(found)


def _add_channels(
    marker: Marker,
    words: Sequence[Sequence[str]],
    marked: Sequence[np.ndarray],
    around: Lexicon | None,
    rows: WordRows | None,
) -> None:
    """Set what other channels are multiplied with, and scale the words' own weights with them."""
    own = _unseen_scores(marker.lexicon_, words, marked)
    if own is None:
        return
    columns = [own[:, None]]
    if around is not None:
        lowered = [[" ".join(words_of(word)) for word in text] for text in words]
        columns.append(np.concatenate([neighbours(around, text) for text in lowered]))
    told = np.concatenate(list(marked))
    used = np.arange(len(told))
    unfold = None
    if rows is not None:
        used = np.flatnonzero(rows.is_read)
        reduced, unfold = _reduced(rows, used)
        columns.append(np.zeros((len(told), reduced.shape[1]), np.float32))
        columns[-1][used] = reduced
    design = np.concatenate([column.astype(np.float32) for column in columns], axis=1)[used]
    center, scale = design.mean(axis=0, dtype=float), design.std(axis=0, dtype=float)
    scale[scale < 1e-9] = 1.0
    design -= center.astype(np.float32)
    design /= scale.astype(np.float32)
    fitted = LogisticRegression(C=SUM_STRENGTH, max_iter=200).fit(design, told[used])
    weights = fitted.coef_[0].astype(float) / scale
    constant = float(fitted.intercept_[0]) - float(weights @ center)
    lexicon = marker.lexicon_
    lexicon.set_weights(lexicon.coef_ * weights[0], lexicon.intercept_ * weights[0] + constant)
    if around is not None:
        marker.around_ = weights[1:4]
    if unfold is not None:
        basis, middle = unfold
        marker.coef_ = basis @ weights[-basis.shape[1] :]
        lexicon.intercept_ = lexicon.intercept_ - float(middle @ marker.coef_)


def _reduced(
    rows: WordRows, used: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Principal components of words, and how to get from their weights to those of features."""
    random = np.random.default_rng(0)
    sample = rows.floats(np.sort(random.permutation(used)[:SAMPLE]))
    n_components = min(N_COMPONENTS, *sample.shape)
    pca = PCA(n_components, svd_solver="randomized", random_state=0).fit(sample)
    basis = pca.components_.T.astype(np.float32)
    middle = pca.mean_.astype(np.float32)
    reduced = np.empty((len(used), n_components), np.float32)
    for begin in range(0, len(used), _CHUNK):
        part = used[begin : begin + _CHUNK]
        reduced[begin : begin + _CHUNK] = (rows.floats(part) - middle) @ basis
    return reduced, (basis.astype(float), middle.astype(float))


def word_probabilities(
    marker: Marker,
    text: str,
    begin: np.ndarray,
    end: np.ndarray,
    around: Lexicon | None = None,
    scores: np.ndarray | None = None,
) -> np.ndarray:
    """How likely the word that each token is in is to be marked, shape (T,); 0 outside of words.

    Parameters
    ----------
    marker : Marker
        See :func:`fit_marker`.
    text : str
        As it was read.
    begin, end : ndarray, shape (T,)
        Characters of the tokens; those that are nowhere have an empty range.
    around : Lexicon, optional
        Of the classifier.
    scores : ndarray, shape (T,), optional
        Of the tokens; see :meth:`Marker.token_scores`.
    """
    found = np.zeros(len(begin))
    places = np.array(words_at(text), np.int64).reshape(-1, 2)
    if not len(places):
        return found
    first, stop = words_of_tokens(places, begin, end)
    geometry = None if scores is None else mean_by_word(scores[:, None], first, stop, len(places))
    words = [" ".join(words_of(text[a:b])) for a, b in places.tolist()]
    likely = expit(marker.logits(words, around, None if geometry is None else geometry[0][:, 0]))
    for token, (a, b) in enumerate(zip(first.tolist(), stop.tolist(), strict=True)):
        if a < b:
            found[token] = likely[a:b].max()
    return found


def words_of_tokens(
    places: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First word that each token is in, and one after the last; alike for tokens in none."""
    first = np.searchsorted(places[:, 1], begin, side="right")
    stop = np.maximum(first, np.searchsorted(places[:, 0], end))
    return first, np.where((begin >= 0) & (begin < end), stop, first)


def mean_by_word(
    values: np.ndarray, first: np.ndarray, stop: np.ndarray, n_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means over the tokens in each word, (W, F), and whether there are any; else zeros."""
    sums = np.zeros((n_words, values.shape[1]), values.dtype)
    counts = np.zeros(n_words, np.int64)
    for shift in range(int((stop - first).max(initial=0))):  # few tokens are in several words
        has = first + shift < stop
        np.add.at(sums, first[has] + shift, values[has])
        np.add.at(counts, first[has] + shift, 1)
    sums /= np.maximum(counts, 1)[:, None]
    return sums, counts > 0
