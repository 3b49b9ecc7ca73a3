"""Classifiers in a row: what one is uncertain of, the next reads, or a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from service.verdicts import ServedClassifier, Verdict
from splinellm.errors import ArtifactError
from splinellm.learn.cascade import PERSON, require_bands
from splinellm.learn.decisions import Bands

if TYPE_CHECKING:
    from splinellm.learn.card import Card


@dataclass(frozen=True)
class Cascade:
    """A chain of classifiers of one task.

    Parameters
    ----------
    steps : tuple of ServedClassifier
        The first reads every input, and is what requests name.
    bands : tuple of mapping of str to Band
        The probabilities, by class, of which each step is uncertain and leaves the decision to the
        next; none where the last step decides whatever is left.
    asks_person : bool
        Whether what the last classifier is uncertain of is left to a person.
    """

    steps: tuple[ServedClassifier, ...]
    bands: tuple[Bands, ...]
    asks_person: bool

    @property
    def names(self) -> list[str]:
        """Who decides, in this order."""
        return [*(step.name for step in self.steps), *([PERSON] if self.asks_person else [])]

    @property
    def tells_spans(self) -> bool:
        """Whether all of them say where in a text a class is."""
        return all(step.pooled is not None for step in self.steps)

    def is_open(self, place: int, verdict: Verdict) -> bool:
        """Whether a step, counted from 0, leaves this to the next."""
        return any(
            band.low <= verdict.probabilities[label] <= band.high
            for label, band in self.bands[place].items()
        )


@dataclass(frozen=True)
class Chain:
    """A cascade of classifiers that need not have their models yet.

    Parameters
    ----------
    names : list of str
        Who decides, in this order.
    bands : tuple of mapping of str to Band
        See :class:`Cascade`.
    """

    names: list[str]
    bands: tuple[Bands, ...]


def chain_of(names: Sequence[str], card_of: Callable[[str], Card]) -> Chain:
    """Check that classifiers can be a cascade.

    Parameters
    ----------
    names : sequence of str
        Two or more, the last may be :data:`splinellm.learn.cascade.PERSON`.
    card_of : callable
        Gives a classifier's card.

    Raises
    ------
    ArtifactError
        One that must be has no uncertain band, or they do not tell the same classes apart.
    """
    asks_person = names[-1] == PERSON
    cards = [card_of(name) for name in (names[:-1] if asks_person else names)]
    first = cards[0]
    for card in cards[1:]:
        if (card.kind, card.classes) != (first.kind, first.classes):
            raise ArtifactError(
                f"'{first.name}' and '{card.name}' do not tell the same classes apart, in "
                "this order",
                hint="a cascade needs classifiers of one task",
            )
    n_uncertain = len(cards) - (not asks_person)
    bands: list[Bands] = [require_bands(card) for card in cards[:n_uncertain]]
    bands += [{}] * (len(cards) - n_uncertain)
    return Chain([card.name for card in cards] + [PERSON] * asks_person, tuple(bands))


def cascade_of(names: Sequence[str], find: Callable[[str], ServedClassifier]) -> Cascade:
    """Make a cascade of classifiers that are loaded; see :func:`chain_of`."""
    chain = chain_of(names, lambda name: find(name).card)
    steps = tuple(find(name) for name in names if name != PERSON)
    return Cascade(steps, chain.bands, asks_person=chain.names[-1] == PERSON)


class Named(Protocol):
    """A cascade, of whose classifiers the names are known."""

    @property
    def names(self) -> list[str]:
        """Who decides, in this order."""


def head_of(cascades: Mapping[str, Named], name: str) -> str:
    """Name of the cascade that a classifier is a step of; its own if there is none."""
    if name in cascades:
        return name
    holders = (head for head, it in cascades.items() if name in it.names)
    return next(holders, name)
