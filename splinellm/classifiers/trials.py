"""Texts that try a classifier: short insults in long clean texts, disguises, harmless ornaments.

Everything is made from the texts that are given and from their content alone, so that two runs, and
two classifiers, read the same.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from splinellm.errors import ConfigurationError
from splinellm.learn.composing import PLACES, SHORT, filler_of, n_pieces, put_into

LENGTHS = (200, 400, 700, 1000)
"""Words and marks of the clean texts that a short one is put into."""

SHARE = 0.5
"""Of the letters of a word that a disguise changes, where it can; at least one."""

KEPT_ASIDE = "sha256 of a text's words, modulo 10, is 0"
"""What :func:`kept_aside` does, for cards."""

_WORD = re.compile("[A-Za-z]{3,}")


def kept_aside(texts: Sequence[str]) -> np.ndarray:
    """Choose about a tenth of texts by what they say, shape (N,), bool.

    A text is chosen or not wherever it turns up: what is kept aside in one program is kept aside in
    all that ask here, and copies that differ in case and marks are on one side.
    """
    return np.array([_digest(text) % 10 == 0 for text in texts], np.bool_)


def _digest(text: str) -> int:
    words = " ".join(re.findall(r"\w+", text.casefold()))
    return int.from_bytes(hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:8])


@dataclass(frozen=True)
class LongText:
    """A long text that is clean, or all clean but for one place.

    Parameters
    ----------
    text : str
        To be judged.
    length : int
        Words and marks of the clean part.
    place : {"start", "middle", "end"} or None
        Of the short text; None: there is none.
    origin : str
        Where the clean part is from.
    """

    text: str
    length: int
    place: str | None
    origin: str = ""


def long_texts(
    short: Sequence[str],
    clean: Mapping[str, Sequence[str]],
    *,
    n: int = 50,
    lengths: Sequence[int] = LENGTHS,
    seed: int = 0,
) -> list[LongText]:
    """Put short texts into long clean ones.

    Parameters
    ----------
    short : sequence of str
        What is to be found; those of :data:`SHORT` words and marks or more are left out.
    clean : mapping of str to sequence of str
        Clean texts by where they come from: each long one is made of one origin.
    n : int
        Long clean texts of each length. Each is there four times: as it is, and with a short text
        at its start, in its middle and at its end.
    lengths : sequence of int
        Words and marks of the clean texts.
    seed : int
        Of the choices.

    Raises
    ------
    ConfigurationError
        There is nothing to make them of.
    """
    found = [text.strip() for text in short if 0 < n_pieces(text) < SHORT]
    origins = {name: [t for t in texts if n_pieces(t)] for name, texts in clean.items()}
    origins = {name: texts for name, texts in origins.items() if texts}
    if not found or not origins:
        raise ConfigurationError(
            f"long texts need short texts of fewer than {SHORT} words and marks, and clean ones"
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(found))
    made: list[LongText] = []
    names = sorted(origins)
    for number in range(n * len(lengths)):
        length = lengths[number % len(lengths)]
        origin = names[number // len(lengths) % len(names)]
        texts = origins[origin]
        filler = filler_of(texts, length, random)
        insult = found[order[number % len(order)]]
        made.append(LongText(filler, length, None, origin))
        made += [
            LongText(put_into(filler, insult, place), length, place, origin) for place in PLACES
        ]
    return made


_HOMOGLYPHS = str.maketrans(
    "aceiopsxyABCEHIKMOPTX",
    "\u0430\u0441\u0435\u0456\u043e\u0440\u0455\u0445\u0443"
    "\u0410\u0412\u0421\u0415\u041d\u0406\u041a\u041c\u041e\u0420\u0422\u0425",
)
_LEET = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7"}


def _some(word: str, can: Callable[[str], bool], random: np.random.Generator) -> set[int]:
    """Places in a word that are changed: a share of those that can be, at least one."""
    places = [i for i, letter in enumerate(word) if can(letter)]
    count = max(1, round(len(places) * SHARE)) if places else 0
    return set(random.permutation(places)[:count].astype(int).tolist()) if count else set()


def _zero_width(word: str, random: np.random.Generator) -> str:
    chosen = _some(word[:-1], str.isalpha, random)  # inside the word, not after it
    return "".join(c + "\u200b" * (i in chosen) for i, c in enumerate(word))


def _homoglyph(word: str, random: np.random.Generator) -> str:
    chosen = _some(word, lambda c: c.translate(_HOMOGLYPHS) != c, random)
    return "".join(c.translate(_HOMOGLYPHS) if i in chosen else c for i, c in enumerate(word))


def _leetspeak(word: str, random: np.random.Generator) -> str:
    chosen = _some(word, lambda c: c.lower() in _LEET, random)
    return "".join(
        str(random.choice(list(_LEET[c.lower()]))) if i in chosen else c for i, c in enumerate(word)
    )


def _spaced(word: str, random: np.random.Generator) -> str:
    del random
    return f" {' '.join(word)} "  # words remain further apart than their letters


def _doubled(word: str, random: np.random.Generator) -> str:
    chosen = _some(word, str.isalpha, random)
    return "".join(c + c * (i in chosen) for i, c in enumerate(word))


def _entities(word: str, random: np.random.Generator) -> str:
    chosen = _some(word, str.isalpha, random)
    return "".join(f"&#{ord(c)};" if i in chosen else c for i, c in enumerate(word))


_DISGUISES: dict[str, Callable[[str, np.random.Generator], str]] = {
    "zero-width": _zero_width,
    "homoglyph": _homoglyph,
    "leetspeak": _leetspeak,
    "spaced letters": _spaced,
    "doubled letters": _doubled,
    "HTML entities": _entities,
}
DISGUISES = tuple(_DISGUISES)


def disguised(texts: Sequence[str], disguise: str) -> list[str]:
    """Disguise every word of three Latin letters or more; half of its letters, where it can.

    Parameters
    ----------
    texts : sequence of str
        Any.
    disguise : str
        One of :data:`DISGUISES`.

    Raises
    ------
    ConfigurationError
        There is no such disguise.
    """
    if disguise not in _DISGUISES:
        raise ConfigurationError(
            f"unknown disguise '{disguise[:40]}'", hint=f"use {', '.join(DISGUISES)}"
        )
    change = _DISGUISES[disguise]
    return [_changed(text, change, random) for text, random in _with_random(texts)]


def _changed(
    text: str, change: Callable[[str, np.random.Generator], str], random: np.random.Generator
) -> str:
    return _WORD.sub(lambda match: change(match[0], random), text).strip()


def _with_random(texts: Sequence[str]) -> Iterator[tuple[str, np.random.Generator]]:
    """Each with a generator of its own, so that its neighbours do not matter."""
    for text in texts:
        yield text, np.random.default_rng(zlib.crc32(text.encode("utf-8", "surrogatepass")))


@cache
def _clean_lists() -> dict[str, list[str]]:
    path = Path(__file__).with_name("clean_texts.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def clean_trials(texts: Sequence[str]) -> dict[str, list[str]]:
    """Harmless texts of the kinds that raise false alarms.

    Parameters
    ----------
    texts : sequence of str
        Clean ones.

    Returns
    -------
    dict of str to list of str
        ``plain``, these texts; ``emoji`` and ``URLs``, the same with some in the middle and at the
        end; ``other scripts`` and ``code``, texts of this module.
    """
    lists = _clean_lists()
    return {
        "plain": list(texts),
        "emoji": [_adorned(text, lists["emoji"], "", r) for text, r in _with_random(texts)],
        "URLs": [_adorned(text, lists["urls"], " ", r) for text, r in _with_random(texts)],
        "other scripts": lists["scripts"],
        "code": lists["code"],
    }


def _adorned(text: str, ornaments: Sequence[str], between: str, random: np.random.Generator) -> str:
    first, *last = (ornaments[i] for i in random.integers(len(ornaments), size=3))
    words = text.split(" ")
    middle = len(words) // 2
    return " ".join([*words[:middle], first, *words[middle:], between.join(last)])
