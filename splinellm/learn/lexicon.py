"""A channel of words and letters beside the geometry: TF-IDF and a linear model, readable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from splinellm.errors import ArtifactError, LabelError
from splinellm.token_index import text_lines

WORDS = (1, 2)
LETTERS = (2, 5)
MAX_WORDS = 40_000
MAX_LETTERS = 80_000
MIN_TEXTS = 2
"""Texts that a word or sequence of letters has to be in."""

C = 3.0
TOP = 12
"""Words of a class that the card shows."""

_CHUNK = 2048


class Lexicon(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Counts of one or two words and of two to five letters, each weighed by how rare it is.

    What is kept are plain arrays, so that a file shows what it says: no pickle, no hashing.

    Attributes
    ----------
    words_, letters_ : ndarray of uint8
        The terms, a line of JSON each.
    word_idf_, letter_idf_ : ndarray of float32
        What they are multiplied with.
    coef_ : ndarray, shape (C, V), float32
        Of words, then of letters, for each class.
    intercept_ : ndarray, shape (C,)
    """

    def fit_terms(self, texts: Sequence[str]) -> Lexicon:
        """Choose the terms: the commonest that are in at least two texts."""
        words = _vectoriser("word", WORDS, MAX_WORDS)
        letters = _vectoriser("char_wb", LETTERS, MAX_LETTERS)
        try:
            words.fit(texts)
            letters.fit(texts)
        except ValueError as error:  # scikit-learn's word for it: an empty vocabulary
            raise LabelError("the texts share no words: there is no lexicon to learn") from error
        self.words_ = text_lines(words.get_feature_names_out().tolist())
        self.letters_ = text_lines(letters.get_feature_names_out().tolist())
        self.word_idf_ = words.idf_.astype(np.float32)
        self.letter_idf_ = letters.idf_.astype(np.float32)
        self.coef_ = np.empty((0, len(self.word_idf_) + len(self.letter_idf_)), np.float32)
        self.intercept_ = np.empty(0)
        return self

    def matrix(self, texts: Sequence[str]) -> csr_matrix:
        """Weighed counts, shape (N, V), sparse; words and letters each of length one."""
        words, letters = self._vectorisers()
        return hstack([words.transform(texts), letters.transform(texts)], format="csr")

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of texts or of windows, shape (N, C)."""
        found = np.zeros((len(texts), len(self.intercept_)))
        for begin in range(0, len(texts), _CHUNK):
            part = self.matrix(texts[begin : begin + _CHUNK])
            found[begin : begin + _CHUNK] = part @ self.coef_.T + self.intercept_
        return found

    def terms(self) -> list[str]:
        """The words, then the sequences of letters."""
        return [*_lines(self.words_), *_lines(self.letters_)]

    def top_words(self) -> list[dict[str, list[str]]]:
        """For each class, the words that speak most for and against it."""
        words = _lines(self.words_)
        tops = []
        for row in self.coef_[:, : len(words)]:
            order = np.argsort(row, kind="stable")
            tops.append(
                {
                    "for": [words[i] for i in order[::-1][:TOP] if row[i] > 0],
                    "against": [words[i] for i in order[:TOP] if row[i] < 0],
                }
            )
        return tops

    def require_fit(self, n_classes: int) -> None:
        """Refuse arrays that do not belong together, as a damaged file may have.

        Raises
        ------
        ArtifactError
            Names one.
        """
        try:
            n_words, n_letters = len(_lines(self.words_)), len(_lines(self.letters_))
            shapes = {
                "word_idf_": (n_words,),
                "letter_idf_": (n_letters,),
                "coef_": (n_classes, n_words + n_letters),
                "intercept_": (n_classes,),
            }
            for name, shape in shapes.items():
                array = getattr(self, name)
                if array.shape != shape or not np.isfinite(array).all():
                    raise ArtifactError(f"the lexicon's {name} is damaged")
            # Nothing that a file put there may stand in for a method, or for what is made later.
            if more := sorted(set(vars(self)) - {"words_", "letters_", *shapes}):
                raise ArtifactError(f"the lexicon holds something else: {more[0][:40]}")
        except (AttributeError, TypeError, ValueError) as error:
            raise ArtifactError(f"the lexicon is damaged: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_made", None)
        return state

    def _vectorisers(self) -> tuple[TfidfVectorizer, TfidfVectorizer]:
        if not hasattr(self, "_made"):
            self._made = (
                _fitted("word", WORDS, _lines(self.words_), self.word_idf_),
                _fitted("char_wb", LETTERS, _lines(self.letters_), self.letter_idf_),
            )
        return self._made


def fit_weights(matrix: csr_matrix, target: np.ndarray, weights: np.ndarray) -> LogisticRegression:
    """Fit one class' logistic regression; `weights` are of rows."""
    counts = np.maximum(np.bincount(target, weights, minlength=2), 1e-9)
    balanced = weights * (weights.sum() / (2 * counts))[target]
    return LogisticRegression(C=C, max_iter=300, tol=1e-3).fit(matrix, target, balanced)


def window_texts(texts: Sequence[str], spans: Sequence[np.ndarray]) -> Iterator[str]:
    """Cut windows out of their texts; `spans` has begin and end of those of each text."""
    for text, windows in zip(texts, spans, strict=True):
        for begin, end in windows.tolist():
            yield text[begin:end]


def _vectoriser(analyzer: str, ngrams: tuple[int, int], limit: int) -> TfidfVectorizer:
    return TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=ngrams,
        min_df=MIN_TEXTS,
        max_features=limit,
        sublinear_tf=True,
        token_pattern=r"(?u)\b\w+\b" if analyzer == "word" else None,
        dtype=np.float32,
    )


def _fitted(
    analyzer: str, ngrams: tuple[int, int], terms: list[str], idf: np.ndarray
) -> TfidfVectorizer:
    vectoriser = TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=ngrams,
        vocabulary={term: i for i, term in enumerate(terms)},
        sublinear_tf=True,
        token_pattern=r"(?u)\b\w+\b" if analyzer == "word" else None,
        dtype=np.float32,
    )
    vectoriser.idf_ = idf
    return vectoriser


def _lines(data: np.ndarray) -> list[str]:
    return [json.loads(line) for line in data.tobytes().decode("utf-8").splitlines()]
