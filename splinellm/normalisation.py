"""Texts as classifiers should read them: without what hides words from them.

Features are always those of the text as it is. A classifier may have been trained on normalised
texts, and is then given such: an insult is the same with invisible characters, letters of other
alphabets, stretched or spaced letters in it. Ordinary texts, and texts in other scripts, stay as
they are; where it is not certain that something is a disguise, it stays, too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.entities import html5

from splinellm.errors import ConfigurationError
from splinellm.lookalikes import (
    BLANK,
    EMOJI,
    EMOJI_STYLE,
    FLAG,
    FLAG_TAGS,
    INVISIBLE_RUN,
    JOINING,
    KEYCAP,
    LINE_ENDS,
    MONGOLIAN,
    MONGOLIAN_SELECTORS,
    OVERLAYS,
    ZWJ,
    ZWNJ,
    lookalike,
    styled_letter,
)
from splinellm.spelling import hidden_words

VERSION = "2"
"""Of what :func:`normalise` does; a classifier is only given what it was trained on."""

MAX_ROUNDS = 8
"""Disguises inside disguises that are seen through."""

MAX_ACRONYM = 5
"""Letters of capitals that may spell no word, such as IEEE and U.S.S.R."""

_LETTER = r"[^\W\d_]"
_WORD = re.compile(f"{_LETTER}+")
_MARKS = re.compile(f"(?<=[A-Za-z])[\u0300-\u036f{OVERLAYS}]+")
_LATIN = re.compile("[A-Za-z\xc0-\u024f\u1e00-\u1eff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_ENTITY = re.compile(r"&(?:amp;)*(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SPACED = re.compile(
    rf"(?<![\w'’]){_LETTER}( {{1,3}}|\t| ?[.\-_*~·•] ?){_LETTER}(?:\1{_LETTER})+(?![\w'’])"  # noqa: RUF001
)
MIN_SPACED = 4
"""Letters that surely spell a word; three may where others do."""

_STRETCHED = re.compile(rf"({_LETTER})\1{{2,}}", re.IGNORECASE)
_ROMAN = re.compile("[IVXLCDM]+")
_HEX = re.compile("x?[a-fA-F]+")
_TOKEN = re.compile(r"[A-Za-z0-9@$]+")
_LEET_WORD = re.compile("[A-Za-z]+(?:[04@$]{1,2}[A-Za-z]+)+")
_LEET = str.maketrans("04@$", "oaas")
_SUSPECT = re.compile(
    r"&|[\x00-\x08\x0e-\x1f\x7f]|([A-Za-z])\1\1|[A-Za-z][04@$]{1,2}[A-Za-z]"
    r"|(?<!\w)[A-Za-z]([ \t.\-_*~]{1,3})[A-Za-z]\2[A-Za-z]\2",
    re.IGNORECASE,
)
"""ASCII texts without any of these are what they were."""

Edit = tuple[int, int, str]
"""Begin and end of what is replaced, and by what."""

Step = Callable[[str], list[Edit]]


@dataclass(frozen=True)
class NormalisedText:
    """A text without its disguises, and where in the original each character is.

    Parameters
    ----------
    text : str
        T characters; empty only if the original was.
    begins, ends : sequence of int
        Of each, in code points of the original, T of them.
    """

    text: str
    begins: Sequence[int]
    ends: Sequence[int]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Begin and end of each character in the original, ascending."""
        return list(zip(self.begins, self.ends, strict=True))

    def original_span(self, begin: int, end: int) -> tuple[int, int]:
        """Where a part of the text is in the original, with what was removed inside it."""
        if begin >= end:
            at = self.begins[begin] if begin < len(self.text) else (self.ends or [0])[-1]
            return at, at
        return self.begins[begin], self.ends[end - 1]


def normalise(text: str, version: str = VERSION) -> NormalisedText:
    """Take the disguises off a text.

    Invisible characters go (joiners stay inside emoji and where a script spells with them), styled
    letters and single letters of other alphabets inside Latin words become ASCII, HTML entities the
    characters they stand for, ``i d i o t`` one word, ``4``, ``0``, ``@`` and ``$`` inside words
    the letters they stand for, and more than two equal letters two. Version 2 knows words: it reads
    ``1d10t``, ``sh!t`` and ``iiddiioott`` where what is written is no word and what is read is one
    (:mod:`splinellm.spelling`), and leaves one blank around words whose letters were spaced.

    Takes time in proportion to the text. Normalising twice is normalising once, and no text becomes
    empty: of one that is all disguise, the original is what there is.

    Parameters
    ----------
    text : str
        Any text.
    version : {"1", "2"}
        As a classifier's card says; the newest by default.

    Raises
    ------
    ConfigurationError
        The version is unknown.

    Examples
    --------
    >>> normalise("i.d.i.o.t").text
    'idiot'
    """
    require_known(version)
    steps = _STEPS[version]
    original = NormalisedText(text, range(len(text)), range(1, len(text) + 1))
    if text.isascii() and not _SUSPECT.search(text) and not steps[-1](text):
        return original
    current, is_stable = _rounds(original, steps)
    if not is_stable:  # nested on purpose: without ampersands nothing can be
        bare = current.text.replace("&", " ")
        current, _ = _rounds(NormalisedText(bare, current.begins, current.ends), steps)
    return current if current.text else original


