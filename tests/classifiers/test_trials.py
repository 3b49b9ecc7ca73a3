"""Trials: what they make of texts, and the figures on judges whose answers are known."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from splinellm.classifiers.judging import Judge
from splinellm.classifiers.trial_figures import (
    disguise_figures,
    false_alarm_figures,
    long_text_figures,
    threshold_at,
)
from splinellm.classifiers.trials import (
    DISGUISES,
    PLACES,
    clean_trials,
    disguised,
    kept_aside,
    long_texts,
    n_pieces,
)
from splinellm.errors import ConfigurationError
from splinellm.normalisation import normalise

CLEAN = {
    "a": ["One two three four. Five six seven eight nine ten.", "Ducks swim; geese, too."],
    "b": ["x = 1", "y = [x for x in range(7)]"],
}
INSULTS = ["zzz you fool", "word " * 60, "zzz!"]


def test_long_texts_are_clean_ones_with_a_short_one_at_each_place() -> None:
    made = long_texts(INSULTS, CLEAN, n=4, lengths=(50, 90))
    assert len(made) == 4 * 2 * 4
    for start in range(0, len(made), 4):
        clean, *others = made[start : start + 4]
        assert clean.place is None
        assert n_pieces(clean.text) == clean.length
        assert "zzz" not in clean.text
        assert [one.place for one in others] == list(PLACES)
        for one in others:
            insult = "zzz you fool" if "zzz you fool" in one.text else "zzz!"
            without = one.text.replace(insult, " ")
            assert without.split() == clean.text.split()
            at = one.text.index(insult) / (len(one.text) - len(insult))
            assert {"start": at == 0, "middle": 0.2 < at < 0.8, "end": at == 1}[str(one.place)]
        # Of one origin: prose and code are not mixed.
        assert ("range" in clean.text or "=" in clean.text) != ("Ducks" in clean.text)
    assert {one.length for one in made} == {50, 90}
    assert made == long_texts(INSULTS, CLEAN, n=4, lengths=(50, 90))


def test_long_texts_need_short_ones() -> None:
    with pytest.raises(ConfigurationError, match="short texts"):
        long_texts(["word " * 60], CLEAN)
    with pytest.raises(ConfigurationError, match="clean"):
        long_texts(INSULTS, {"a": [" "]})


def words_judge(texts: Sequence[str]) -> np.ndarray:
    return np.array([float("zzz" in text) for text in texts])


def test_recall_by_length_and_place() -> None:
    made = long_texts(INSULTS, CLEAN, n=5, lengths=(20, 60))

    def reads_fifty_characters(texts: Sequence[str]) -> np.ndarray:
        return words_judge([text[:50] for text in texts])

    found = long_text_figures(Judge("all", words_judge), made)
    assert found["all"] == {"texts": 30, "start": 1, "middle": 1, "end": 1, "all": 1}
    found = long_text_figures(Judge("beginning", reads_fifty_characters), made)
    row = found["60 tokens"]
    assert (row["texts"], row["start"], row["middle"], row["end"]) == (15, 1, 0, 0)
    assert row["all"] == pytest.approx(1 / 3)
    # A judge that flags everything alike finds nothing: it has no threshold without false alarms.
    constant = Judge("constant", lambda texts: np.full(len(texts), 0.9))
    assert long_text_figures(constant, made)["all"]["all"] == 0
    with pytest.raises(ConfigurationError, match="long texts"):
        long_text_figures(constant, [one for one in made if one.place])


def test_the_threshold_keeps_to_the_rate() -> None:
    scores = np.arange(200) / 200
    threshold = threshold_at(scores, 0.01)
    assert (scores >= threshold).sum() == 2
    assert (np.ones(10) >= threshold_at(np.ones(10), 0.01)).sum() == 0


SENTENCE = "Everybody says that they were such stupid people."


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguise_changes_every_word_and_nothing_else(disguise: str) -> None:
    (made,) = disguised([SENTENCE], disguise)
    assert made != SENTENCE
    assert disguised(["other", SENTENCE], disguise)[1] == made
    for word in re.findall(r"\w+", SENTENCE):
        assert word not in re.findall(r"\w+", made)
    assert disguised(["A b, 12: да."], disguise) == ["A b, 12: да."]
    assert made.endswith(".")


@pytest.mark.parametrize("disguise", DISGUISES)
def test_what_a_disguise_hides_is_the_text(disguise: str) -> None:
    (made,) = disguised([SENTENCE], disguise)
    assert re.findall(r"\w+", normalise(made).text) == re.findall(r"\w+", SENTENCE)


def test_letters_are_spaced_and_doubled() -> None:
    assert disguised(["you fool"], "spaced letters") == ["y o u   f o o l"]
    (doubled,) = disguised(["planet"], "doubled letters")
    assert len(doubled) == 9
    assert re.sub(r"(.)\1", r"\1", doubled) == "planet"
    (leet,) = disguised(["test"], "leetspeak")
    assert re.fullmatch("[t7][e3][s5$][t7]", leet)
    with pytest.raises(ConfigurationError, match="unknown disguise 'x'"):
        disguised([""], "x")


def test_clean_texts_keep_their_words() -> None:
    texts = ["The ducks are here again today", "👍", ""]
    made = clean_trials(texts)
    assert list(made) == ["plain", "emoji", "URLs", "other scripts", "code"]
    for name in ("emoji", "URLs"):
        assert all(
            set(text.split()) < set(one.split())
            for text, one in zip(texts, made[name], strict=True)
        )
    assert len({*made["other scripts"]}) >= 30
    assert len({*made["code"]}) >= 20


def test_disguise_and_false_alarm_figures() -> None:
    judge = Judge("words", words_judge, threshold=0.5)
    found = disguise_figures(judge, ["zzz", "zzz you", "kind"])
    assert found["plain"] == {"recall": pytest.approx(2 / 3), "lost": 0}
    assert found["zero-width"] == {"recall": 0, "lost": pytest.approx(2 / 3)}
    assert disguise_figures(judge, ["zzz"], threshold=0)["leetspeak"]["recall"] == 1
    emoji = Judge("emoji", lambda texts: np.array([float(not t.isascii()) for t in texts]))
    alarms = false_alarm_figures(emoji, ["a b", "c"])
    assert alarms["plain"] == {"texts": 2, "flagged": 0}
    assert alarms["emoji"] == {"texts": 2, "flagged": 1}
    assert alarms["code"]["flagged"] == 0
    assert alarms["other scripts"]["flagged"] == 1


def test_about_a_tenth_is_kept_aside_wherever_it_turns_up() -> None:
    texts = [f"text number {i}" for i in range(2000)]
    chosen = kept_aside(texts)
    assert 150 < chosen.sum() < 250
    again = kept_aside([f"  TEXT number, {i}!" for i in reversed(range(2000))])
    assert (again[::-1] == chosen).all()
