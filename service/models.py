"""Models and classifiers that are loaded, each model with its engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.cascades import Cascade, cascade_of
from service.chosen import DEFAULT_CLASSIFIER, Chosen, choose, name_of, why_left_out
from service.drift import DriftWindow
from service.engine import EngineLimits, EngineListener, Plan
from service.errors import ClassifierNotServedError, ModelNotServedError
from service.lengths import LengthLog
from service.scoring import ScoringPlan
from service.served_model import ServedModel
from service.verdicts import ServedClassifier
from splinellm.backbone.builtin import BUILTIN_MODELS
from splinellm.backbone.loading import load_backbone
from splinellm.errors import ArtifactError, ConfigurationError, SchemaError, SplineLLMError
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.learn.classifier import Classifier
from splinellm.learn.handed import require_match
from splinellm.learn.pooled import Pooled

if TYPE_CHECKING:
    from service.settings import Settings
    from splinellm.learn.watching import Sketch

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
        The first is the default, unless the one that would be was left out.
    cascades : sequence of Cascade
        Of some of the classifiers.
    left_out : mapping of str to str, optional
        Classifiers that could not be had, and why.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        classifiers: Sequence[ServedClassifier],
        cascades: Sequence[Cascade] = (),
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.left_out: Mapping[str, str] = left_out or {}
        self.lengths = LengthLog()
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
        """Find a classifier: by its name, or the default.

        Raises
        ------
        ClassifierNotServedError
            None goes by this name, or the default was left out at the start.
        """
        wanted = self._default_classifier if name is None else name
        if wanted is None or wanted not in self.classifiers:
            # Only names of ours are repeated.
            told = "there is no such classifier"
            if wanted in self.left_out:
                told = (
                    f"'{wanted}'{', the default,' if name is None else ''} {self.absence(wanted)}"
                )
            raise ClassifierNotServedError(
                told, param="classifier", hint=f"served: {', '.join(self.classifiers) or 'none'}"
            )
        return self.classifiers[wanted]

    @property
    def _default_classifier(self) -> str | None:
        """Who judges where nobody is named; another would answer another question in silence."""
        if DEFAULT_CLASSIFIER in self.left_out:
            return DEFAULT_CLASSIFIER
        return next(iter(self.classifiers), None)

    def absence(self, name: str | None) -> str:
        """Say of a classifier that is not served why it is not."""
        if name is not None and name in self.left_out:
            return f"was left out at the start: {self.left_out[name]}"
        return "is not served"

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
    chosen = choose(settings)
    for warning in chosen.warnings:
        _logger.warning(warning)
    limits = EngineLimits(
        max_batch_tokens=settings.max_batch_tokens,
        batch_wait_s=settings.batch_wait_ms / 1000,
        max_queue_inputs=settings.max_queue_inputs,
        max_queue_tokens=settings.max_queue_tokens,
        max_wait_s=settings.request_timeout_s,
    )
    progress = _Progress(len(settings.model) + len(chosen.classifiers) + 1)

    def load(spec: str, dtype: str = settings.dtype) -> ServedModel:
        builtin = BUILTIN_MODELS.get(spec)
        if builtin is not None and not builtin.path.is_file():
            progress.tell("fetching", model=spec, mb=round(builtin.size_bytes / 1e6))
        return ServedModel(
            name_of(spec),
            load_backbone(
                spec, dtype=dtype, device=settings.device, device_map=settings.device_map
            ),
            limits=limits,
            listener=listener,
            max_tokens=settings.max_input_tokens,
            allow_special_tokens=settings.allow_special_tokens,
            chat_template=chosen.chat_template,
            prefix_cache_bytes=settings.prefix_cache_bytes,
        )

    models = []
    for spec in settings.model:
        progress.step(model=name_of(spec))
        models.append(load(spec))
    attacher = _Attacher(models, load, progress)
    attacher.attach(chosen)
    watched = with_windows(attacher.found, chosen.sketches, settings.drift_window)
    found = {one.name: one for one in watched}
    cascades = [cascade_of(chain.names, found.__getitem__) for chain in chosen.chains]
    catalog = ModelCatalog(models, watched, cascades, chosen.left_out | attacher.left_out)
    progress.step(warm_up=list(catalog.names))
    warm_up(catalog)
    return catalog


def attach(classifier: Classifier, models: Sequence[ServedModel]) -> ServedClassifier:
    """Find the model that a classifier was trained on.

    One that reads texts as well does so whatever the chat template; of conversations see
    :attr:`service.verdicts.ServedClassifier.knows_template`.

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
            source = classifier.card.provenance
            require_match(source, model.provenance(plan), of_texts=source.count == "all")
        except (ArtifactError, SchemaError, ConfigurationError) as error:
            # The latter two: a model that lacks the classifier's layers, hyperplanes or positions.
            difference = ArtifactError(
                f"classifier '{classifier.card.name}' does not fit model '{model.name}': {error}"
            )
        else:
            return ServedClassifier(classifier.card.name, classifier, model, plan)
    raise difference


