"""How a template becomes a text: reading the files, drawing words, register and spelling.

Every choice comes from a hash of what is chosen for, so that one more word in a list or one more
line in a file leaves most of the other texts as they were.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("template_data")
"""The files of templates and words, one a kind."""

Pieces = list[tuple[str, bool]]
"""A text in parts, each with whether it is the toxic one; so no spelling moves a span."""

_SLOT = re.compile(r"\{(?:([aA]|the) )?([A-Za-z]+)(\d?)(\.s)?\}")
_SOUNDS_LIKE_U = ("use", "uni", "eu", "one", "u ")
_TAGS = ("#monday", "#fyp", "#news", "#mood", "#justsaying", "#facts", "#2020", "#live", "#truth")
_ENDS = (" lol", " tbh", " ...", " smh", " 😂", "!!!", " imo", " fr", " 🙄", "??")


def number(*key: object) -> int:
    """Hash what is chosen for to a number that is the same on every machine."""
    text = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def shuffled(values: Sequence[str], *key: object) -> list[str]:
    """Order values by their hashes."""
    return sorted(values, key=lambda value: number(*key, value))


def sections(name: str) -> Iterator[tuple[str, list[str]]]:
    """Read a file: headings at the margin, their lines indented, continued lines more so.

    Parameters
    ----------
    name : str
        File of the folder, without its ending.

    Yields
    ------
    tuple of str and list of str
        A heading and the lines under it.
    """
    heading, lines = "", list[str]()
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("    "):
            lines[-1] += " " + line.strip()
        elif line.startswith("  "):
            lines.append(line.strip())
        else:
            if heading:
                yield heading, lines
            heading, lines = line, []
    yield heading, lines


class Word(NamedTuple):
    """A value of a slot."""

    one: str
    many: str

    @classmethod
    def read(cls, text: str) -> Word:
        """Read ``one/many``; the plural may be left out where it is regular."""
        one, slash, many = text.partition("/")
        if slash:
            return cls(one, many)
        if re.search(r"(s|x|ch|sh)$", one):
            return cls(one, one + "es")
        if re.search(r"[^aeiou]y$", one):
            return cls(one, one[:-1] + "ies")
        return cls(one, one + "s")


def read_words() -> dict[str, list[Word]]:
    """Read the lists of words; a list may join others."""
    words: dict[str, list[Word]] = {}
    for heading, lines in sections("slots"):
        name, joined, others = heading.partition(" = ")
        if joined:
            words[name] = [word for other in others.split() for word in words[other]]
        else:
            values = ",".join(lines).split(",")
            words[name] = [Word.read(value.strip()) for value in values if value.strip()]
    return words


class Deck:
    """Draws from each list in turn, so that every word is used about as often as any other.

    Parameters
    ----------
    words : mapping of str to sequence of Word
        The lists.
    label : str
        Toxic and clean texts have decks of their own.
    """

    def __init__(self, words: Mapping[str, Sequence[Word]], label: str) -> None:
        self._words = words
        self._label = label
        self._left: dict[str, list[str]] = {}
        self._rounds: dict[str, int] = {}

    def draw(self, name: str) -> Word:
        """Draw the next word of a list."""
        words = {word.one: word for word in self._words[name]}
        if not self._left.get(name):
            self._rounds[name] = self._rounds.get(name, 0) + 1
            self._left[name] = shuffled(list(words), self._label, name, self._rounds[name])
        return words[self._left[name].pop()]


def _with_article(article: str, word: str) -> str:
    if article == "the":
        return f"the {word}"
    low = word.lower()
    vowel = low[0] in "aeiou" and not low.startswith(_SOUNDS_LIKE_U)
    an = vowel or low.startswith(("honest", "hour", "f***"))
    return f"{article}{'n' if an else ''} {word}"


def fill(template: str, toxic: bool, draw: Callable[[str], Word]) -> Pieces:
    """Put words into a template and split it at its marks.

    Parameters
    ----------
    template : str
        Text with slots ``{name}``, ``{a name}``, ``{name.s}`` (plural), ``{Name}`` (capital) and
        ``{name2}`` (another word of the list), and with the toxic part in double brackets.
    toxic : bool
        Whether a text without brackets is toxic as a whole.
    draw : callable
        Gives the word of a slot.

    Returns
    -------
    Pieces
        The filled text.
    """
    drawn: dict[str, Word] = {}

    def word(match: re.Match[str]) -> str:
        article, name, digit, plural = match.groups()
        key = name.lower() + digit
        if key not in drawn:
            drawn[key] = draw(name.lower())
        value = drawn[key].many if plural else drawn[key].one
        if name[0].isupper():
            value = value[0].upper() + value[1:]
        return _with_article(article, value) if article else value

    return split(_SLOT.sub(word, template), toxic)


def split(text: str, toxic: bool) -> Pieces:
    """Split a text at its marks; without marks it is toxic as a whole, or not at all."""
    parts = re.split(r"\[\[|\]\]", text)
    if len(parts) == 1:
        return [(text, toxic)]
    return [(part, bool(index % 2)) for index, part in enumerate(parts) if part]


def has_slots(template: str) -> bool:
    """Tell whether a template has words to fill in."""
    return bool(_SLOT.search(template))


def _each(pieces: Pieces, change: Callable[[str], str]) -> Pieces:
    return [(change(text), toxic) for text, toxic in pieces]


def _plain(text: str) -> str:
    return re.sub(r"[.,!?;:'\"]", "", text.lower())


def _misspelt(text: str, seed: int) -> str:
    words = list(re.finditer(r"[A-Za-z]{5,}", text))
    if not words:
        return text
    word = words[seed % len(words)]
    at = word.start() + 1 + seed // 7 % (len(word.group()) - 3)
    middle = text[at + 1] + text[at] if seed % 2 else text[at]
    return text[:at] + middle + text[at + 2 :]


def _drawn_out(text: str, seed: int) -> str:
    words = list(re.finditer(r"\b[A-Za-z]*[aeiouyr]\b", text))
    if not words:
        return text
    end = words[seed % len(words)].end()
    return text[:end] + text[end - 1] * (2 + seed % 3) + text[end:]


def restyled(pieces: Pieces, *key: object) -> Pieces:
    """Give a text one of several registers: nearly half stay as they are.

    Parameters
    ----------
    pieces : Pieces
        The text.
    *key : object
        What the choice is hashed from.

    Returns
    -------
    Pieces
        The same text in lower case, shouted, without punctuation, misspelt, as a tweet.
    """
    seed = number(*key)
    kind, seed = seed % 100, seed // 100
    if kind < 44:
        return pieces
    if kind < 58:
        return _each(pieces, str.lower)
    if kind < 70:
        return _each(pieces, _plain)
    if kind < 76:
        return _each(pieces, str.upper)
    if kind < 83:
        return _each(pieces, lambda text: _misspelt(text, seed))
    if kind < 86:
        return _each(_each(pieces, _plain), lambda text: _drawn_out(text, seed))
    if kind < 92:
        return [("@user " * (1 + seed % 2), False), *pieces]
    if kind < 96:
        return [*_each(pieces, str.lower), (" " + _TAGS[seed % len(_TAGS)], False)]
    return [*_each(pieces, lambda text: text.rstrip(".")), (_ENDS[seed % len(_ENDS)], False)]


def spans(pieces: Pieces) -> list[list[int]]:
    """Say where the toxic pieces lie in the joined text, in code points.

    Parameters
    ----------
    pieces : Pieces
        The text.

    Returns
    -------
    list of [int, int]
        Begin and end of each, without white space around it or full stops after it.
    """
    found: list[list[int]] = []
    at = 0
    for text, toxic in pieces:
        begin = at + len(text) - len(text.lstrip())
        end = at + len(text.rstrip(". \n"))
        if toxic and begin < end:
            found.append([begin, end])
        at += len(text)
    return found
