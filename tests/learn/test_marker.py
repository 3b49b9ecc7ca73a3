"""How likely each word is to be marked: by itself, and by what a lexicon says around it."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm.errors import ArtifactError
from splinellm.learn.lexicon import Lexicon
from splinellm.learn.marker import (
    Marker,
    fit_marker,
    neighbours,
    word_probabilities,
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("around_", np.zeros(2)),
        ("around_", np.array([0.0, np.nan, 0.0])),
        ("around_", [0.0, 0.0, 0.0]),
        ("around_", np.zeros(3, object)),
        ("lexicon_", None),
        ("logits", None),
    ],
)
def test_what_does_not_belong_together_is_refused(name: str, value: object) -> None:
    marker = fit_marker(TEXTS, MARKS)
    assert isinstance(marker, Marker)
    marker.require_fit()
    setattr(marker, name, value)
    with pytest.raises(ArtifactError):
        marker.require_fit()
