"""The lexicon: scores that are looked up equal terms times weights."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from splinellm.errors import ArtifactError, LabelError
from splinellm.learn.lexicon import Lexicon, words_at, words_in_windows, words_of
from splinellm.learn.pooled_fit import Terms

TEXTS = ["you are a fool", "you fool!!", "a kind word", "kind foot of you", "fool, food, foods"] * 3


def lexicon() -> Lexicon:
    made = Lexicon().fit_terms(TEXTS)
    random = np.random.default_rng(0)
    made.set_weights(random.normal(size=(2, len(made.terms()))), np.array([0.5, -0.5]))
    return made


def test_scores_are_terms_times_weights() -> None:
    made = lexicon()
    pieces = [*TEXTS[:5], "", "foool unheard", "YOU FOOL", "\U0001f44d"]
    expected = made.matrix(pieces) @ made.coef_.T + made.intercept_
    np.testing.assert_allclose(made.scores(pieces), expected, atol=1e-5)
    np.testing.assert_array_equal(made.scores(["", "zqx"])[0], made.intercept_)


def test_a_score_by_hand() -> None:
    made = lexicon()
    terms = made.terms()
    n_words = made.words_.tobytes().count(b"\n")
    n_pairs = made.pairs_.tobytes().count(b"\n")
    place = terms.index("fool")
    letters = {" fool "[i : i + n] for n in range(2, 6) for i in range(6 - n + 1)}
    known = [i for i in range(n_words + n_pairs, len(terms)) if terms[i] in letters]
    length = np.sqrt(np.sum(made.idf_[known] ** 2))
    expected = made.coef_[:, place] * made.idf_[place]
    expected = expected + made.coef_[:, known] @ (made.idf_[known] / length)
    np.testing.assert_allclose(made.word_scores(["fool"])[0], expected, atol=1e-5)


def test_misspelt_words_have_scores_of_their_letters() -> None:
    made = lexicon()
    assert np.abs(made.word_scores(["foolx"])).sum() > 0


def test_all_windows_of_a_text_are_learned_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, one_by_one, asked = lexicon(), lexicon(), list[int]()
    expected = np.concatenate([one_by_one.scores([piece]) for piece in TEXTS[:5]])
    matrices = Lexicon._word_matrices
    monkeypatch.setattr(
        Lexicon,
        "_word_matrices",
        lambda self, words: (asked.append(len(words)), matrices(self, words))[1],
    )
    assert made.scores(TEXTS[:5]).tobytes() == expected.tobytes()
    assert len(asked) == 1


def test_windows_are_scored_as_on_their_own_to_the_bit() -> None:
    made = lexicon()
    windows = ["you are a fool you fool", "", "!!", "fool you " * 40, "kind", "zqx", "You FOOL!!"]
    expected = []
    for words in map(words_of, windows):
        total = made.intercept_
        if words:
            sums = np.sum(made.word_scores(words), axis=0)
            pairs = [f"{first} {second}" for first, second in pairwise(words)]
            scores = made._pair_scores()
            known = [scores[pair] for pair in pairs if pair in scores]
            sums = sums + np.sum(known, axis=0) if known else sums
            total = total + sums / np.sqrt(len(words))
        expected.append(total)
    assert made.scores(windows).tobytes() == np.array(expected).tobytes()
    assert made.scores([]).shape == (0, 2)


SCORED = """
import numpy as np
from splinellm.learn.lexicon import Lexicon
random = np.random.default_rng(0)
words = ["".join(random.choice(list("abcde"), 12)) for _ in range(300)]
made = Lexicon().fit_terms([" ".join(words)] * 3)
made.set_weights(random.normal(size=(2, len(made.terms()))), np.zeros(2))
print(made.word_scores(words).tobytes().hex())
"""


def test_scores_are_the_same_bits_in_every_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SCORED],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 1


def test_words() -> None:
    assert words_of("You f*ck3r, it's a\u2019b!! \U0001f44d") == [
        "you",
        "f*ck3r",
        ",",
        "it's",
        "a\u2019b",
        "!!",
        "\U0001f44d",
    ]
    assert words_at("ab, c") == [(0, 2), (2, 3), (4, 5)]


def test_no_words_no_lexicon() -> None:
    with pytest.raises(LabelError):
        Lexicon().fit_terms(["one", "two"])


WINDOWED = ["a kind fool, kind foot", "", "you"]
SPANS = [np.array([[0, 9], [2, 6], [15, 20], [0, 0]]), np.array([[0, 0]]), np.array([[0, 3]])]
"""Of the first text: one that cuts "fool", "kind", one that cuts "kind" and "foot", and nothing."""


def test_which_words_windows_hold() -> None:
    words, ranges = words_in_windows(["A KIND fool"], [np.array([[0, 3], [1, 2], [6, 11], [0, 0]])])
    assert words == ["a", "kind", "fool"]
    held = [words[a:b] for a, b in ranges.tolist()]
    assert held == [["a", "kind"], [], ["fool"], []]


def test_the_highest_word_of_a_window_is_added_to_it() -> None:
    made = lexicon()
    pieces = ["a kind fo", "kind", "nd fo", "", "", "you"]
    plain = made.scores_of_windows(WINDOWED, SPANS)
    assert plain.tobytes() == made.scores(pieces).tobytes()
    made.peak_ = np.array([2.0, 0.5])
    held = [["a", "kind", "fool"], ["kind"], ["kind", "foot"], [], [], ["you"]]
    highest = [made.word_scores(words).max(axis=0) if words else np.zeros(2) for words in held]
    np.testing.assert_allclose(
        made.scores_of_windows(WINDOWED, SPANS), plain + made.peak_ * highest, atol=1e-12
    )


def test_kind_words_outvote_an_insult_unless_the_highest_word_counts() -> None:
    made = lexicon()
    weights = np.full(len(made.terms()), 0.0)
    weights[made.terms().index("fool")], weights[made.terms().index("kind")] = 3.0, -1.0
    made.set_weights(weights[None], np.zeros(1))
    texts = ["fool", "fool kind kind kind kind", "kind kind kind kind"]
    spans = [np.array([[0, len(text)]]) for text in texts]
    alone, beside, kind = made.scores_of_windows(texts, spans)[:, 0]
    assert kind < beside < 0 < alone
    made.peak_ = np.array([1.0])
    alone, beside, kind = made.scores_of_windows(texts, spans)[:, 0]
    assert kind < 0 < beside < alone


def test_training_scores_words_as_verdicts_do() -> None:
    made = lexicon()
    terms = Terms.of(made, WINDOWED, SPANS)
    made.peak_ = np.ones(2)
    for column, weights in enumerate(made.coef_):
        expected = made.scores_of_windows(WINDOWED, SPANS)[:, column] - made.intercept_[column]
        found = terms.scores(weights) + terms.highest(weights)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_damage_is_found() -> None:
    made = lexicon()
    made.require_fit(2)
    for name, value in (
        ("idf_", np.ones(3)),
        ("coef_", made.coef_ * np.nan),
        ("peak_", np.ones(3)),
        ("peak_", np.array([1.0, np.inf])),
        ("extra", 1),
    ):
        damaged = lexicon()
        setattr(damaged, name, value)
        with pytest.raises(ArtifactError):
            damaged.require_fit(2)
    with pytest.raises(ArtifactError):
        made.require_fit(3)