def normalised(text: str, version: str | None) -> str:
    """Give a text as a classifier reads it; `version` is what its card says, None for as it is."""
    return text if version is None else normalise(text, version).text


def require_known(version: str | None) -> None:
    """Refuse a normalisation that is not this library's.

    Raises
    ------
    ConfigurationError
        The version is unknown.
    """
    if version is not None and version not in _STEPS:
        raise ConfigurationError(
            f"texts normalised by version {str(version)[:40]!r} are unknown",
            hint=f"this library's version is '{VERSION}'",
        )


def _rounds(current: NormalisedText, steps: Sequence[Step]) -> tuple[NormalisedText, bool]:
    """Repeat until nothing changes: an entity may spell a zero-width space inside an insult."""
    for _ in range(MAX_ROUNDS):
        before = current.text
        for find in steps:
            current = _edited(current, find(current.text))
        if current.text == before:
            return current, True
    return current, False


def _edited(current: NormalisedText, edits: Iterable[Edit]) -> NormalisedText:
    """Replace parts of a text, ascending; a replacement is where what it replaces was."""
    parts: list[str] = []
    begins: list[int] = []
    ends: list[int] = []
    done = 0
    for begin, end, new in edits:
        parts += (current.text[done:begin], new)
        begins += current.begins[done:begin]
        ends += current.ends[done:begin]
        if len(new) == end - begin:
            begins += current.begins[begin:end]
            ends += current.ends[begin:end]
        else:
            begins += [current.begins[begin]] * len(new)
            ends += [current.ends[end - 1]] * len(new)
        done = end
    if not done:
        return current
    parts.append(current.text[done:])
    begins += current.begins[done:]
    ends += current.ends[done:]
    return NormalisedText("".join(parts), begins, ends)


def _entities(text: str) -> list[Edit]:
    return [
        (match.start(), match.end(), html.unescape(f"&{match[1]};"))
        for match in (_ENTITY.finditer(text) if "&" in text else ())
        if match[1].startswith("#") or f"{match[1]};" in html5
    ]


def _invisible(text: str) -> list[Edit]:
    edits = []
    for match in INVISIBLE_RUN.finditer(text):
        begin, end = match.span()
        before = text[begin - 1] if begin else ""
        after = text[end] if end < len(text) else ""
        if (kept := _kept(before, match[0], after)) != match[0]:
            edits.append((begin, end, kept))
    return edits


def _kept(before: str, run: str, after: str) -> str:
    """What of a run of invisible characters belongs to what is around it."""
    if before == FLAG and (tags := FLAG_TAGS.match(run)):
        return tags[0]
    if EMOJI.match(before):
        joiner = run.find(ZWJ) if EMOJI.match(after) else -1
        style = run.find(EMOJI_STYLE, 0, None if joiner < 0 else joiner)
        return EMOJI_STYLE * (style >= 0) + ZWJ * (joiner >= 0)
    if after == KEYCAP and before and before in "0123456789#*":
        return EMOJI_STYLE * (EMOJI_STYLE in run)
    if MONGOLIAN.match(before) and (chosen := [c for c in run if c in MONGOLIAN_SELECTORS]):
        return chosen[0]
    if JOINING.match(before) and JOINING.match(after):
        return next((c for c in run if c in (ZWNJ, ZWJ)), "")
    return ""


def _styles(text: str) -> list[Edit]:
    """Styled letters, foreign blanks, and strokes and heaps of marks on Latin letters."""
    if text.isascii():
        return []
    edits = []
    for match in _NOT_ASCII.finditer(text):
        if BLANK.match(match[0]):
            edits.append((*match.span(), "\n" if match[0] in LINE_ENDS else " "))
        elif (letter := styled_letter(match[0])) is not None:
            edits.append((*match.span(), letter))
    for match in _MARKS.finditer(text):
        kept = "".join(mark for mark in match[0] if mark not in OVERLAYS)[:2]
        if kept != match[0]:
            edits.append((*match.span(), kept))
    return sorted(edits)


