"""Scores of words that were met before: kept in bounds, and the same for every thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from splinellm.learn.kept_scores import KeptScores


class Lengths:
    """Rows that say which word they are of, and what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, words: list[str]) -> np.ndarray:
        self.asked += words
        return np.array([[len(word), ord(word[0])] for word in words], float)


def test_a_word_is_scored_once() -> None:
    make = Lengths()
    kept = KeptScores(make, 2)
    assert kept(["ab", "c", "ab"]).tolist() == [[2, 97], [1, 99], [2, 97]]
    assert kept(["c", "dcb"]).tolist() == [[1, 99], [3, 100]]
    assert make.asked == ["ab", "c", "dcb"]
    assert kept([]).shape == (0, 2)


def test_beyond_the_limit_it_begins_anew() -> None:
    make = Lengths()
    kept = KeptScores(make, 2, limit=3)
    kept(["a", "b", "c"])
    assert kept(["a", "d", "e"]).tolist() == [[1, 97], [1, 100], [1, 101]]
    assert make.asked == ["a", "b", "c", "a", "d", "e"]
    # More words at once than are kept are scored all the same.
    assert kept(["f", "g", "h", "i"])[:, 1].tolist() == [102, 103, 104, 105]


def test_rows_that_were_given_do_not_change() -> None:
    kept = KeptScores(Lengths(), 2, limit=2)
    before = kept(["a", "b"])
    kept(["c", "d"])
    assert before.tolist() == [[1, 97], [1, 98]]


def test_threads_get_their_own_words() -> None:
    kept = KeptScores(Lengths(), 2, limit=50)
    words = [chr(97 + i % 26) * (1 + i // 26) for i in range(200)]

    def ask(seed: int) -> bool:
        random = np.random.default_rng(seed)
        for _ in range(300):
            own = [words[i] for i in random.integers(0, len(words), 20)]
            if kept(own).tolist() != [[len(word), ord(word[0])] for word in own]:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(4)))
