"""A channel of words and letters beside the geometry: a readable weight for each of them.

The score of a piece of text is a sum over its words, divided by the root of their number; that of a
window may add its worst word, which kind ones around it do not outvote. A word's own score is made
of its weight and of those of the letters in it, so that misspelt words count, and is looked up when
the word is met again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import CountVectorizer

from splinellm.errors import LATER, ArtifactError, LabelError
from splinellm.learn.kept_scores import KeptScores
from splinellm.token_index import text_lines

LETTERS = (2, 5)
"""Letters in a row, of a word between spaces."""

MAX_WORDS = 30_000
MAX_PAIRS = 30_000
MAX_LETTERS = 60_000
MIN_TEXTS = 3
"""Texts that a word or pair has to be in, and words that letters have to be in."""

TOP = 12
"""Words of a class that the card shows."""

MAX_LENGTH = 40
"""Letters of a word that are looked at."""

_WORD = re.compile(r"\w+(?:[*@$'\u2019]+\w+)*|[^\w\s]+")


class Lexicon(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Weights of words, of pairs of words, and of two to five letters in a row.

    What is kept are plain arrays, so that a file shows what it says: no pickle, no hashing.

    Attributes
    ----------
    words_, pairs_, letters_ : ndarray of uint8
        The terms, a line of JSON each.
    idf_ : ndarray, shape (V,), float32
        What they are multiplied with: how rare words, pairs and letters are, in this order.
    coef_ : ndarray, shape (C, V), float32
        Of each, for each class.
    intercept_ : ndarray, shape (C,)
    peak_ : ndarray, shape (C,), optional
        What the highest score of a word in a window is multiplied with before it is added to that
        of all its words.
    """

    peak_: np.ndarray | None = None

    def fit_terms(self, texts: Sequence[str]) -> Lexicon:
        """Choose the terms: the commonest of those that are in at least three texts."""
        words, word_idf = _commonest(map(words_of, texts), MAX_WORDS)
        pairs, pair_idf = _commonest((_pairs_of(words_of(text)) for text in texts), MAX_PAIRS)
        if not words:
            raise LabelError("the texts share no words: there is no lexicon to learn")
        letters, letter_idf = _commonest(map(_letters_of, words), MAX_LETTERS)
        self.words_ = text_lines(words)
        self.pairs_ = text_lines(pairs)
        self.letters_ = text_lines(letters)
        self.idf_ = np.concatenate([word_idf, pair_idf, letter_idf]).astype(np.float32)
        self.coef_ = np.empty((0, len(self.idf_)), np.float32)
        self.intercept_ = np.empty(0)
        self._forget()
        return self

    def matrix(self, pieces: Sequence[str]) -> csr_matrix:
        """What the weights are of, shape (N, V), float32, sparse."""
        places: dict[str, int] = {}
        rows, columns, shares = [], [], []
        pair_rows, pair_columns, pair_shares = [], [], []
        pair_index, n_words = self._pair_index(), self._sizes()[0]
        for row, piece in enumerate(pieces):
            found = words_of(piece)
            share = len(found) ** -0.5 if found else 0.0
            for word in found:
                rows.append(row)
                columns.append(places.setdefault(word, len(places)))
                shares.append(share)
            for pair in _pairs_of(found):
                if (place := pair_index.get(pair)) is not None:
                    pair_rows.append(row)
                    pair_columns.append(place)
                    pair_shares.append(share * self.idf_[n_words + place])
        counts = _sparse(shares, rows, columns, (len(pieces), len(places)))
        own, letters = self._word_matrices(list(places))
        width = len(pair_index)
        pairs = _sparse(pair_shares, pair_rows, pair_columns, (len(pieces), width))
        return hstack([counts @ own, pairs, counts @ letters], format="csr", dtype=np.float32)

    def scores(self, pieces: Sequence[str]) -> np.ndarray:
        """Scores of texts or of windows, shape (N, C)."""
        words = [words_of(piece) for piece in pieces]
        n_words = [len(its) for its in words]
        # At once: matrices cost, not words.
        sums = _sums(self.word_scores([word for its in words for word in its]), n_words)
        scores = self._pair_scores()
        pairs = [[scores[pair] for pair in _pairs_of(its) if pair in scores] for its in words]
        if known := [score for its in pairs for score in its]:
            sums += _sums(np.array(known), [len(its) for its in pairs])
        found: np.ndarray = self.intercept_ + sums / np.sqrt(np.maximum(n_words, 1))[:, None]
        return found

    def scores_of_windows(self, texts: Sequence[str], spans: Sequence[np.ndarray]) -> np.ndarray:
        """Scores of the windows of texts, one text after the other, shape (W, C).

        Parameters
        ----------
        texts : sequence of str
            As they are read.
        spans : sequence of ndarray, shape (W of the text, 2)
            Begin and end of each window in its text.
        """
        found = self.scores(list(window_texts(texts, spans)))
        if self.peak_ is None or not self.peak_.any():
            return found
        words, ranges = words_in_windows(texts, spans)
        return np.asarray(found + self.peak_ * highest_in(self.word_scores(words), ranges))

    def word_matrix(self, words: Sequence[str]) -> csr_matrix:
        """What the weights are of in single words, shape (N, V), float32, sparse."""
        own, letters = self._word_matrices(words)
        pairs = csr_matrix((len(words), self._sizes()[1]), dtype=np.float32)
        return hstack([own, pairs, letters], format="csr", dtype=np.float32)

    def word_scores(self, words: Sequence[str]) -> np.ndarray:
        """Scores of words on their own, without the constant, shape (N, C)."""
        if not hasattr(self, "_made"):
            self._made = KeptScores(self._make, len(self.intercept_))
        return self._made(words)

    def terms(self) -> list[str]:
        """The words, the pairs, then the letters."""
        return [*_lines(self.words_), *_lines(self.pairs_), *_lines(self.letters_)]

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
            n_terms = sum(self._sizes())
            shapes = {
                "idf_": (n_terms,),
                "coef_": (n_classes, n_terms),
                "intercept_": (n_classes,),
                **({} if self.peak_ is None else {"peak_": (n_classes,)}),
            }
            for name, shape in shapes.items():
                array = getattr(self, name)
                if array.shape != shape or not np.isfinite(array).all():
                    raise ArtifactError(f"the lexicon's {name} is damaged")
            # Nothing that a file put there may stand in for a method, or for what is made later.
            if more := sorted(set(vars(self)) - {"words_", "pairs_", "letters_", *shapes}):
                raise ArtifactError(f"the lexicon holds something else: {more[0][:40]}", hint=LATER)
        except (AttributeError, TypeError, ValueError) as error:
            raise ArtifactError(f"the lexicon is damaged: {error}") from error

    def set_weights(self, coefficients: np.ndarray, intercepts: np.ndarray) -> None:
        """Set what :attr:`coef_` and :attr:`intercept_` say, shapes (C, V) and (C,)."""
        self.coef_ = coefficients.astype(np.float32)
        self.intercept_ = intercepts.astype(float)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        for name in ("_made", "_pairs", "_index"):
            state.pop(name, None)
        return state

    def _make(self, words: Sequence[str]) -> np.ndarray:
        n_words, n_pairs, _ = self._indices()[2]
        own, letters = self._word_matrices(words)
        scores = own @ self.coef_[:, :n_words].T + letters @ self.coef_[:, n_words + n_pairs :].T
        return np.asarray(scores)

    def _pair_scores(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "_pairs"):
            first, n_pairs, _ = self._sizes()
            part = slice(first, first + n_pairs)
            scores = (self.coef_[:, part] * self.idf_[part]).T.astype(np.float64)
            self._pairs = dict(zip(_lines(self.pairs_), scores, strict=True))
        return self._pairs

    def _word_matrices(self, words: Sequence[str]) -> tuple[csr_matrix, csr_matrix]:
        """Terms of words: themselves and their letters, the latter of length one."""
        index, letters, (n_words, n_pairs, n_letters) = self._indices()
        own_columns: list[int] = []
        own_ends, ends, values = [0], [0], []
        columns: list[int] = []
        for word in words:
            if (place := index.get(word)) is not None:
                own_columns.append(place)
            own_ends.append(len(own_columns))
            places = [letters[part] for part in _letters_of(word) if part in letters]
            if places:
                weights = self.idf_[n_words + n_pairs + np.array(places)]
                order = np.argsort(places)  # sums go by column
                columns += np.array(places)[order].tolist()
                values.append((weights / np.sqrt(np.sum(weights**2)))[order])
            ends.append(len(columns))
        shares = np.concatenate(values) if values else np.empty(0, np.float32)
        own = csr_matrix((self.idf_[own_columns], own_columns, own_ends), (len(words), n_words))
        return own, csr_matrix((shares, columns, ends), (len(words), n_letters))

    def _indices(self) -> tuple[dict[str, int], dict[str, int], tuple[int, int, int]]:
        """Places of words and of runs of letters, and how many terms of each kind there are."""
        if not hasattr(self, "_index"):
            words, letters = (
                {term: place for place, term in enumerate(_lines(data))}
                for data in (self.words_, self.letters_)
            )
            self._index = words, letters, self._sizes()
        return self._index

    def _pair_index(self) -> dict[str, int]:
        return {term: place for place, term in enumerate(_lines(self.pairs_))}

    def _sizes(self) -> tuple[int, int, int]:
        n_words, n_pairs, n_letters = (
            int(np.count_nonzero(data == ord("\n")))
            for data in (self.words_, self.pairs_, self.letters_)
        )
        return n_words, n_pairs, n_letters

    def _forget(self) -> None:
        for name in ("_made", "_pairs", "_index"):
            self.__dict__.pop(name, None)


