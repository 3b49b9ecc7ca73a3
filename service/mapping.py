"""Which class of which classifier answers for a category of another service's format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

from service.cascades import Named, head_of
from service.categories import HARMFUL, LABEL_OF_ATTRIBUTE, OPENAI_CATEGORIES
from splinellm.errors import ConfigurationError

if TYPE_CHECKING:
    from service.settings import Settings
    from service.verdicts import ServedClassifier
    from splinellm.learn.card import Card

TOXICITY = "toxicity"
TYPES = "toxicity-types"
NEARLY = 0.8
"""Likeness from which a name is taken for another one, misspelt."""


class HasCard(Protocol):
    """A classifier, served or not."""

    @property
    def card(self) -> Card:
        """Everything about it."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a score comes from.

    Parameters
    ----------
    classifier : ServedClassifier
        Who tells.
    label : str
        Of which class.
    """

    classifier: ServedClassifier
    label: str


def sources(
    served: Mapping[str, ServedClassifier],
    told: Iterable[tuple[str, str, str | None]],
    setting: str,
) -> dict[str, Source]:
    """Find what a setting names.

    Parameters
    ----------
    served : mapping of str to ServedClassifier
        What is loaded, by name.
    told : iterable of (str, str, str or None)
        Category, classifier and class; without a class the second of two.
    setting : str
        For an error.

    Raises
    ------
    ConfigurationError
        There is no such classifier or class.
    """
    return {
        category: Source(served[name], label)
        for category, name, label in _classes(served, told, setting)
    }


def require_mapped(served: Mapping[str, HasCard], settings: Settings) -> None:
    """Refuse mappings to what is not there, when the service starts."""
    for _ in _classes(served, settings.attributes, "perspective_attributes"):
        pass
    for _ in _classes(served, settings.categories, "moderation_categories"):
        pass


def _classes(
    served: Mapping[str, HasCard], told: Iterable[tuple[str, str, str | None]], setting: str
) -> Iterator[tuple[str, str, str]]:
    """Category, classifier and class of each mapping, all of which are there."""
    for category, name, label in told:
        if name not in served:
            raise ConfigurationError(
                f"{setting}: no classifier '{name[:80]}' is served",
                hint=f"served: {', '.join(served) or 'none'}",
            )
        card = served[name].card
        if label is None and card.kind == "binary":
            label = card.classes[1]
        if label is None or label not in card.classes:
            lacks = "needs a class" if label is None else f"has no class '{label[:80]}'"
            raise ConfigurationError(
                f"{setting}: '{name}' {lacks} for {category}, as in {category}={name}:CLASS",
                hint=f"its classes: {', '.join(card.classes)}",
            )
        if not card.reads_texts:
            raise ConfigurationError(
                f"{setting}: {_of_conversations(card)}, and {category} is asked of texts",
                hint="map another one; /v1/classify asks it of conversations",
            )
        yield category, name, label


def _of_conversations(card: Card) -> str:
    return f"'{card.name}' judges conversations (it was trained on count {card.provenance.count})"


def misspelt(served: Iterable[HasCard], settings: Settings) -> list[str]:
    """Warn of categories that nobody has, but that are nearly called as one that somebody has.

    Parameters
    ----------
    served : iterable of HasCard
        Classifiers, whose labels are categories of moderations, too.
    settings : Settings
        With the mappings.
    """
    labels = {label for one in served for label in one.card.classes}
    found = []
    for setting, told, known in (
        ("perspective_attributes", settings.attributes, [*LABEL_OF_ATTRIBUTE]),
        ("moderation_categories", settings.categories, [*OPENAI_CATEGORIES, *sorted(labels)]),
    ):
        of_simple = {_simple(name): name for name in reversed(known)}
        for category, _, _ in told:
            near = get_close_matches(_simple(category), of_simple, n=1, cutoff=NEARLY)
            if category not in known and near:
                found.append(
                    f"{setting}: '{category[:80]}' is a name of your own; "
                    f"did you mean {of_simple[near[0]]}?"
                )
    return found


def _simple(name: str) -> str:
    return re.sub("[^a-z]", "", name.casefold())


def own_names(cascades: Mapping[str, Named]) -> frozenset[str]:
    """Classifiers all of whose labels other services' formats tell, without being mapped."""
    return frozenset({head_of(cascades, TOXICITY), TYPES})


def unasked(served: Iterable[str], cascades: Mapping[str, Named], settings: Settings) -> list[str]:
    """Names of loaded classifiers that neither of other services' formats asks."""
    told = {name for _, name, _ in [*settings.attributes, *settings.categories]}
    asked = {head_of(cascades, name) for name in own_names(cascades) | told} | told
    steps = {name for head in asked & set(cascades) for name in cascades[head].names}
    return [name for name in served if name not in asked | steps]


def unreadable(served: Mapping[str, HasCard], cascades: Mapping[str, Named]) -> list[str]:
    """Warn of classifiers that other formats ask of texts by their own names, and that read none.

    Of those that a setting maps, :func:`require_mapped` says so; these may be meant for
    ``/v1/classify`` alone.

    Parameters
    ----------
    served : mapping of str to HasCard
        By name.
    cascades : mapping of str to Named
        By the name of their first steps.
    """
    found = []
    for head in sorted(own_names(cascades) & set(served)):
        steps = cascades[head].names if head in cascades else (head,)
        cards = [served[name].card for name in steps if name in served]
        found += [
            f"{_of_conversations(card)}, and /v1/moderations and Perspective's format ask "
            f"{'it' if card.name == head else repr(head)} of texts: each such request is refused; "
            "give it another name (classifiers: NAME=FOLDER), by which /v1/classify asks it, and "
            "let one of texts have this one"
            for card in cards
            if not card.reads_texts
        ]
    return found


def unflagging(
    served: Mapping[str, HasCard], cascades: Mapping[str, Named], settings: Settings
) -> list[str]:
    """Warn of classifiers that moderations ask, and of whose exclusive classes none is flagged.

    Parameters
    ----------
    served : mapping of str to HasCard
        By name.
    cascades : mapping of str to Named
        By the name of their first steps.
    settings : Settings
        With the mappings.
    """
    mapped = {name for _, name, _ in settings.categories}
    return [
        f"/v1/moderations flags nothing that '{name}' says: its classes exclude each other, and "
        "none is known to be harmful; say which are, as in moderation_categories "
        f"CATEGORY={name}:CLASS (it has {', '.join(card.classes)})"
        for name in sorted(own_names(cascades) & set(served) - mapped)
        if (card := served[name].card).kind == "multiclass" and HARMFUL.isdisjoint(card.classes)
    ]


def attribute_sources(
    classifiers: Mapping[str, ServedClassifier],
    cascades: Mapping[str, Named],
    mapped: Mapping[str, Source],
) -> dict[str, Source]:
    """Who scores Perspective's attributes: what is mapped, else toxicity and toxicity-types.

    Both have a label `toxic`; it is TOXICITY of the first alone, which is the better one.
    """
    found = {}
    for attribute, label in LABEL_OF_ATTRIBUTE.items():
        one = classifiers.get(scorer_of(attribute, cascades))
        if one is not None and label in one.card.classes:
            found[attribute] = Source(one, label)
    return found | dict(mapped)


def scorer_of(attribute: str, cascades: Mapping[str, Named]) -> str:
    """Name of the classifier that scores one of Perspective's attributes if nothing is mapped."""
    return head_of(cascades, TOXICITY) if attribute == "TOXICITY" else TYPES
