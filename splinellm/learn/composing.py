"""Short texts inside longer ones, to be learned from beside those that stand alone.

A token in a long text attends to what is around it, and windows that hold the end of a short text
hold some of the next sentence: neither looks as it does when the short text is all there is.
Putting windows beside one another (:func:`splinellm.learn.pooled_fit.padded_bags`) does not show
this to a classifier, as windows are read in their own text; composed texts are read as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splinellm.errors import ConfigurationError
from splinellm.learn.labels import Labels
from splinellm.learn.scripts import OF_ANY_SCRIPT, WORDS, Pieces
from splinellm.learn.windows import Windows

PLACES = ("start", "middle", "end")
SHORT = 40
"""A text of fewer words and marks is short; see :mod:`splinellm.learn.scripts`."""

LENGTHS = (20, 160)
"""Words and marks of what is around: what is read at once holds both. Drawn log-uniformly."""

MOST = 1500
"""Texts of a kind that are put among others."""

COUNT = 4.0
"""How much a composed text counts beside one that stands alone, at most."""

MOST_SHARDS = 100
FEWEST_SHARDS = 20
PER_SHARD = 50
"""Texts of a shard, if that makes neither too many nor too few of them."""

COMPOSED = "short texts inside others"
"""Of a card's data: how many texts were composed."""


def n_pieces(text: str, pieces: Pieces = WORDS) -> int:
    """How many words and marks a text has: about its tokens, of whichever model."""
    return pieces.count(text)


def filler_of(
    texts: Sequence[str], length: int, random: np.random.Generator, pieces: Pieces = WORDS
) -> str:
    """Draw texts, put one after the other, and cut them after `length` words and marks."""
    parts: list[str] = []
    missing = length
    while missing > 0:
        text = texts[int(random.integers(len(texts)))].strip()
        ends = pieces.ends(text)
        parts.append(text[: ends[min(missing, len(ends)) - 1]])
        missing -= len(ends)
    return "\n\n".join(parts)


def put_into(filler: str, short: str, place: str, pieces: Pieces = WORDS) -> str:
    """Put a short text at a place of a longer one, one of :data:`PLACES`."""
    before, after = _around(filler, short, place, pieces)
    return f"{before}{short}{after}"


def _around(filler: str, short: str, place: str, pieces: Pieces) -> tuple[str, str]:
    """What comes before a short text, and what after it."""
    left, right = filler, ""
    if place == "start":
        left, right = "", filler
    elif place != "end":
        at = pieces.middle(filler)
        left, right = filler[:at].rstrip(), filler[at:].lstrip()
    return (
        "" if place == "start" else left + pieces.between(left, short),
        "" if place == "end" else pieces.between(short, right) + right,
    )


@dataclass(frozen=True, eq=False)
class Composed:
    """M texts that were composed of others.

    Parameters
    ----------
    texts : list of str
        A short text inside others, each.
    short : ndarray, shape (M,), int64
        Row of the short one, whose label each has.
    ends : ndarray, shape (M,), int64
        Character after the short one.
    """

    texts: list[str]
    short: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)

    def __getitem__(self, rows: np.ndarray) -> Composed:
        """Select texts."""
        return Composed([self.texts[row] for row in rows], self.short[rows], self.ends[rows])


def compose(
    texts: Sequence[str],
    groups: np.ndarray,
    *,
    kinds: np.ndarray,
    clean: np.ndarray,
    origins: np.ndarray,
    everywhere: str | None = None,
    most: int = MOST,
    pieces: Pieces = WORDS,
    seed: int = 0,
) -> Composed:
    """Put short texts among clean ones.

    Parameters
    ----------
    texts : sequence of str
        N texts, as they are to be read.
    groups : ndarray of int, shape (N,)
        Clean texts are taken from the short one's own group, so that no split has parts of one
        composed text on both sides.
    kinds : ndarray of int, shape (N,)
        At most so many of the short texts of each kind are used; none of those of kind -1.
    clean : ndarray of bool, shape (N,)
        Which texts others may be put among.
    origins : ndarray, shape (N,)
        A short text is put among texts of one origin: its own or `everywhere`.
    everywhere : str, optional
        An origin whose texts any may be put among.
    most : int
        Of each kind.
    pieces : Pieces
        How texts are counted and cut.
    seed : int
        Of the choices.

    Returns
    -------
    Composed
        Short ones that have no clean text beside them are left out.
    """
    random = np.random.default_rng(seed)
    fillers = _by_group(texts, groups, clean, origins, pieces)
    made: list[str] = []
    short: list[int] = []
    ends: list[int] = []
    for row in _chosen(texts, kinds, most, random, pieces):
        own = origins[row].item()
        around_it = [own] if everywhere is None else [own, everywhere]
        random.shuffle(around_it)
        found = [fillers.get((origin, int(groups[row])), []) for origin in around_it]
        others = [left for rows in found if (left := [i for i in rows if i != row])]
        length = int(np.exp(random.uniform(*np.log(LENGTHS))))
        place = str(random.choice(PLACES))
        if others:
            filler = filler_of([texts[i] for i in others[0]], length, random, pieces)
            alone = texts[row].strip()
            before, after = _around(filler, alone, place, pieces)
            before += alone
            made.append(before + after)
            short.append(row)
            ends.append(len(before))
    return Composed(made, np.array(short, np.int64), np.array(ends, np.int64))