def words_of(text: str) -> list[str]:
    """Words, with signs that stand for letters inside, and runs of other signs; lower case."""
    return [word[:MAX_LENGTH] for word in _WORD.findall(text.lower())]


def words_at(text: str) -> list[tuple[int, int]]:
    """Where the words of a text are; as many as :func:`words_of` has where case has no say."""
    return [match.span() for match in _WORD.finditer(text)]


def window_texts(texts: Sequence[str], spans: Sequence[np.ndarray]) -> Iterator[str]:
    """Cut windows out of their texts; `spans` has begin and end of those of each text."""
    for text, windows in zip(texts, spans, strict=True):
        for begin, end in windows.tolist():
            yield text[begin:end]


def words_in_windows(
    texts: Sequence[str], spans: Sequence[np.ndarray]
) -> tuple[list[str], np.ndarray]:
    """Words of texts, and which of them each window holds.

    A word that a window's edge cuts counts in whole on either side: its half may be another word.

    Parameters
    ----------
    texts, spans
        See :meth:`Lexicon.scores_of_windows`.

    Returns
    -------
    words : list of str
        Of all texts, in order, lower case.
    ranges : ndarray, shape (W, 2), int64
        First of the words of each window and the one after the last; the same where it has none.
    """
    words: list[str] = []
    ranges: list[np.ndarray] = []
    for text, windows in zip(texts, spans, strict=True):
        places = words_at(text)
        begins, ends = np.array(places, np.int64).reshape(-1, 2).T
        first = np.searchsorted(ends, windows[:, 0], side="right")
        stop = np.maximum(first, np.searchsorted(begins, windows[:, 1]))
        ranges.append(np.column_stack([first, stop]) + len(words))
        words += [text[a:b].lower()[:MAX_LENGTH] for a, b in places]
    return words, np.concatenate(ranges)