def with_windows(
    classifiers: Sequence[ServedClassifier], sketches: Mapping[str, Sketch], n_inputs: int
) -> list[ServedClassifier]:
    """Give each classifier that has a reference a window to be compared with it."""
    return [
        replace(one, drift=DriftWindow(one.name, sketches[one.name], n_inputs))
        if one.name in sketches
        else one
        for one in classifiers
    ]


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
    # A text, of which all tokens count: also where those of conversations are counted otherwise.
    tokenized, errors = model.tokenize([WARM_UP_TEXT], replace(plan, count="all"))
    if errors:
        raise errors[0]
    ids = tokenized[0].ids[: plan.max_tokens]
    counted = None if plan.count == "all" else (True,) * len(ids)
    prompt = TokenizedPrompt(ids, truncated=False, counted=counted)
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


class _Attacher:
    """Finds the models of classifiers, and loads those that are not loaded yet.

    Parameters
    ----------
    models : list of ServedModel
        Loaded; those that classifiers need besides are appended.
    load : callable
        Loads a model of this name in this dtype.
    progress : _Progress
        To be told.
    """

    def __init__(
        self,
        models: list[ServedModel],
        load: Callable[[str, str], ServedModel],
        progress: _Progress,
    ) -> None:
        self.found: list[ServedClassifier] = []
        self.left_out: dict[str, str] = {}
        self._models = models
        self._load = load
        self._progress = progress

    def attach(self, chosen: Chosen) -> None:
        """Attach all; of those that nobody asked for, those whose models can be loaded."""
        for classifier in chosen.classifiers:
            card = classifier.card
            self._progress.step(classifier=card.name)
            try:
                found = self._attached(classifier)
            except SplineLLMError as error:
                if card.name not in chosen.optional:
                    raise
                self.left_out[card.name] = why_left_out(error, card.provenance.model)
                _logger.warning("left out: %s: %s", card.name, error)
            else:
                self.found.append(found)
                if not found.knows_template:
                    _logger.warning(
                        "'%s' was trained with another chat template than '%s' has here: it is "
                        "asked of texts, and conversations are refused; the setting chat_template "
                        "takes the one of then",
                        card.name,
                        found.model.name,
                    )

    def _attached(self, classifier: Classifier) -> ServedClassifier:
        card = classifier.card
        try:
            return attach(classifier, self._models)
        except ArtifactError:
            # A model that goes by this name is the operator's choice, whatever differs.
            if any(model.name == name_of(card.provenance.model) for model in self._models):
                raise
        self._progress.tell("loading", model=card.provenance.model, needed_by=card.name)
        model = self._load(card.provenance.model, card.provenance.dtype)
        found = attach(classifier, [model])
        self._models.append(model)
        return found
