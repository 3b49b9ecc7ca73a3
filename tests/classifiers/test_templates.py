"""Texts of our own: the same everywhere, well marked, in pairs, with the words that matter."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from splinellm.classifiers.template_text import (
    FOLDER,
    Deck,
    Word,
    fill,
    read_words,
    restyled,
    sections,
    spans,
    split,
)
from splinellm.classifiers.templates import KINDS, read_groups, template_frame

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return template_frame()


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold().replace("@user", "")).strip()


def uses(words: list[Word], texts: pd.Series) -> dict[str, int]:
    """Count the texts that have a word in them, found by looking through every text."""
    padded = [f" {plain(text)} " for text in texts]
    return {
        word.one: sum(
            f" {plain(word.one)} " in text or f" {plain(word.many)} " in text for text in padded
        )
        for word in words
    }


def test_two_calls_give_the_same_rows(frame: pd.DataFrame) -> None:
    again = template_frame()
    pd.testing.assert_frame_equal(frame, again)


def test_choices_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    # blake2b by hand: `hash()` of a string would be another in the next process.
    values = ["a", "b", "c", "d"]
    keys = {
        value: hashlib.blake2b(f"toxic\x1fx\x1f1\x1f{value}".encode(), digest_size=8).hexdigest()
        for value in values
    }
    deck = Deck({"x": [Word.read(value) for value in values]}, "toxic")
    drawn = [deck.draw("x").one for _ in values]
    assert drawn == sorted(values, key=keys.__getitem__, reverse=True)


def test_labels_and_kinds_are_known(frame: pd.DataFrame) -> None:
    assert set(frame["label"]) == {"toxic", "clean"}
    assert set(frame["kind"]) == {*KINDS, "groups", "group_paragraphs", "long_texts"}
    assert frame["text"].str.strip().eq(frame["text"]).all()
    assert frame["text"].str.len().min() > 0


def test_a_text_occurs_once_and_has_one_label(frame: pd.DataFrame) -> None:
    assert not frame["text"].str.casefold().duplicated().any()
    words = frame.assign(plain=frame["text"].map(plain))
    labels = words[words["plain"] != ""].groupby("plain")["label"].nunique()
    assert list(labels[labels > 1].index) == []


def test_spans_lie_inside_toxic_texts_alone(frame: pd.DataFrame) -> None:
    for row in frame.itertuples():
        if row.label == "clean":
            assert row.spans == []
            continue
        assert row.spans, row.text
        end = 0
        for begin, stop in row.spans:
            assert end <= begin < stop <= len(row.text)
            part = row.text[begin:stop]
            assert part.strip() == part
            end = stop


def test_some_toxic_texts_are_toxic_in_part_only(frame: pd.DataFrame) -> None:
    toxic = frame[frame["label"] == "toxic"]
    share = [sum(e - b for b, e in row.spans) / len(row.text) for row in toxic.itertuples()]
    long = toxic["kind"].eq("long_texts").to_numpy()
    assert all(part < 0.7 for part, is_long in zip(share, long, strict=True) if is_long)
    assert sum(part < 0.6 for part in share) > 300


def test_neither_a_slot_nor_a_mark_is_left(frame: pd.DataFrame) -> None:
    filled = frame[~frame["kind"].isin(["symbols", "languages"])]["text"]
    assert not filled.str.contains(r"[{}]|\[\[|\]\]").any()
    assert not frame["text"].str.contains(r"\[\[|\]\]").any()


def test_labels_are_balanced_over_all_and_in_every_group(frame: pd.DataFrame) -> None:
    counts = frame["label"].value_counts()
    assert 0.8 < counts["toxic"] / counts["clean"] < 1.25
    about = frame[frame["group"] != ""]
    table = about.groupby(["group", "label"]).size().unstack()
    assert len(table) >= 40
    assert (table["toxic"] == table["clean"]).all()
    assert (table["toxic"] >= 10).all()


def test_length_does_not_tell_the_labels_apart(frame: pd.DataFrame) -> None:
    words = frame["text"].str.split().str.len()
    toxic, clean = (words[frame["label"] == label] for label in ("toxic", "clean"))
    assert abs(toxic.median() - clean.median()) <= 2
    for least in (20, 60):
        assert (toxic > least).sum() > 20
        assert (clean > least).sum() > 20


def test_shouting_and_mentions_occur_with_either_label(frame: pd.DataFrame) -> None:
    def shares(found: pd.Series) -> tuple[float, float]:
        share = found.groupby(frame["label"]).mean()
        return share["toxic"], share["clean"]

    for found in (frame["text"].str.isupper(), frame["text"].str.contains("@user")):
        toxic, clean = shares(found)
        assert min(toxic, clean) > 0.02
        assert max(toxic, clean) < 2 * min(toxic, clean)


def test_the_vocabulary_of_abuse_is_broad_and_every_word_is_used(frame: pd.DataFrame) -> None:
    words = read_words()
    abuse = {word.one: word for word in words["person"]}
    toxic = frame[frame["label"] == "toxic"]["text"]
    counts = uses(list(abuse.values()), toxic)
    assert len(abuse) >= 350
    # A misspelt one may be the only one: nearly all are found, most of them several times.
    assert sum(count >= 1 for count in counts.values()) > 0.98 * len(abuse)
    assert sum(count >= 3 for count in counts.values()) > 0.8 * len(abuse)
    common = uses(words["common"], toxic)
    assert sum(count >= 5 for count in common.values()) > 0.9 * len(common)


def test_slurs_occur_in_clean_texts_but_less_often(frame: pd.DataFrame) -> None:
    slurs = read_words()["slur"]
    toxic, clean = (
        uses(slurs, frame[frame["label"] == name]["text"]) for name in ("toxic", "clean")
    )
    assert sum(count > 0 for count in clean.values()) > 40
    assert sum(clean.values()) < 0.6 * sum(toxic.values())


def test_no_hard_case_is_among_them(frame: pd.DataFrame) -> None:
    texts = set(frame["text"].map(plain))
    found = [
        *ROOT.glob("splinellm/classifiers/*hard_cases*.jsonl"),
        *ROOT.glob("tests/**/*hard_cases*.jsonl"),
    ]
    assert found
    for path in found:
        for line in path.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            text = plain(case.get("text") or case["prompt"])
            assert not text or text not in texts, text


def test_lines_are_short_enough_to_read_in_a_diff() -> None:
    for path in FOLDER.glob("*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert len(line) <= 112, (path.name, line)


def test_a_template_is_written_once() -> None:
    for kind in KINDS:
        lines = [line for _, lines in sections(kind) for line in lines]
        assert len(lines) == len(set(lines)), kind


def test_every_group_has_sentences_of_its_own() -> None:
    for group in read_groups():
        assert len(group.own["toxic"]) == len(group.own["clean"]) >= 4, group.many


@pytest.mark.parametrize(
    ("template", "text", "marked"),
    [
        ("you are [[{a x}]].", "you are an ape.", ["an ape"]),
        ("[[{X.s}]] and {y}", "Apes and box", ["Apes"]),
        ("{A y}, {y.s}, {x}", "A box, boxes, ape", ["A box, boxes, ape"]),
        ("{x} [[{x2}]]", "ape unicorn", ["unicorn"]),
        ("{a x2}", "an ape", ["an ape"]),
    ],
)
def test_filling(template: str, text: str, marked: list[str]) -> None:
    given = {"x": [Word.read("unicorn"), Word.read("ape")], "y": [Word.read("box")]}
    pieces = fill(template, True, lambda name: given[name].pop())
    assert "".join(part for part, _ in pieces) == text
    assert [text[begin:end] for begin, end in spans(pieces)] == marked


def test_plurals() -> None:
    words = [Word.read(text) for text in ("idiot", "bully", "boy", "witch", "thief/thieves")]
    assert [word.many for word in words] == ["idiots", "bullies", "boys", "witches", "thieves"]


def test_every_spelling_keeps_the_toxic_part_marked() -> None:
    pieces = split("Hello there, [[you moronic fool]], goodbye", True)
    seen = set()
    for turn in range(300):
        styled = restyled(pieces, turn)
        text = "".join(part for part, _ in styled)
        seen.add(text)
        [(begin, end)] = spans(styled)
        assert text[begin:end].lower().startswith("you")
        assert "goodbye" not in text[begin:end].lower()
        assert "hello" not in text[begin:end].lower()
    assert len(seen) > 25