def _chosen(
    texts: Sequence[str],
    kinds: np.ndarray,
    most: int,
    random: np.random.Generator,
    pieces: Pieces,
) -> list[int]:
    is_short = np.array([0 < n_pieces(text, pieces) < SHORT for text in texts])
    chosen: list[int] = []
    for kind in range(int(kinds.max(initial=-1)) + 1):
        alike = np.flatnonzero(is_short & (kinds == kind))
        chosen += random.permutation(alike)[:most].tolist()
    return chosen


def _by_group(
    texts: Sequence[str],
    groups: np.ndarray,
    clean: np.ndarray,
    origins: np.ndarray,
    pieces: Pieces,
) -> dict[tuple[Any, int], list[int]]:
    found: dict[tuple[Any, int], list[int]] = {}
    for row in np.flatnonzero(clean).tolist():
        if n_pieces(texts[row], pieces):
            found.setdefault((origins[row].item(), int(groups[row])), []).append(row)
    return found


@dataclass(frozen=True, eq=False)
class Composition:
    """What is composed of N labelled texts, to be learned from beside them.

    Parameters
    ----------
    composed : Composed
        M of them.
    shards : ndarray, shape (N,), int64
        Larger groups of the N texts: those of one are never on both sides of a split, and the parts
        of a composed text are of one.
    has_class : ndarray of bool, shape (N,)
        Which are of the second class, or have a label; others are put among the rest.
    sides : tuple of str
        What those without and those with a class are called, for messages.
    """

    composed: Composed
    shards: np.ndarray
    has_class: np.ndarray
    sides: tuple[str, ...]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        labels: Labels,
        *,
        groups: np.ndarray | None = None,
        tuning_groups: np.ndarray | None = None,
        seed: int = 0,
    ) -> Composition:
        """Put short texts, with a class and without, among texts without one.

        Parameters
        ----------
        texts : sequence of str
            N texts, as they are to be read.
        labels : Labels
            Theirs. Of two classes the first stands for nothing there; of several labels, having
            none of them.
        groups : ndarray of int, shape (N,), optional
            Texts of one stay together.
        tuning_groups : ndarray of int, shape (N,), optional
            Texts are put among those of their own alone.
        seed : int
            Of the choices.

        Raises
        ------
        ConfigurationError
            Classes exclude each other, so that none stands for nothing there; or there are no short
            texts of either side, or no clean one to put them among.
        """
        if labels.kind == "multiclass":
            raise ConfigurationError(
                f"short texts are put among texts without a class, and each has one of the "
                f"{len(labels.classes)} exclusive classes",
                hint="train without composed texts, or on two classes, the first for nothing there "
                "(--positive makes them), or on several labels that are 0 or 1 each",
            )
        has_class = np.asarray(labels.values.reshape(len(labels), -1).any(axis=1))
        shards = sharded(np.arange(len(texts)) if groups is None else groups, seed)
        composed = compose(
            texts,
            shards,
            kinds=has_class.astype(np.int64),
            clean=~has_class,
            origins=np.zeros(len(texts)) if tuning_groups is None else tuning_groups,
            pieces=OF_ANY_SCRIPT,
            seed=seed,
        )
        first, second = labels.classes[:2] if labels.kind == "binary" else (None, None)
        sides = tuple(
            f"with{out} a label" if name is None else f"of class '{name}'"
            for out, name in (("out", first), ("", second))
        )
        found = cls(composed, shards, has_class, sides)
        found.require_both(
            "there is",
            f"train without composed texts: these need texts of fewer than {SHORT} words and marks "
            f"of both sides, and others {sides[0]} to put them among",
        )
        return found

    def __len__(self) -> int:
        """Count what was composed."""
        return len(self.composed)

    def require_both(self, found: str, hint: str) -> None:
        """Refuse composed texts of one side alone: their length would tell them apart.

        Raises
        ------
        ConfigurationError
            Says of which side there is none.
        """
        counts = np.bincount(self.has_class[self.composed.short], minlength=2)
        if not counts.all():
            side = self.sides[int(np.argmin(counts))]
            raise ConfigurationError(f"{found} no short text {side} inside others", hint=hint)

    def read_whole(self, windows: Windows) -> np.ndarray:
        """Which composed texts were read at least to the end of the short one, shape (M,), bool.

        Parameters
        ----------
        windows : Windows
            Of the N texts and of the M.
        """
        reach = np.maximum.reduceat(windows.characters[:, 1], windows.starts[:-1])
        whole = ~windows.truncated[-len(self) :]
        return np.asarray(whole | (reach[-len(self) :] >= self.composed.ends))

    def beside(
        self, windows: Windows, texts: Sequence[str], labels: Labels, told: Mapping[str, Any]
    ) -> tuple[Windows, list[str], Labels, dict[str, Any]]:
        """Add what was read of the composed texts to what is told of the others.

        A composed text has the label, the groups and the share of the weight of the short one in
        it, and no annotated characters. Those in which the token limit cut the short text are left
        out. No figure is of them.

        Parameters
        ----------
        windows : Windows
            Of the N texts and of the M.
        texts, labels
            The N.
        told : mapping of str to any
            Of the N; see :func:`splinellm.learn.pooled_training.train_windows`.
        """
        whole = np.flatnonzero(self.read_whole(windows))
        part = replace(self, composed=self.composed[whole])
        part.require_both(
            "the token limit leaves", "raise the token limit, or train without composed texts"
        )
        n, made_of = len(texts), np.concatenate([np.arange(len(texts)), part.composed.short])
        all_told = dict(told)
        for name in ("groups", "tuning_groups"):
            if told.get(name) is not None:
                all_told[name] = told[name][made_of]
        if told.get("marks") is not None:
            all_told["marks"] = [*told["marks"], *[None] * len(part)]
        if told.get("members") is not None:
            all_told["members"] = {name: one[made_of] for name, one in told["members"].items()}
        measured = told.get("measured")
        all_told["measured"] = np.zeros(len(made_of), np.bool_)
        all_told["measured"][:n] = True if measured is None else measured
        all_told["weights"] = part.weights(told.get("weights"))
        all_told["split_groups"] = part.shards[made_of]
        all_told["data"] = {**(told.get("data") or {"rows": n}), COMPOSED: len(part)}
        rows = np.concatenate([np.arange(n), n + whole])
        return windows[rows], [*texts, *part.composed.texts], labels[made_of], all_told

    def weights(self, weights: np.ndarray | None) -> np.ndarray:
        """How much each of the N and of the composed texts counts, shape (N + M,).

        All composed texts count as much as all others together, if none counts more than
        :data:`COUNT` times as much as what it is made of; and texts with a class have the same
        share of both, so that probabilities are of the texts as they are.
        """
        own = np.ones(len(self.has_class)) if weights is None else weights
        short = self.composed.short
        of_all = np.bincount(self.has_class, own, minlength=2)
        of_short = np.bincount(self.has_class[short], own[short], minlength=2)
        factors = np.divide(of_all, of_short, out=np.zeros(2), where=of_short > 0)
        factors *= min(1.0, COUNT / max(1.0, factors.max()))
        return np.concatenate([own, own[short] * factors[self.has_class[short].astype(np.int64)]])


def sharded(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Few groups of many: what is in one of `groups` stays together, shape (N,).

    Texts are composed of those of a shard: of one that is too small they are all alike, and from
    few shards no even splits can be made.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    n_shards = min(MOST_SHARDS, max(FEWEST_SHARDS, len(groups) // PER_SHARD))
    order = np.random.default_rng(seed).permutation(int(numbers.max(initial=-1)) + 1)
    return np.asarray(order[numbers] % n_shards, np.int64)
