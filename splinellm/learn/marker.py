"""How likely each word of a text is to be marked: learnt from characters that people marked."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
from scipy.sparse import vstack
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from splinellm.errors import LATER, ArtifactError
from splinellm.learn.lexicon import Lexicon, words_at, words_of

STRENGTH = 0.01
"""C of the words' logistic regression."""

SUM_STRENGTH = 0.01
"""C of the one that adds a lexicon to it, of standardised columns."""

N_FOLDS = 3
"""Parts of the texts: what is added to the words is learnt beside scores of unseen texts."""

HALF = 0.5


class Marker(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A sum for each word: its own weight, and what a lexicon says of the words around it.

    Attributes
    ----------
    lexicon_ : Lexicon
        Weights of single words and of their letters for being marked, and the constant.
    around_ : ndarray, shape (3,), float64
        What the scores that the classifier's own lexicon gives the word before, the word and the
        word after are multiplied with; zeros where there is none.
    """

    @classmethod
    def of_words(cls, lexicon: Lexicon) -> Marker:
        """Make one that knows the words' own weights alone."""
        marker = cls()
        marker.lexicon_, marker.around_ = lexicon, np.zeros(3)
        return marker

    def logits(self, words: Sequence[str], around: Lexicon | None) -> np.ndarray:
        """Score the words of one text, shape (W,): the logit of the probability to be marked.

        Parameters
        ----------
        words : sequence of str
            As :func:`splinellm.learn.lexicon.words_of` gives each.
        around : Lexicon or None
            Of the classifier.
        """
        total = self.lexicon_.word_scores(words)[:, 0] + self.lexicon_.intercept_[0]
        if around is not None and self.around_.any():
            total = total + neighbours(around, words) @ self.around_
        return np.asarray(total)

    def require_fit(self) -> None:
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
        around = getattr(self, "around_", None)
        if not isinstance(around, np.ndarray) or around.shape != (3,):
            raise ArtifactError("the marker's around_ is damaged")
        if around.dtype.kind != "f" or not np.isfinite(around).all():
            raise ArtifactError("the marker's around_ holds something else than numbers")
        # Nothing that a file put there may stand in for a method.
        if more := sorted(set(vars(self)) - {"lexicon_", "around_"}):
            raise ArtifactError(f"the marker holds something else: {more[0][:40]}", hint=LATER)


def neighbours(lexicon: Lexicon, words: Sequence[str]) -> np.ndarray:
    """Scores of the word before, of the word, and of the word after, shape (W, 3)."""
    own = np.concatenate([[0.0], lexicon.word_scores(words)[:, 0], [0.0]])
    return np.column_stack([own[:-2], own[1:-1], own[2:]])


def fit_marker(
    texts: Sequence[str],
    marks: Sequence[np.ndarray | None],
    around: Lexicon | None = None,
) -> Marker | None:
    """Learn how likely each word is to be marked.

    The weights of words are learnt first. What a lexicon of the whole class says of a word and of
    those beside it is added to scores that they give to texts that they were not learnt from: it
    knows words that nobody marked, for there are more labelled texts than marked ones.

    Parameters
    ----------
    texts : sequence of str
        As they are read.
    marks : sequence of ndarray or None
        Marked characters of each; None where nobody looked.
    around : Lexicon, optional
        Of the classifier, whose first class is the one that was marked.

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
    marker = Marker.of_words(Lexicon().fit_terms([text for text, _ in read]))
    _fit_words(marker.lexicon_, words, is_marked)
    if around is not None:
        _add_lexicon(marker, words, is_marked, around)
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
    part = copy(lexicon)
    for fold in range(N_FOLDS):
        seen = [i for i in range(len(words)) if i % N_FOLDS != fold]
        if not _fit_words(part, [words[i] for i in seen], [marked[i] for i in seen]):
            return None
        for i in range(fold, len(words), N_FOLDS):
            own = [" ".join(words_of(word)) for word in words[i]]
            found[i] = part.word_scores(own)[:, 0] + part.intercept_[0]
    return np.concatenate(found)


def _add_lexicon(
    marker: Marker,
    words: Sequence[Sequence[str]],
    marked: Sequence[np.ndarray],
    around: Lexicon,
) -> None:
    """Set what the lexicon is multiplied with, and scale the words' own weights with it."""
    own = _unseen_scores(marker.lexicon_, words, marked)
    if own is None:
        return
    lowered = [[" ".join(words_of(word)) for word in text] for text in words]
    beside = np.concatenate([neighbours(around, text) for text in lowered])
    design = np.column_stack([own, beside])
    center, scale = design.mean(axis=0), design.std(axis=0)
    scale[scale < 1e-9] = 1.0
    fitted = LogisticRegression(C=SUM_STRENGTH, max_iter=200)
    fitted.fit((design - center) / scale, np.concatenate(list(marked)))
    weights = fitted.coef_[0] / scale
    constant = float(fitted.intercept_[0]) - float(weights @ center)
    lexicon = marker.lexicon_
    lexicon.set_weights(lexicon.coef_ * weights[0], lexicon.intercept_ * weights[0] + constant)
    marker.around_ = weights[1:]


def word_probabilities(
    marker: Marker,
    text: str,
    begin: np.ndarray,
    end: np.ndarray,
    around: Lexicon | None = None,
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
    """
    found = np.zeros(len(begin))
    places = np.array(words_at(text), np.int64).reshape(-1, 2)
    if not len(places):
        return found
    words = [" ".join(words_of(text[a:b])) for a, b in places.tolist()]
    likely = expit(marker.logits(words, around))
    for token, (a, b) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        if 0 <= a < b:
            first = int(np.searchsorted(places[:, 1], a, side="right"))
            stop = int(np.searchsorted(places[:, 0], b))
            if first < stop:
                found[token] = likely[first:stop].max()
    return found