def _words(text: str) -> list[Edit]:
    """Words that mix Latin letters with lookalikes, or are made of lookalikes alone.

    The latter only where the text has Latin letters, and none of the other script that would show
    that it is at home here.
    """
    if text.isascii():
        return []
    foreign = {c: found for c in set(text) if (found := lookalike(c)) is not None}
    if not foreign:
        return []
    at_home = {script for script, letter in foreign.values() if not letter}
    has_latin = re.search("[A-Za-z]", text) is not None
    edits = []
    for match in _WORD.finditer(text):
        others = [c for c in match[0] if c in foreign]
        if not others or not all(foreign[c][1] for c in others):
            continue
        is_mixed = any(c.isascii() for c in match[0])
        is_alone = len(match[0]) == len(others) > 1 and has_latin
        if is_mixed or (is_alone and not at_home & {foreign[c][0] for c in others}):
            new = "".join(foreign[c][1] if c in foreign else c for c in match[0])
            edits.append((*match.span(), new))
    return edits


def _spaced(text: str) -> list[Edit]:
    words = [word for word in _spelt(text) if _n_letters(*word) >= MIN_SPACED]
    return [edit for word in words for edit in _joined(*word)]


def _spaced_apart(text: str) -> list[Edit]:
    """The same, and one blank around such words: they are further apart than their letters."""
    edits: list[Edit] = []
    done = 0
    words = list(_spelt(text))
    if all(_n_letters(*word) < MIN_SPACED for word in words):
        return []
    for begin, end, step in words:
        before = len(text[done:begin].rstrip(" \t")) + done
        after = len(text) - len(text[end:].lstrip(" \t"))
        if begin - before > 1:
            edits.append((before, begin, " " if before else ""))
        edits += _joined(begin, end, step)
        if after - end > 1:
            edits.append((end, after, " " if after < len(text) else ""))
        done = after
    return edits


def _spelt(text: str) -> Iterator[tuple[int, int, int]]:
    """Words whose letters stand apart: begin, end, and characters from one letter to the next."""
    for match in _SPACED.finditer(text):
        separator = match[1]
        step = 1 + len(separator)
        letters = match[0][::step]
        # Scripts without case write words of one letter; U.S.S.R. is no word.
        if not _LATIN.search(letters) or not all(c.lower() != c.upper() for c in letters):
            continue
        if separator.strip() and letters.isupper() and len(letters) < MAX_ACRONYM:
            continue
        yield *match.span(), step


def _n_letters(begin: int, end: int, step: int) -> int:
    return (end - begin + step - 1) // step


def _joined(begin: int, end: int, step: int) -> list[Edit]:
    return [(at + 1, at + step, "") for at in range(begin, end - 1, step)]


def _leet(text: str) -> list[Edit]:
    return [
        (*match.span(), match[0].translate(_LEET))
        for match in _TOKEN.finditer(text)
        if _LEET_WORD.fullmatch(match[0]) and _is_leet(text, *match.span())
    ]


def _is_leet(text: str, begin: int, end: int) -> bool:
    token = text[begin:end]
    n_letters = sum(map(str.isalpha, token))
    if n_letters < 3 or n_letters <= len(token) - n_letters:
        return False
    if re.search("4[A-Za-z]$", token):  # log4j
        return False
    if "@" not in token and "$" not in token:
        return True
    # An address, or a name of two parts, as in user@host and Outer$Inner.
    before, after = re.split("[@$]", token, maxsplit=1)[0], re.split("[@$]", token)[-1]
    is_part = text[begin - 1 : begin] in (".", "-", "_", "+", "/") or re.match(
        r"\.\w", text[end : end + 2]
    )
    return not is_part and min(len(before), len(after)) <= 2


def _stretched(text: str) -> list[Edit]:
    if not _STRETCHED.search(text):
        return []
    edits = []
    for word in _WORD.finditer(text):
        if _is_spelt_so(text, word):
            continue
        edits += [
            (word.start() + run.start() + 2, word.start() + run.end(), "")
            for run in _STRETCHED.finditer(word[0])
            if _LATIN.match(run[1])
        ]
    return edits


def _is_spelt_so(text: str, word: re.Match[str]) -> bool:
    """Whether a word is none: an acronym, a number, a colour, the beginning of an address."""
    before = text[word.start() - 1 : word.start()]
    if word[0].isupper() and (len(word[0]) <= MAX_ACRONYM or _ROMAN.fullmatch(word[0])):
        return True
    if word[0].lower() == "www":
        return text[word.end() : word.end() + 1] == "."
    return (before == "#" or before.isdigit()) and _HEX.fullmatch(word[0]) is not None


_STEPS: dict[str, tuple[Step, ...]] = {
    "1": (_entities, _invisible, _styles, _words, _spaced, _leet, _stretched),
    "2": (_entities, _invisible, _styles, _words, _spaced_apart, _stretched, hidden_words),
}
