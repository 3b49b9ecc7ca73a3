"""Texts of our own for the toxicity classifiers: templates with lists of words.

Sources that others collected know some words and some groups. These texts add what they lack, in
pairs as far as it goes: the same words as an insult and as none, a group hated and a group spoken
of, a slur thrown and a slur quoted. No sentence is from another collection. The files have to
contain what a moderator has to find: slurs, threats and hateful sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.template_text import (
    Deck,
    Pieces,
    Word,
    fill,
    has_slots,
    number,
    read_words,
    restyled,
    sections,
    shuffled,
    spans,
    split,
)

KINDS = (
    "insults",
    "threats",
    "harassment",
    "counterspeech",
    "friendly_profanity",
    "civil",
    "contempt",
    "senses",
    "everyday",
    "remarks",
    "symbols",
    "languages",
)
"""Files whose lines are texts by themselves."""

STATEMENTS, PARAGRAPHS = 6, 2
"""How many of either label every group gets, beside the sentences of its own."""

LONG_TEXTS = 10
"""How many long texts a topic gives: so many with a toxic sentence in them, so many with a civil
one, and half as many untouched."""


KEPT_ASIDE = frozenset({"idiot", "👍", "my dog died"})
"""Texts that the hard cases ask about, in lower case: not to be learnt by heart."""


class Row(NamedTuple):
    """A text before it is one: which kind, which group, and its parts."""

    label: str
    kind: str
    group: str
    pieces: Pieces


class Group(NamedTuple):
    """An identity group and what is said of it alone."""

    many: str
    one: str
    adjective: str
    classes: frozenset[str]
    own: dict[str, list[str]]


def read_groups() -> list[Group]:
    """Read the identity groups.

    Returns
    -------
    list of Group
        In the order of the file.
    """
    groups = []
    for heading, lines in sections("groups"):
        many, one, adjective, classes = heading.split(" | ")
        own = {
            label: [line[2:] for line in lines if line.startswith(sign)]
            for label, sign in ((TOXIC, "- "), (CLEAN, "+ "))
        }
        groups.append(Group(many, one, adjective, frozenset(classes.split()), own))
    return groups


class Writer:
    """Fills templates, each label from decks of its own."""

    def __init__(self) -> None:
        self.groups = read_groups()
        words = read_words()
        words["groups"] = [Word(group.many, group.many) for group in self.groups]
        words["group"] = [Word(group.one, group.many) for group in self.groups]
        words["adj"] = [Word(group.adjective, group.adjective) for group in self.groups]
        self._decks = {label: Deck(words, label) for label in (TOXIC, CLEAN)}

    def write(self, template: str, label: str, group: Group | None = None) -> Pieces:
        """Fill a template, about a group if one is given."""

        def draw(name: str) -> Word:
            if group is not None and name in ("groups", "group", "adj"):
                value = {"groups": group.many, "group": group.one, "adj": group.adjective}[name]
                return Word(value, group.many)
            return self._decks[label].draw(name)

        return fill(template, label == TOXIC, draw)

    def lines(self, kind: str) -> Iterator[Row]:
        """Give the texts of a file: each line as often as its heading says."""
        for heading, templates in sections(kind):
            label, times = heading.split()
            for template in templates:
                if times == "as-is":
                    yield Row(label, kind, "", split(template, label == TOXIC))
                    continue
                # A line without slots is the same text in other clothes: twice is enough.
                most = int(times) if has_slots(template) else 2
                for turn in range(min(int(times), most)):
                    pieces = restyled(self.write(template, label), kind, template, turn)
                    yield Row(label, kind, "", pieces)

    def statements(self) -> Iterator[Row]:
        """Give single sentences about groups, as many clean as toxic ones for each."""
        for group in self.groups:
            for label in (TOXIC, CLEAN):
                shared = [
                    template
                    for heading, templates in sections("group_statements")
                    for template in templates
                    if heading.split()[0] == label
                    and ({"any"} | group.classes) & set(heading.split()[1:])
                ]
                chosen = shuffled(shared, group.many)[:STATEMENTS]
                for template in group.own[label] + chosen:
                    pieces = self.write(template, label, group)
                    pieces = restyled(pieces, group.many, template)
                    yield Row(label, "groups", group.many, pieces)

    def paragraphs(self) -> Iterator[Row]:
        """Give paragraphs about groups: an opening and what "they" are said to do."""
        parts = {tuple(heading.split()): lines for heading, lines in sections("group_paragraphs")}
        for group in self.groups:
            for label in (TOXIC, CLEAN):
                openings = shuffled(parts[label, "open"], group.many, label)
                more = shuffled(parts[label, "more"], group.many, label)
                for turn in range(PARAGRAPHS):
                    count = 1 + number(group.many, turn) % 5
                    chosen = [openings[turn], *more[turn * 5 : turn * 5 + count]]
                    # The same layouts for both labels: running text, and lines with dashes.
                    dashes = number(group.many, turn, "layout") % 4 == 0
                    text = "".join(f"- {line}\n" for line in chosen) if dashes else " ".join(chosen)
                    pieces = self.write(text.rstrip(), label, group)
                    pieces = restyled(pieces, label, group.many, turn)
                    yield Row(label, "group_paragraphs", group.many, pieces)

    def long_texts(self) -> Iterator[Row]:
        """Give civil texts of two to ten sentences, some with a foreign sentence in them."""
        inserted = dict(sections("insertions"))
        for topic, lines in sections("long_texts"):
            orders = {label: shuffled(inserted[label], topic) for label in (TOXIC, CLEAN)}
            for turn in range(LONG_TEXTS):
                for label in (TOXIC, CLEAN):
                    chosen = _stretch(lines, topic, turn)
                    at = number(topic, turn, label) % (len(chosen) + 1)
                    pieces = self.write(orders[label][turn], label)
                    around = [(" ".join(chosen[:at]) + " " if at else "", False)]
                    after = [(" " + " ".join(chosen[at:]) if at < len(chosen) else "", False)]
                    whole = restyled([*around, *pieces, *after], topic, turn, label)
                    yield Row(label, "long_texts", "", whole)
                if turn % 2 == 0:
                    text = " ".join(_stretch(lines, topic, turn + LONG_TEXTS))
                    pieces = restyled([(text, False)], topic, turn)
                    yield Row(CLEAN, "long_texts", "", pieces)

    def rows(self) -> Iterator[Row]:
        """Give the texts of every kind."""
        for kind in KINDS:
            yield from self.lines(kind)
        yield from self.statements()
        yield from self.paragraphs()
        yield from self.long_texts()


def _stretch(lines: list[str], topic: str, turn: int) -> list[str]:
    count = 2 + number(topic, turn, "count") % (len(lines) - 1)
    start = number(topic, turn, "start") % (len(lines) - count + 1)
    return lines[start : start + count]


def template_frame() -> pd.DataFrame:
    """Write all texts of our own.

    Returns
    -------
    pandas.DataFrame
        ``text``, ``label`` (``toxic`` or ``clean``), ``kind`` (the file it is from), ``group``
        (the identity group that it is about, or empty) and ``spans``: begin and end of each toxic
        part in code points, none for clean texts. The same on every machine; no text twice.
    """
    seen: set[str] = set()
    rows = []
    for row in Writer().rows():
        text = "".join(text for text, _ in row.pieces).strip()
        key = " ".join(text.casefold().split())
        key = key.rstrip(".!") or key
        if key in seen or key in KEPT_ASIDE:
            continue
        seen.add(key)
        rows.append((text, row.label, row.kind, row.group, spans(row.pieces)))
    return pd.DataFrame(rows, columns=["text", "label", "kind", "group", "spans"])
