"""Characters that look like ASCII letters, and characters that do not look like anything.

Facts of Unicode, for :mod:`splinellm.normalisation`. Unicode's own table of confusables answers
another question (may two identifiers be mixed up?): it takes 1, l and I for one, and rn for m.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_INVISIBLE = (
    "\\x00-\\x08\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\xad"  # controls but white space; soft hyphen
    "\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # joiner, Arabic mark, Hangul and Khmer
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, direction, invisible operators
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"  # fillers, variation selectors, byte order mark
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # format, tags, selectors
)
INVISIBLE_RUN = re.compile(f"[{_INVISIBLE}]+")
"""Characters without a glyph."""

BLANK = re.compile("[\\x85\\xa0\u2000-\u200a\u2028\u2029\u202f\u205f\u2800]")
"""White space that is not ASCII's, but for scripts that have a space of their own."""
LINE_ENDS = "\x85\u2028\u2029"

EMOJI = re.compile(
    "[\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f"
    "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
"""Characters that sequences with joiners and variation selectors are made of, generously."""
FLAG = "\U0001f3f4"
FLAG_TAGS = re.compile("[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f")
"""Of England, Scotland, Wales: a black flag and a few letters."""

JOINING = re.compile("[\u0600-\u0dff\u0f00-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefe]")
"""Scripts in which a (non-)joiner between two letters is spelling: Arabic, Indic, Khmer, ..."""
MONGOLIAN = re.compile("[\u1820-\u18af]")

ZWNJ, ZWJ, EMOJI_STYLE, KEYCAP = "\u200c", "\u200d", "\ufe0f", "\u20e3"
MONGOLIAN_SELECTORS = "\u180b\u180c\u180d\u180f"

OVERLAYS = "\u0305\u0332\u0333\u033f"
OVERLAYS += "\u0334\u0335\u0336\u0337\u0338\u20d2\u20d3\u20d8\u20d9\u20da\u20e5\u20e6\u20eb"
"""Strokes through a letter, over and under it; no letter of a language is spelt with one."""


def _paired(others: str, ascii_letters: str) -> dict[str, str]:
    return dict(zip(others, ascii_letters, strict=True))


SCRIPTS: dict[str, tuple[re.Pattern[str], dict[str, str]]] = {
    "Cyrillic": (
        re.compile("[\u0400-\u0481\u048a-\u052f\u1c80-\u1c8f\ua640-\ua66d\ua680-\ua69d]"),
        _paired(
            "аеорсухкіјѕԁԛԝһӏ" + "АВЕКМНОРСТУХІЈЅԚԜҮ",
            "aeopcyxkijsdqwhl" + "ABEKMHOPCTYXIJSQWY",
        ),
    ),
    "Greek": (
        re.compile("[\u0370-\u0373\u0376-\u037d\u037f-\u03ff\u1f00-\u1fff]"),
        _paired(
            "αεηικνορυχωγϲϳ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",  # noqa: RUF001
            "aenikvopuxwycj" + "ABEZHIKMNOPTYX",
        ),
    ),
    "Armenian": (re.compile("[\u0531-\u0588]"), _paired("օոսհցյ", "onuhgj")),
    "Cherokee": (
        re.compile("[\u13a0-\u13fd\uab70-\uabbf]"),
        _paired("ᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ", "ABCDEGHiJKLMPRSTVWZ"),  # noqa: RUF001
    ),
}
"""Letters of each script, and those of them that look like a Latin one."""

_SMALL_CAPITALS = _paired(
    "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡɩ",
    "abcdefghijklmnoprstuvwyzagi",
)
_STYLES = ("<font>", "<wide>", "<narrow>", "<circle>", "<square>", "<super>", "<sub>", "<compat>")
_ORDINALS = "ªº"


@cache
def styled_letter(character: str) -> str | None:
    """ASCII letters or digit that a character is a mere style of; None of most.

    Mathematical, fullwidth, circled, squared, raised and small capital letters, and ligatures.
    """
    if character in _SMALL_CAPITALS:
        return _SMALL_CAPITALS[character]
    code = ord(character)
    for first in (0x1F150, 0x1F170):  # white on black, which have no decomposition
        if first <= code < first + 26:
            return chr(ord("A") + code - first)
    if character in _ORDINALS:
        return None
    plain = unicodedata.normalize("NFKC", character)
    style = unicodedata.decomposition(character).split(" ")[0]
    if plain.isascii() and plain.isdigit() and style in ("<font>", "<wide>"):
        return plain
    letters = plain.strip("()")
    is_symbol = not unicodedata.category(character).startswith("L")
    if not (letters.isascii() and letters.isalpha()) or (is_symbol and len(letters) > 1):
        return None
    return letters if style in _STYLES or not style.startswith("<") else None


@cache
def lookalike(character: str) -> tuple[str, str] | None:
    """Script of a letter, and the ASCII letter it looks like, or "" if like none.

    None of letters of scripts that have no lookalikes here. Accents do not disguise a letter.
    """
    for script, (letters, table) in SCRIPTS.items():
        if letters.match(character):
            base = unicodedata.normalize("NFD", character)[0]
            return script, table.get(character, table.get(base, ""))
    return None
