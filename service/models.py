"""Models and classifiers that are loaded, each model with its engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cascades import Cascade, cascade_of
from service.drift import DriftWindow
from service.engine import EngineLimits, EngineListener, Plan
from service.errors import ClassifierNotServedError, ModelNotServedError
from service.mapping import require_mapped, unasked
from service.scoring import ScoringPlan
from service.served_model import ServedModel
from service.verdicts import ServedClassifier
from splinellm.backbone.builtin import BUILTIN_MODELS
from splinellm.backbone.loading import load_backbone
from splinellm.errors import ArtifactError, ConfigurationError, SchemaError, SplineLLMError
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.learn.artifact import boxed_names, load_classifier
from splinellm.learn.classifier import Classifier, require_match
from splinellm.learn.pooled import Pooled
from splinellm.learn.watching import read_sketch

if TYPE_CHECKING:
    from service.settings import Settings

DEFAULT_CLASSIFIER = "toxicity"
"""Of the boxed ones."""
WARM_UP_TEXT = "The model is loaded, and it answers before anybody asks. " * 6
"""Long enough for the engine to learn what a token costs."""
WARM_UP_S = 600
"""A model that has not answered by then never will."""

_logger = logging.getLogger(__name__)


class ModelCatalog:
    """Everything that is loaded.

    Parameters
    ----------
    models : sequence of ServedModel
        The first is the default.
    classifiers : sequence of ServedClassifier
        The first is the default.
    cascades : sequence of Cascade
        Of some of the classifiers.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        classifiers: Sequence[ServedClassifier],
        cascades: Sequence[Cascade] = (),
    ) -> None:
        self.cascades: Mapping[str, Cascade] = {one.names[0]: one for one in cascades}
        self._models = {model.name: model for model in models}
        self.classifiers: Mapping[str, ServedClassifier] = {one.name: one for one in classifiers}
        self.names = tuple(self._models)

    @property
    def default(self) -> ServedModel:
        """The model of requests that name none."""
        return self._models[self.names[0]]

    def get(self, name: str | None = None) -> ServedModel:
        """Find a model.

        Raises
        ------
        ModelNotServedError
            None goes by this name.
        """
        if name is None:
            return self.default
        if name not in self._models:
            raise ModelNotServedError(
                "there is no such model", param="model", hint=f"served: {', '.join(self.names)}"
            )
        return self._models[name]

    def get_classifier(self, name: str | None = None) -> ServedClassifier:
        """Find a classifier.

        Raises
        ------
        ClassifierNotServedError
            None goes by this name.
        """
        if name is None and self.classifiers:
            return next(iter(self.classifiers.values()))
        if name is None or name not in self.classifiers:
            raise ClassifierNotServedError(
                "there is no such classifier",
                param="classifier",
                hint=f"served: {', '.join(self.classifiers) or 'none'}",
            )
        return self.classifiers[name]

    def stop(self, timeout_s: float) -> bool:
        """Drain all engines; tell whether all ended within `timeout_s`."""
        ends_s = time.monotonic() + timeout_s
        engines = [model.engine for model in self._models.values()]
        for engine in engines:
            engine.close()
        in_time = [engine.stop(max(0.0, ends_s - time.monotonic())) for engine in engines]
        return all(in_time)


