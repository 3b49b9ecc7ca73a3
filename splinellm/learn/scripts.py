"""Words and marks of a text, which are about its tokens, and where it can be cut or opened.

Chinese, Japanese, Thai and some other scripts have no spaces between words: what looks like one
word is a sentence or more. Where words begin there only a dictionary tells; every character counts
as a word then, as tokenizers have a token or two for each. None is parted from its vowel signs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_IDEOGRAPHIC = (
    "\u3041-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufad9\uff66-\uff9f"  # Han, Yi
    "\U0001aff0-\U0001b167\U00020000-\U000323af"
)
_UNSPACED = (
    f"{_IDEOGRAPHIC}"
    "\u0e01-\u0e5b\u0e81-\u0edf\u0f00-\u0fda\u1000-\u109f\u1780-\u17f9"  # Thai to Khmer
    "\u1950-\u19df\u19e0-\u19ff\u1a20-\u1aad\u1b00-\u1b7e"  # Tai, Balinese
    "\ua980-\ua9df\ua9e0-\ua9fe\uaa00-\uaa5f\uaa60-\uaa7f"  # Javanese, Cham, Myanmar
)
_CLOSES = "\u0e33\u0eb3"  # which belong to the letter before them, though they are letters
_SIGNS = re.compile(rf"(?:(?!\w)[{_UNSPACED}]|[{_CLOSES}])*")
_BESIDE = re.compile(f"[{_IDEOGRAPHIC}\u3000-\u303f\uff01-\uff65]")


@dataclass(frozen=True)
class Pieces:
    """How texts are counted, and where others can be put into them.

    Parameters
    ----------
    piece : Pattern
        A word or a mark.
    sentence_end : Pattern
        What is between sentences.
    gap : Pattern
        What is between words.
    spaces : bool
        Whether there is a space between any two texts.
    """

    piece: re.Pattern[str]
    sentence_end: re.Pattern[str]
    gap: re.Pattern[str]
    spaces: bool = True

    def count(self, text: str) -> int:
        """How many words and marks a text has: about its tokens, of whichever model."""
        return sum(1 for _ in self.piece.finditer(text))

    def ends(self, text: str) -> list[int]:
        """Where the text can be cut after each of them."""
        return [self._behind_signs(text, match.end()) for match in self.piece.finditer(text)]

    def middle(self, text: str) -> int:
        """A place near the middle: between sentences if there is such one, else between words."""
        middle, near = len(text) // 2, len(text) // 5
        ends = [match.end() for match in self.sentence_end.finditer(text)]
        gaps = [end for end in ends if abs(end - middle) < near]
        gaps = gaps or [match.end() for match in self.gap.finditer(text)]
        gaps = gaps or [self._behind_signs(text, middle)]
        return min(gaps, key=lambda gap: abs(gap - middle))

    def _behind_signs(self, text: str, place: int) -> int:
        """A place, or the next one where no letter is parted from its signs."""
        signs = None if self.spaces else _SIGNS.match(text, place)
        return place if signs is None else signs.end()

    def between(self, left: str, right: str) -> str:
        """What stands between two texts that follow each other."""
        ends = left[-1:], right[:1]
        return "" if not self.spaces and all(map(_BESIDE.match, ends)) else " "


WORDS = Pieces(re.compile(r"\w+|[^\w\s]"), re.compile(r"(?<=[.!?])\s+"), re.compile(r"\s+"))
"""Of scripts that have spaces between words."""

OF_ANY_SCRIPT = Pieces(
    re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]"),
    re.compile(rf"{WORDS.sentence_end.pattern}|(?<=[。！？｡។။།])[。！？」』）]*\s*"),  # noqa: RUF001
    re.compile(rf"{WORDS.gap.pattern}|(?<=[{_UNSPACED}])(?=\w)(?![{_CLOSES}])"),
    spaces=False,
)
"""Of a text without characters of scripts that have none, the same as :data:`WORDS`."""
