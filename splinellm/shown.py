"""Text that somebody else wrote, as it can be shown: nothing in it acts on what is around it."""

from __future__ import annotations

import re
import unicodedata

_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ACTING = re.compile(f"[\x00-\x1f\x7f-\x9f{_TURNS}\ud800-\udfff\ufffe\uffff\u2028\u2029]")
_NAMED = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
_PICTURES = 0x2400


def shown(text: object, limit: int | None = None) -> str:
    r"""Make of a text one line in which every character is seen, or at least does nothing.

    Line breaks and tabs become ⏎ and ⇥, other control characters their pictures, such as ␀; marks
    that turn the direction of what follows are spelled, as ``\u202e``; what is no character is �.

    Parameters
    ----------
    text : object
        Its ``str`` is shown.
    limit : int, optional
        Characters; what is behind them is told by its number.
    """
    whole = str(text)
    kept = whole if limit is None or len(whole) <= limit else whole[:limit]
    found = _ACTING.sub(lambda match: _picture(match[0]), kept)
    if len(kept) < len(whole):
        found += f" … ({len(whole):,} characters)"
    return found


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(unicodedata.combining(one) != 0 for one in text)


def _picture(one: str) -> str:
    if one in _NAMED:
        return _NAMED[one]
    code = ord(one)
    if code < 0x20:
        return chr(_PICTURES + code)
    if code == 0x7F:
        return "␡"
    if 0xD800 <= code <= 0xDFFF or code >= 0xFFFE:
        return "\ufffd"
    return f"\\u{code:04x}"
