"""Which class of which classifier answers for a category of another service's format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.cascades import head_of
from splinellm.errors import ConfigurationError

if TYPE_CHECKING:
    from service.cascades import Cascade
    from service.settings import Settings
    from service.verdicts import ServedClassifier

TOXICITY = "toxicity"
TYPES = "toxicity-types"


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
    found = {}
    for category, name, label in told:
        classifier = served.get(name)
        if classifier is None:
            raise ConfigurationError(
                f"{setting}: no classifier '{name[:80]}' is served",
                hint=f"served: {', '.join(served) or 'none'}",
            )
        classes = classifier.card.classes
        if label is None and classifier.card.kind == "binary":
            label = classes[1]
        if label not in classes:
            lacks = "needs a class" if label is None else f"has no class '{label[:80]}'"
            raise ConfigurationError(
                f"{setting}: '{name}' {lacks} for {category}, as in {category}={name}:CLASS",
                hint=f"its classes: {', '.join(classes)}",
            )
        found[category] = Source(classifier, label)
    return found


def require_mapped(served: Mapping[str, ServedClassifier], settings: Settings) -> None:
    """Refuse mappings to what is not there, when the service starts."""
    sources(served, settings.attributes, "perspective_attributes")
    sources(served, settings.categories, "moderation_categories")


def own_names(cascades: Mapping[str, Cascade]) -> frozenset[str]:
    """Classifiers all of whose labels other services' formats tell, without being mapped."""
    return frozenset({head_of(cascades, TOXICITY), TYPES})


def unasked(
    served: Iterable[str], cascades: Mapping[str, Cascade], settings: Settings
) -> list[str]:
    """Names of loaded classifiers that neither of other services' formats asks."""
    told = {name for _, name, _ in [*settings.attributes, *settings.categories]}
    asked = {head_of(cascades, name) for name in own_names(cascades) | told} | told
    steps = {name for head in asked & set(cascades) for name in cascades[head].names}
    return [name for name in served if name not in asked | steps]


def defaults(
    classifiers: Iterable[ServedClassifier], label_of: Mapping[str, str]
) -> dict[str, Source]:
    """Categories by their labels: of two classifiers with one, the first is the better one."""
    found: dict[str, Source] = {}
    for category, label in label_of.items():
        for one in classifiers:
            if label in one.card.classes:
                found.setdefault(category, Source(one, label))
    return found
