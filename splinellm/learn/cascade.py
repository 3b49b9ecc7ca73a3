"""Classifiers in a row: what one is uncertain of, the next reads, or a person."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from splinellm.errors import ArtifactError
from splinellm.learn.decisions import Band, bands_of
from splinellm.learn.predictions import DECIDED_BY, PROBABILITY
from splinellm.table import N_TOKENS

if TYPE_CHECKING:
    from splinellm.errors import PromptError
    from splinellm.io.pipeline import Annotator, Listener
    from splinellm.io.rows import Chunk
    from splinellm.learn.card import Card

PERSON = "person"
"""In place of a second classifier: rows that the first is uncertain of are marked for a person."""


@dataclass
class Step:
    """What one of them did.

    Parameters
    ----------
    name : str
        Of the classifier.
    read, decided, tokens : int
        Rows that it read, rows that it decided, and tokens that it read.
    seconds : float
        That reading took.
    """

    name: str
    read: int = 0
    decided: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Cascade:
    """Adds the columns of the classifier that decided a row, and ``decided_by``, its name.

    Parameters
    ----------
    first : Annotator
        Reads every row; its card says of which probabilities it is uncertain.
    card : Card
        That of the first.
    second : Annotator or None
        Reads the rows that the first is uncertain of; None marks them for a person instead, with
        the first one's columns.
    name : str
        Of the second classifier, or :data:`PERSON`.

    Raises
    ------
    ArtifactError
        The first has no uncertain band, or they do not add the same columns.
    """

    def __init__(
        self,
        first: Annotator[Chunk],
        card: Card,
        second: Annotator[Chunk] | None = None,
        name: str = PERSON,
    ) -> None:
        self._bands = require_bands(card)
        if second is not None and not second.schema.equals(first.schema):
            raise ArtifactError(
                f"'{card.name}' and '{name}' do not tell the same classes apart, in this order",
                hint="a cascade needs two classifiers of one task",
            )
        field = pa.field(DECIDED_BY, pa.string(), nullable=False)
        self.schema = first.schema.append(field)
        self._first = first
        self._second = second
        # Two versions of one classifier may go by one name.
        other = f"{name} (2)" if second is not None and name == card.name else name
        self.steps = (Step(card.name), Step(other))

    def annotate(
        self, rows: Chunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Decide the rows."""
        table, errors = self._run(0, self._first, rows, on_progress)
        places = np.array([i for i in range(len(rows)) if i not in errors], np.int64)
        is_open = self._is_uncertain(table)
        names = np.where(is_open, self.steps[1].name, self.steps[0].name)
        asked = places[is_open]
        if self._second is not None and len(asked):
            # Its progress is none of the input's: these rows have been counted.
            found, failed = self._run(1, self._second, rows.take(asked.tolist()), None)
            failures = {int(asked[i]): error.at(int(asked[i])) for i, error in failed.items()}
            errors = errors | failures
            told = np.array([place not in failures for place in places.tolist()], np.bool_)
            order = np.arange(len(places))
            order[is_open & told] = len(places) + np.arange(len(found))
            stacked = pa.concat_tables([table, found.cast(table.schema)])
            table, names = stacked.take(order[told]), names[told]
        for step in self.steps:
            step.decided += int((names == step.name).sum())
        column = pa.array(names.tolist(), pa.string())
        return table.append_column(self.schema.field(DECIDED_BY), column).cast(self.schema), errors

    def summary(self) -> str:
        """Say who decided how many rows, and what that cost, in one line."""
        first, second = self.steps
        total = max(1, first.decided + second.decided)
        parts = [
            f"{first.name} decided {first.decided:,} of {first.decided + second.decided:,} rows"
        ]
        parts.append(f"{second.name} {second.decided:,} ({second.decided / total:.1%})")
        cost = [f"{first.name} read {first.tokens:,} tokens in {first.seconds:.1f} s"]
        if self._second is not None:
            cost.append(f"{second.name} {second.tokens:,} in {second.seconds:.1f} s")
        return f"{', '.join(parts)}; {', '.join(cost)}"

    def _run(
        self, place: int, annotator: Annotator[Chunk], rows: Chunk, on_progress: Listener | None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        began = time.perf_counter()
        table, errors = annotator.annotate(rows, on_progress=on_progress)
        step = self.steps[place]
        step.seconds += time.perf_counter() - began
        step.read += len(rows)
        step.tokens += int(np.sum(table[N_TOKENS].to_numpy()))
        return table, dict(errors)

    def _is_uncertain(self, table: pa.Table) -> np.ndarray:
        inside = np.zeros(table.num_rows, np.bool_)
        for label, band in self._bands.items():
            inside |= band.holds(table[f"{PROBABILITY}.{label}"].to_numpy())
        return inside


def require_bands(card: Card) -> dict[str, Band]:
    """The uncertain bands of a card that must have some.

    Raises
    ------
    ArtifactError
        It has none.
    """
    bands = bands_of(card)
    if not bands:
        raise ArtifactError(
            f"classifier '{card.name}' is never uncertain: its card has no band",
            hint="train it with --abstain",
        )
    return bands
