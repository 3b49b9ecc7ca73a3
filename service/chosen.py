"""What the settings name, read and checked before any model is loaded: within a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.cascades import Chain, chain_of
from service.mapping import misspelt, require_mapped, unasked, unflagging, unreadable
from splinellm.backbone.builtin import BUILTIN_MODELS, require_available
from splinellm.conversations import read_template
from splinellm.errors import (
    ConfigurationError,
    ModelLoadError,
    ModelNotFoundError,
    OfflineError,
    SplineLLMError,
)
from splinellm.learn.artifact import boxed_names, load_classifier
from splinellm.learn.watching import Sketch, read_sketch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.settings import Settings
    from splinellm.learn.classifier import Classifier

DEFAULT_CLASSIFIER = "toxicity"
"""Of the boxed ones."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is to be served.

    Parameters
    ----------
    classifiers : list of Classifier
        By the names that requests call them, with the thresholds of the settings.
    optional : frozenset of str
        Boxed ones that no setting names: they are left out if their models cannot be had.
    left_out : dict of str to str
        Boxed ones that cannot be read, and why; see :func:`why_left_out`.
    chains : list of Chain
        Cascades.
    sketches : dict of str to Sketch
        References of drift, by classifier.
    chat_template : str or None
        In place of the models' own.
    warnings : list of str
        Of what is allowed, and is probably not meant.
    """

    classifiers: list[Classifier]
    optional: frozenset[str]
    left_out: dict[str, str]
    chains: list[Chain]
    sketches: dict[str, Sketch]
    chat_template: str | None
    warnings: list[str]


def choose(settings: Settings) -> Chosen:
    """Read what the settings name, and refuse what is not there.

    Raises
    ------
    SplineLLMError
        A file, folder, classifier or class is not there, or it is not what a setting takes it for.
    """
    template = _template(settings.chat_template)
    names = [name_of(spec) for spec in settings.model]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"two models are called '{twice}'", hint="rename a folder")
    reader = _Reader(settings)
    reader.read()
    chains = [chain_of(names, lambda name: reader.get(name).card) for names in settings.cascades]
    classifiers = {one.card.name: one for one in reader.found}
    for name, _, _ in settings.thresholds:
        if name not in classifiers:
            raise ConfigurationError(f"threshold: no classifier '{name[:80]}' is served")
    sketches = sketches_of(reader.found, settings.references)
    require_mapped(classifiers, settings)
    told = misspelt(classifiers.values(), settings)
    heads = {one.names[0]: one for one in chains}
    told += unreadable(classifiers, heads)
    told += unflagging(classifiers, heads, settings)
    # Of those that were asked for: nobody has chosen the boxed ones.
    if settings.classifiers is not None and (left := unasked(classifiers, heads, settings)):
        told.append(
            f"not asked by /v1/moderations or Perspective's format: {', '.join(left)}; map them "
            "with moderation_categories or perspective_attributes, or name one toxicity=NAME"
        )
    told += [f"left out: {why}" for why in reader.failures]
    return Chosen(reader.found, reader.optional, reader.left_out, chains, sketches, template, told)


def require_models(settings: Settings, chosen: Chosen) -> list[str]:
    """Refuse models that cannot be loaded, as far as can be told without loading them.

    Returns
    -------
    list of str
        Of each classifier that will be left out, why.

    Raises
    ------
    SplineLLMError
        As if it were being loaded.
    """
    for spec in settings.model:
        _require_model(spec, settings)
    left = []
    loaded = {name_of(spec) for spec in settings.model}
    for one in chosen.classifiers:
        model = one.card.provenance.model
        if name_of(model) in loaded:
            continue
        try:
            _require_model(model, settings)
        except SplineLLMError as error:
            if one.card.name not in chosen.optional:
                raise
            left.append(f"left out: {one.card.name}: {error}")
    return left


def why_left_out(error: SplineLLMError, model: str | None = None) -> str:
    """Say of a classifier why it is not there, to who asks for it: nothing of this machine."""
    if model is not None and isinstance(error, OfflineError):
        return f"its model '{model}' is not cached"
    if model is not None and isinstance(error, ModelLoadError | ModelNotFoundError):
        return f"its model '{model}' could not be loaded"
    return "the log says why"


def sketches_of(
    classifiers: Sequence[Classifier], references: Mapping[str, Path]
) -> dict[str, Sketch]:
    """Read the reference of each classifier that has one.

    Raises
    ------
    SplineLLMError
        There is no such classifier, or a reference cannot be read or is not of it.
    """
    by_name = {one.card.name: one for one in classifiers}
    found = {}
    for name, path in references.items():
        if name not in by_name:
            raise ConfigurationError(
                f"drift_reference: no classifier '{name[:80]}' is served",
                hint=f"served: {', '.join(by_name) or 'none'}",
            )
        found[name] = read_sketch(path)
        found[name].require(by_name[name])
    return found


def name_of(spec: str) -> str:
    """Name a model for clients, who need not know where its folder is."""
    path = Path(spec).expanduser()
    return path.name if path.exists() else spec


class _Reader:
    """Reads classifiers, each once.

    Parameters
    ----------
    settings : Settings
        Of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.found: list[Classifier] = []
        self.left_out: dict[str, str] = {}
        self.failures: list[str] = []
        self.optional: frozenset[str] = frozenset()
        self._settings = settings

    def read(self) -> None:
        """Read those that are wanted, or the boxed ones."""
        wanted = self._settings.classifiers
        if wanted is not None:
            for name in wanted:
                self._add(name)
            return
        boxed = sorted(boxed_names(), key=lambda name: name != DEFAULT_CLASSIFIER)
        self.optional = frozenset(boxed) - self._named()
        for name in boxed:
            try:
                self._add(name)
            except SplineLLMError as error:
                if name not in self.optional:
                    raise
                self.left_out[name] = why_left_out(error)
                self.failures.append(str(error))

    def get(self, name: str) -> Classifier:
        """Find a classifier that was read, or read it."""
        for one in self.found:
            if one.card.name == name:
                return one
        return self._add(name)

    def _named(self) -> set[str]:
        """Classifiers that other settings speak of."""
        settings = self._settings
        return {
            *(name for one in settings.cascades for name in one),
            *(name for name, _, _ in settings.thresholds),
            *(name for _, name, _ in [*settings.attributes, *settings.categories]),
            *settings.references,
        }

    def _add(self, name: str) -> Classifier:
        # NAME=FOLDER gives a name; without one it is that of the folder.
        called, _, where = name.rpartition("=")
        classifier = load_classifier(where)
        if called:
            classifier = classifier.with_card(replace(classifier.card, name=called))
        for of, label, value in self._settings.thresholds:
            if of == classifier.card.name:
                told = value if label is None else {label: value}
                try:
                    classifier = classifier.with_threshold(told)
                except ConfigurationError as error:
                    raise ConfigurationError(
                        f"threshold: classifier '{of[:80]}': {error.message}", hint=error.hint
                    ) from None
        if any(one.card.name == classifier.card.name for one in self.found):
            raise ConfigurationError(f"two classifiers are called '{classifier.card.name}'")
        self.found.append(classifier)
        return classifier


def _require_model(spec: str, settings: Settings) -> None:
    if spec in BUILTIN_MODELS and settings.device in ("auto", "cpu"):
        require_available(spec)
        return
    from splinellm.backbone.loading import require_loadable  # slow: it imports torch

    require_loadable(spec, device=settings.device)


def _template(path: Path | None) -> str | None:
    if path is None:
        return None
    from splinellm.extraction.chat import require_template  # only where there is one

    template = read_template(path)
    require_template(template)
    return template