def load_models(settings: Settings, listener: EngineListener) -> ModelCatalog:
    """Load what the settings name, and let every model answer once.

    Raises
    ------
    SplineLLMError
        A model or classifier cannot be loaded, or a classifier that was asked for fits no model.
    """
    limits = EngineLimits(
        max_batch_tokens=settings.max_batch_tokens,
        batch_wait_s=settings.batch_wait_ms / 1000,
        max_queue_inputs=settings.max_queue_inputs,
        max_queue_tokens=settings.max_queue_tokens,
        max_wait_s=settings.request_timeout_s,
    )
    template = _template(settings.chat_template)
    names = [_name_of(spec) for spec in settings.model]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigurationError(f"two models are called '{twice}'", hint="rename a folder")

    chosen = settings.classifiers
    n_classifiers = len(boxed_names() if chosen is None else chosen)
    progress = _Progress(len(names) + n_classifiers + bool(settings.cascades) + 1)

    def load(spec: str, dtype: str = settings.dtype) -> ServedModel:
        builtin = BUILTIN_MODELS.get(spec)
        if builtin is not None and not builtin.path.is_file():
            progress.tell("fetching", model=spec, mb=round(builtin.size_bytes / 1e6))
        return ServedModel(
            _name_of(spec),
            load_backbone(
                spec, dtype=dtype, device=settings.device, device_map=settings.device_map
            ),
            limits=limits,
            listener=listener,
            max_tokens=settings.max_input_tokens,
            allow_special_tokens=settings.allow_special_tokens,
            chat_template=template,
            prefix_cache_bytes=settings.prefix_cache_bytes,
        )

    models = []
    for name, spec in zip(names, settings.model, strict=True):
        progress.step(model=name)
        models.append(load(spec))
    loader = _ClassifierLoader(models, load, progress, settings.thresholds)
    loader.load(settings.classifiers)
    loader.found[:] = watched(loader.found, settings.references, settings.drift_window)
    if settings.cascades:
        progress.step(cascades=len(settings.cascades))
    cascades = [cascade_of(names, loader.get) for names in settings.cascades]
    for name, _, _ in settings.thresholds:
        if not any(one.name == name for one in loader.found):
            raise ConfigurationError(f"threshold: no classifier '{name[:80]}' is served")
    catalog = ModelCatalog(models, loader.found, cascades)
    require_mapped(catalog.classifiers, settings)
    # Of those that were asked for: nobody has chosen the boxed ones.
    if settings.classifiers is not None and (
        left := unasked(catalog.classifiers, catalog.cascades, settings)
    ):
        _logger.warning(
            "not asked by /v1/moderations or Perspective's format: %s; map them with "
            "moderation_categories or perspective_attributes, or name one toxicity=NAME",
            ", ".join(left),
        )
    progress.step(warm_up=list(catalog.names))
    warm_up(catalog)
    return catalog


def attach(classifier: Classifier, models: Sequence[ServedModel]) -> ServedClassifier:
    """Find the model that a classifier was trained on.

    Raises
    ------
    ArtifactError
        None of them is; names the first difference to the last.
    """
    if isinstance(classifier, Pooled):
        plan: Plan = ScoringPlan.for_classifier(classifier)
    else:
        # Verdicts are of prompts: a card of anything else differs from every model.
        plan = replace(Plan.of(classifier.card.provenance), granularity="prompt")
    difference = ArtifactError("no model is loaded")
    for model in models:
        try:
            require_match(classifier.card.provenance, model.provenance(plan))
        except (ArtifactError, SchemaError, ConfigurationError) as error:
            # The latter two: a model that lacks the classifier's layers, hyperplanes or positions.
            difference = ArtifactError(
                f"classifier '{classifier.card.name}' does not fit model '{model.name}': {error}"
            )
        else:
            return ServedClassifier(classifier.card.name, classifier, model, plan)
    raise difference


def watched(
    classifiers: Sequence[ServedClassifier], references: Mapping[str, Path], n_inputs: int
) -> list[ServedClassifier]:
    """Give each classifier that has a reference a window to be compared with it.

    Raises
    ------
    SplineLLMError
        There is no such classifier, or a reference cannot be read or is not of it.
    """
    names = [one.name for one in classifiers]
    if unknown := next((name for name in references if name not in names), None):
        raise ConfigurationError(
            f"drift_reference: no classifier '{unknown[:80]}' is served",
            hint=f"served: {', '.join(names) or 'none'}",
        )
    found = []
    for one in classifiers:
        if one.name in references:
            sketch = read_sketch(references[one.name])
            sketch.require(one.classifier)
            one = replace(one, drift=DriftWindow(one.name, sketch, n_inputs))
        found.append(one)
    return found


