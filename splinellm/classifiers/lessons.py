"""What a boxed classifier learns from: rows, what was read of them, and which is kept aside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from splinellm.classifiers.composed import composed_rows, sharded
from splinellm.classifiers.leaving_out import judged
from splinellm.classifiers.rows import Rows
from splinellm.classifiers.trials import kept_aside
from splinellm.classifiers.workshop import Reading, Workshop, joined, of_layers
from splinellm.learn.pooled_material import Material, PooledSettings
from splinellm.learn.splits import near_duplicates

if TYPE_CHECKING:
    from splinellm.learn.windows import Windows
    from splinellm.provenance import Provenance


@dataclass(frozen=True, eq=False)
class Lesson:
    """N rows and what was read of them.

    Parameters
    ----------
    rows : Rows
        Texts as they are, then those that were composed of them.
    windows : Windows
        Of each.
    source : Provenance
        Of the windows' tokens.
    groups : ndarray of int, shape (N,)
        Rows that have a text, or nearly one, in common; -1 of those kept aside.
    own : ndarray of bool, shape (N,)
        Which are texts as they are.
    learned : ndarray of bool, shape (N,)
        Which are not kept aside for trials.
    made_of : ndarray of int, shape (N,)
        Row whose label each has: its own, or that of the short text in it.
    """

    rows: Rows
    windows: Windows
    source: Provenance
    groups: np.ndarray
    own: np.ndarray
    learned: np.ndarray
    made_of: np.ndarray

    def to_learn(self) -> Lesson:
        """All but what is kept aside."""
        used = np.flatnonzero(self.learned)
        return Lesson(
            self.rows[used],
            self.windows[used],
            self.source,
            self.groups[used],
            self.own[used],
            self.learned[used],
            self.made_of[used],
        )

    def judged(self, settings: PooledSettings) -> dict[str, dict[str, float]]:
        """ROC-AUC on each source left out, by channel; of texts as they are."""
        rows = self.rows
        material = Material(self.windows, rows.texts, rows.labels, None, settings, rows.weights)
        return judged(material, rows, measured=self.own)


def is_aside(rows: Rows) -> np.ndarray:
    """Which rows are kept for trials, shape (N,), bool; none of the project's own."""
    aside: np.ndarray = kept_aside(rows.texts) & (rows.source != "templates")
    return aside


def lesson_of(
    shop: Workshop,
    reading: Reading,
    rows: Rows,
    *,
    layers: tuple[int, ...] | None = None,
    composed: bool = True,
    keep_aside: bool = True,
) -> Lesson:
    """Read texts, and such as are composed of those that are not kept aside.

    Parameters
    ----------
    shop : Workshop
        Reads.
    reading : Reading
        What.
    rows : Rows
        Texts as they are.
    layers : tuple of int, optional
        Those of what is read that are used; all of them without.
    composed : bool
        Whether short texts inside long ones are learned from as well.
    keep_aside : bool
        Whether those that :func:`is_aside` chooses are.
    """
    learned = ~is_aside(rows) if keep_aside else np.ones(len(rows), np.bool_)
    used = np.flatnonzero(learned)
    groups = np.full(len(rows), -1)
    groups[used] = sharded(_duplicates(tuple(rows.texts[row] for row in used)))
    windows, source = shop.windows(reading, rows.texts)
    made_of = np.arange(len(rows))
    if composed:
        more, short = composed_rows(rows[used], groups[used])
        rows = rows.followed_by(more)
        made_of = np.concatenate([made_of, used[short]])
        windows = joined([windows, shop.windows(reading, more.texts)[0]])
    if layers is not None:
        windows, source = of_layers(windows, source, layers)
    own = np.arange(len(rows)) < len(learned)
    return Lesson(rows, windows, source, groups[made_of], own, learned[made_of], made_of)


@cache
def _duplicates(texts: tuple[str, ...]) -> np.ndarray:
    """Groups of texts that several classifiers learn from, found once in a run."""
    return near_duplicates(texts)
