"""How likely each word is to be marked: by its letters, its neighbours and its geometry."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm.errors import ArtifactError
from splinellm.learn.lexicon import Lexicon, words_at
from splinellm.learn.marker import (
    Marker,
    WordRows,
    fit_marker,
    mean_by_word,
    neighbours,
    word_probabilities,
    words_of_tokens,
)

TEXTS = [f"the {bad} went {place}" for bad in ("oaf", "lout") for place in ("home", "out")] * 5
MARKS = [np.array([4 <= i < 4 + len(t.split()[1]) for i in range(len(t))]) for t in TEXTS]


def lexicon_of(weights: dict[str, float]) -> Lexicon:
    """A lexicon in which only whole words count."""
    found = Lexicon().fit_terms([*weights] * 3)
    terms = found.terms()
    row = [weights.get(term, 0.0) / idf for term, idf in zip(terms, found.idf_, strict=True)]
    found.set_weights(np.array([row]), np.zeros(1))
    return found


def odd_words(n: int) -> tuple[list[str], list[np.ndarray], WordRows]:
    """Texts whose marked words only their features tell from others, the first of two columns."""
    random = np.random.default_rng(0)
    flags = random.random((n, 4)) < 0.4
    texts = ["ab ab ab ab"] * n
    marks = [np.repeat(row, 3)[:11] for row in flags]
    values = np.column_stack([flags.ravel(), random.random(4 * n)]).astype(np.float32)
    return texts, marks, WordRows(values, np.ones(4 * n, np.bool_))


def test_marked_words_are_likelier_than_others_wherever_they_stand() -> None:
    marker = fit_marker(TEXTS, MARKS)
    assert marker is not None
    text = "Home, the OAF!"
    begin, end = np.array([0, 0, 4, 6, 10, 12, 13]), np.array([0, 4, 5, 9, 12, 13, 14])
    likely = word_probabilities(marker, text, begin, end)
    assert likely[0] == 0.0  # a token that is nowhere
    assert likely[4] == likely[5] == likely.max()  # two tokens of one word
    assert likely[4] > max(likely[1], likely[3]) + 0.04  # few texts, strong penalty


def test_nobody_marked_anything() -> None:
    assert fit_marker(TEXTS, [None] * len(TEXTS)) is None
    assert fit_marker(TEXTS, [np.zeros(len(t), np.bool_) for t in TEXTS]) is None
    assert fit_marker(["", " "], [np.zeros(0, np.bool_), np.zeros(1, np.bool_)]) is None


def test_a_lexicon_speaks_for_words_that_nobody_marked_before() -> None:
    lexicon = lexicon_of({"oaf": 3.0, "lout": 3.0, "dolt": 3.0, "home": -1.0})
    plain, with_lexicon = fit_marker(TEXTS, MARKS), fit_marker(TEXTS, MARKS, lexicon)
    assert plain is not None
    assert with_lexicon is not None
    assert with_lexicon.around_[1] > 0.0
    assert not plain.around_.any()
    begin, end = np.array([0, 5]), np.array([4, 9])  # neither word was in the texts
    before = word_probabilities(plain, "dolt wren", begin, end, lexicon)
    after = word_probabilities(with_lexicon, "dolt wren", begin, end, lexicon)
    assert after[0] - after[1] > before[0] - before[1] + 0.1


def test_scores_around_are_those_of_the_words_beside() -> None:
    lexicon = lexicon_of({"oaf": 2.0, "home": -1.0})
    expected = [[0.0, 2.0, 0.0], [2.0, 0.0, -1.0], [0.0, -1.0, 0.0]]
    np.testing.assert_allclose(neighbours(lexicon, ["oaf", "went", "home"]), expected, atol=1e-6)
    assert neighbours(lexicon, []).shape == (0, 3)


def test_geometry_tells_the_same_word_apart() -> None:
    texts, marks, rows = odd_words(60)
    marker = fit_marker(texts, marks, None, rows)
    assert marker is not None
    scores = marker.token_scores(np.array([[1.0, 0.5], [0.0, 0.5]], np.float32))
    begin, end = np.array([0, 3]), np.array([2, 5])
    likely = word_probabilities(marker, "ab ab", begin, end, None, scores[:, 0])
    assert likely[0] > 0.55
    assert likely[1] < 0.35
    blind = word_probabilities(marker, "ab ab", begin, end)
    assert blind[0] == blind[1]


def test_words_beyond_a_texts_limit_teach_nothing() -> None:
    texts, marks, rows = odd_words(60)
    values, is_read = rows.values.copy(), rows.is_read.copy()
    is_read[2::4] = False
    without = fit_marker(texts, marks, None, WordRows(values, is_read))
    values[2::4] = 7.0
    assert without is not None
    again = fit_marker(texts, marks, None, WordRows(values, is_read))
    assert again is not None
    np.testing.assert_array_equal(without.coef_, again.coef_)


def test_features_of_words_are_means_over_their_tokens() -> None:
    text = "un happy, x"
    places = np.array(words_at(text))
    begin, end = np.array([0, 0, 3, 5, 8, -1]), np.array([0, 2, 5, 9, 9, -1])
    first, stop = words_of_tokens(places, begin, end)
    means, found = mean_by_word(np.arange(6.0)[:, None], first, stop, len(places))
    assert found.tolist() == [True, True, True, False]
    # "un" is one token; "happy" two; the comma that one of them ends with has one of its own, too
    np.testing.assert_allclose(means[:, 0], [1.0, 2.5, 3.5, 0.0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coef_", np.zeros(3)),
        ("coef_", np.array([np.nan, 0.0])),
        ("coef_", [0.0, 0.0]),
        ("around_", np.zeros(2)),
        ("around_", np.zeros(3, object)),
        ("lexicon_", None),
        ("logits", None),
    ],
)
def test_what_does_not_belong_together_is_refused(name: str, value: object) -> None:
    texts, marks, rows = odd_words(30)
    marker = fit_marker(texts, marks, None, rows)
    assert isinstance(marker, Marker)
    marker.require_fit(2)
    setattr(marker, name, value)
    with pytest.raises(ArtifactError):
        marker.require_fit(2)
