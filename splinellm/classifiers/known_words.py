"""Count the words that :mod:`splinellm.spelling` knows: ``make words DATA=folder``."""

from __future__ import annotations

import argparse
import gzip
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import splinellm
from splinellm.backbone.loading import load_backbone
from splinellm.classifiers import sources
from splinellm.classifiers.trials import kept_aside
from splinellm.normalisation import normalise

MIN_TEXTS = 3
"""Comments that a word has to be in."""

RARER = 20
"""A word of comments that would be another, so much more frequent one with a letter less for two
is a misspelling."""

COMMENTS = "wiki_talk"
"""The domain whose texts are comments."""

_WORD = re.compile(r"[a-z]+")
_PAIR = re.compile(r"([a-z])\1")


def count(texts: Iterable[str]) -> Counter[str]:
    """In how many texts each word is."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(_WORD.findall(normalise(text, "1").text.lower())))
    return counts


def known_words(data: Path) -> list[str]:
    """Words of comments and of prose, the commonest first; not of what is kept for trials.

    Prose, and code, is that of the domains, and what the tokenizer of the encoder has a piece for,
    which was made from books and Wikipedia.
    """
    domains = sources.domains(data)
    tokenizer = load_backbone("minilm-l6").tokenizer
    pieces = {piece for piece in tokenizer.get_vocab() if _WORD.fullmatch(piece)}
    prose = count(domains["text"][domains["label"] != COMMENTS])
    comments: Counter[str] = Counter()
    for name, read in sources.TOXICITY_SOURCES.items():
        texts = read(data)["text"].to_numpy()
        comments.update(count(texts if name == "templates" else texts[~kept_aside(list(texts))]))
    total = prose + comments + Counter(pieces)
    kept = [
        word
        for word, n in total.items()
        if len(word) > 1
        and (word in prose or word in pieces or (n >= MIN_TEXTS and not _is_misspelt(word, total)))
    ]
    return sorted([*kept, "a", "i"], key=lambda word: (-total[word], word))


def _is_misspelt(word: str, counts: Counter[str]) -> bool:
    return any(
        counts[word[: pair.start()] + word[pair.start() + 1 :]] >= RARER * counts[word]
        for pair in _PAIR.finditer(word)
    )


def main() -> None:
    """Write the list beside the module that reads it."""
    parser = argparse.ArgumentParser(description="Count the words that count as such.")
    parser.add_argument("data", type=Path, help="folder with the source files")
    words = known_words(parser.parse_args().data)
    path = Path(splinellm.__file__).with_name("known_words.txt.gz")
    path.write_bytes(gzip.compress("\n".join(words).encode(), mtime=0))
    print(f"{len(words)} words written to {path.name}")  # noqa: T201


if __name__ == "__main__":
    main()