def warm_up(catalog: ModelCatalog) -> None:
    """Start the engines and compute a prompt with every plan that requests will often use.

    Raises
    ------
    SplineLLMError
        A model does not answer.
    """
    classifiers = catalog.classifiers.values()
    try:
        for model in map(catalog.get, catalog.names):
            model.engine.start()
            plans = [model.plan(), *(one.plan for one in classifiers if one.model is model)]
            for plan in dict.fromkeys(plans):
                _answer_once(model, plan)
    except BaseException:
        catalog.stop(0)
        raise


def _answer_once(model: ServedModel, plan: Plan) -> None:
    tokenized, errors = model.tokenize([WARM_UP_TEXT], plan)
    if errors:
        raise errors[0]
    prompt = TokenizedPrompt(tokenized[0].ids[: plan.max_tokens], truncated=False)
    outcome = model.engine.submit(plan, [prompt]).result(WARM_UP_S)
    if outcome.errors:
        raise outcome.errors[0]


class _Progress:
    """Tells the log what is being loaded, and how far it is.

    Parameters
    ----------
    n_steps : int
        Of the whole.
    """

    def __init__(self, n_steps: int) -> None:
        self._n_steps = n_steps
        self._n_begun = 0

    def step(self, **what: Any) -> None:
        """Begin the next step."""
        self._n_begun += 1
        self.tell("loading", **what)

    def tell(self, event: str, **what: Any) -> None:
        """Tell of something within the step."""
        fields = {**what, "step": self._n_begun, "of": self._n_steps}
        _logger.info(event, extra={"fields": fields})


class _ClassifierLoader:
    """Loads classifiers, and the models that they read where these are not loaded yet.

    Parameters
    ----------
    models : list of ServedModel
        Loaded; those that classifiers need besides are appended.
    load : callable
        Loads a model of this name in this dtype.
    progress : _Progress
        To be told.
    thresholds : sequence of (str, str or None, float)
        Classifier, class and threshold, in place of the cards'.
    """

    def __init__(
        self,
        models: list[ServedModel],
        load: Callable[[str, str], ServedModel],
        progress: _Progress,
        thresholds: Sequence[tuple[str, str | None, float]] = (),
    ) -> None:
        self.found: list[ServedClassifier] = []
        self._thresholds = thresholds
        self._models = models
        self._load = load
        self._progress = progress

    def load(self, wanted: Sequence[str] | None) -> None:
        """Load those that are wanted, or those of the boxed ones whose models can be loaded."""
        if wanted is not None:
            for name in wanted:
                self._progress.step(classifier=_name_of(name))
                self._add(name)
            return
        for name in sorted(boxed_names(), key=lambda name: name != DEFAULT_CLASSIFIER):
            self._progress.step(classifier=name)
            try:
                self._add(name)
            except SplineLLMError as error:  # nobody asked for it
                _logger.warning("left out: %s", error)

    def get(self, name: str) -> ServedClassifier:
        """Find a classifier that is loaded, or load it."""
        for one in self.found:
            if one.name == name:
                return one
        return self._add(name)

    def _add(self, name: str) -> ServedClassifier:
        # NAME=FOLDER gives a name; without one it is that of the folder.
        called, _, where = name.rpartition("=")
        classifier = load_classifier(where)
        if called:
            classifier = classifier.with_card(replace(classifier.card, name=called))
        for of, label, value in self._thresholds:
            if of == classifier.card.name:
                told = value if label is None else {label: value}
                classifier = classifier.with_threshold(told)
        card = classifier.card
        if any(one.name == card.name for one in self.found):
            raise ConfigurationError(f"two classifiers are called '{card.name}'")
        try:
            found = attach(classifier, self._models)
        except ArtifactError:
            # A model that goes by this name is the operator's choice, whatever differs.
            if any(model.name == _name_of(card.provenance.model) for model in self._models):
                raise
            self._progress.tell("loading", model=card.provenance.model, needed_by=card.name)
            model = self._load(card.provenance.model, card.provenance.dtype)
            found = attach(classifier, [model])
            self._models.append(model)
        self.found.append(found)
        return found


def _template(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the chat template '{path}' cannot be read") from error


def _name_of(spec: str) -> str:
    """Name a model for clients, who need not know where its folder is."""
    path = Path(spec).expanduser()
    return path.name if path.exists() else spec