def highest_in(scores: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Highest of the rows (V, C) in each range, shape (W, C); zeros where there is none."""
    if not len(scores):
        return np.zeros((len(ranges), scores.shape[1]))
    # A range may end where the rows end, which is no place for reduceat.
    padded = np.concatenate([scores, scores[-1:]])
    highest = np.maximum.reduceat(padded, ranges.ravel(), axis=0)[::2]
    highest[ranges[:, 0] == ranges[:, 1]] = 0.0
    return np.asarray(highest)


def _sums(rows: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Sum rows (V, C) in groups of so many, shape (N, C); nothing adds up to zero."""
    sizes = np.array(counts, np.int64)
    # A group of none at the end begins where the rows end, which is no place for reduceat.
    padded = np.concatenate([rows, np.zeros((1, rows.shape[1]))])
    sums = np.add.reduceat(padded, np.cumsum(sizes) - sizes, axis=0)
    sums[sizes == 0] = 0.0
    return np.asarray(sums)


def _pairs_of(words: Sequence[str]) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(words)]


def _letters_of(word: str) -> list[str]:
    whole = f" {word} "
    low, high = LETTERS
    runs = (whole[i : i + n] for n in range(low, high + 1) for i in range(len(whole) - n + 1))
    return list(dict.fromkeys(runs))  # a set's order, and with it the sums, would be the process's


def _commonest(documents: Iterable[list[str]], limit: int) -> tuple[list[str], np.ndarray]:
    """Terms that are in enough documents, sorted, and how rare each is."""
    counter = CountVectorizer(
        analyzer=_as_they_are, min_df=MIN_TEXTS, max_features=limit, binary=True
    )
    try:
        counts = counter.fit_transform(documents)
    except ValueError:  # scikit-learn's word for it: an empty vocabulary
        return [], np.empty(0)
    frequency = np.asarray(counts.sum(axis=0)).ravel()
    idf = np.log((1 + counts.shape[0]) / (1 + frequency)) + 1.0
    return counter.get_feature_names_out().tolist(), idf


def _as_they_are(terms: list[str]) -> list[str]:
    return terms


def _sparse(
    values: Any, rows: Sequence[int], columns: Sequence[int], shape: tuple[int, int]
) -> csr_matrix:
    return csr_matrix((np.asarray(values, np.float32), (rows, columns)), shape, dtype=np.float32)


def _lines(data: np.ndarray) -> list[str]:
    return [json.loads(line) for line in data.tobytes().decode("utf-8").splitlines()]
