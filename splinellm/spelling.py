"""Words that signs, digits or doubled letters hide: ``1d10t``, ``sh!t`` and ``iiddiioott``.

A word is only taken for another where it is none itself and the other is: what counts as a word is
a list, counted in texts of many kinds (see :mod:`splinellm.classifiers.known_words`).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import product

MIN_LETTERS = 3
"""Of a word that is looked for behind another."""

MAX_LETTERS = 24
MAX_CHOICES = 64
"""Ways to read a word that are tried."""

COMMON = 15_000
"""Rank of a word from which on it is too rare to be what another with a letter more was to be."""

COMMONEST = 4_000
"""The same for what has four letters or fewer, which are near to many words."""

_MEANS = {
    "0": "o",
    "1": "il",
    "3": "e",
    "4": "a",
    "5": "s",
    "7": "t",
    "8": "b",
    "9": "g",
    "@": "a",
    "$": "s",
    "!": "i",
}
_TOKEN = re.compile(r"[A-Za-z0-9@$]+(?:![A-Za-z0-9@$]+)*")
_LETTERS = re.compile(r"[A-Za-z]")
_SIGN = re.compile(r"[0134578@$9!]")
_DOUBLED = re.compile(r"([a-z])\1", re.IGNORECASE)
_NUMBER_OF = re.compile(
    r"[0-9]+[A-Za-z]{1,3}|[A-Za-z]+[0-9]+|\$?[0-9]+e?[0-9]+[A-Za-z]{0,3}|[A-Z]{1,3}\$"
)
_NAME = re.compile("@[A-Z]")
_BEFORE = "./\\_=&#%@$-"
_AFTER = "/\\_=&%@"

Found = tuple[int, int, str]
"""Begin and end of what is replaced, and the letter that stands there then."""


@cache
def known_words() -> dict[str, int]:
    """Words, lower case, with their rank: 0 for the commonest."""
    data = files("splinellm").joinpath("known_words.txt.gz").read_bytes()
    return {word: rank for rank, word in enumerate(gzip.decompress(data).decode().split())}


def hidden_words(text: str) -> list[Found]:
    """Find characters of a text that hide words, and what these would have there.

    Numbers with a unit (``50ft``) and words with a number (``item5``) are only read as words where
    whatever else in the text has signs in it is one. Parts of addresses and paths stay.

    Parameters
    ----------
    text : str
        Any.
    """
    found: list[Found] = []
    doubtful: list[tuple[int, str]] = []
    n_read = n_unread = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        has_sign = _SIGN.search(token) is not None
        if not (has_sign or _DOUBLED.search(token)) or not _LETTERS.search(token):
            continue
        if token.lower() in known_words() or (has_sign and _is_part(text, *match.span())):
            continue
        if _NAME.match(token):
            continue
        if has_sign and (len(token) < MIN_LETTERS or _NUMBER_OF.fullmatch(token)):
            doubtful.append((match.start(), token))
        else:
            edits = _edits(match.start(), token, MIN_LETTERS)
            found += edits
            n_read += has_sign and bool(edits)
            n_unread += has_sign and not edits
    if n_read and not n_unread and doubtful:
        found += [edit for begin, token in doubtful for edit in _edits(begin, token, 1)]
        found.sort()
    return found


def _is_part(text: str, begin: int, end: int) -> bool:
    after = text[end : end + 2]
    return (
        text[begin - 1 : begin] in tuple(_BEFORE)
        or after[:1] in tuple(_AFTER)
        or re.fullmatch(r"\.\w", after) is not None
    )


def _edits(begin: int, token: str, min_letters: int) -> list[Found]:
    read = _word_behind(token.lower(), min_letters)
    if read is None:
        return []
    found: list[Found] = []
    at = 0
    while at < len(read):
        after = at + 1
        while after < len(read) and not read[after]:  # one letter is where the pair of it was
            after += 1
        if after > at + 1 or read[at] != token[at].lower():
            kept = token[at] if read[at] == token[at].lower() else read[at]
            found.append((begin + at, begin + after, kept))
        at = after
    return found


def _word_behind(token: str, min_letters: int) -> list[str] | None:
    """Letters of the commonest word that a token may stand for; empty where one is too many."""
    if len(token) > 2 * MAX_LETTERS:
        return None
    n_known = len(known_words())
    limit = COMMONEST if len(token) <= 4 else COMMON
    best, best_rank = None, n_known
    for letters in _readings(token):
        for read in _collapsed(letters):
            word = "".join(read)
            rank = known_words().get(word, n_known)
            # A name after @ is somebody's; it is read where that sign is a letter of the word.
            may_be = word == letters or (rank < limit and not token.startswith("@"))
            if rank < best_rank and may_be and len(word) >= min_letters:
                best, best_rank = read, rank
    return best


def _readings(token: str) -> Iterator[str]:
    choices = [_MEANS.get(sign, sign) for sign in token]
    n_open = sum(len(choice) > 1 for choice in choices)
    if any(choice.isdigit() for choice in choices):
        return
    if 2**n_open > MAX_CHOICES:
        choices = [choice[0] for choice in choices]
    yield from map("".join, product(*choices))


def _collapsed(letters: str) -> Iterator[list[str]]:
    """All ways to take one letter out of some of the pairs of equal ones, none of them first."""
    pairs = [at for at in range(1, len(letters)) if letters[at] == letters[at - 1]]
    if 2 ** len(pairs) > MAX_CHOICES:
        chosen: Iterator[tuple[int, ...]] = iter([(), tuple(pairs)])
    else:
        chosen = (
            tuple(at for at, is_taken in zip(pairs, taken, strict=True) if is_taken)
            for taken in product((False, True), repeat=len(pairs))
        )
    for taken in chosen:
        yield ["" if at in taken else letter for at, letter in enumerate(letters)]
