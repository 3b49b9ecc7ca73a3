"""Judge requests while they are served, and say which must end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splinellm.backbone.merging import Merging
from splinellm.errors import ConfigurationError, NothingRecordedError
from splinellm.learn.artifact import as_classifier
from splinellm.learn.classifier import Classifier
from splinellm.learn.growing import probabilities_so_far, require_tokens_alone
from splinellm.learn.handed import UP_TO_THE_CALLER, require_match
from splinellm.learn.pooled import Pooled
from splinellm.learn.predictions import DEFAULT_THRESHOLD
from splinellm.plan import Plan
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema
from splinellm.table import schema_of
from splinellm.vllm.requests import Request


@dataclass(frozen=True)
class Stop:
    """Why and where a request was ended.

    Parameters
    ----------
    n_tokens : int
        Tokens of the request that the classifier judged, prompt included.
    n_generated : int
        How many of them were generated.
    probability : float
        What the classifier said of them.
    """

    n_tokens: int
    n_generated: int
    probability: float


@dataclass(frozen=True)
class Rule:
    """When a request is ended.

    Parameters
    ----------
    classifier : Classifier, its name or folder
        Who judges.
    threshold : float, optional
        Probability from which a request is ended; the card's by default.
    label : str, optional
        Class whose probability counts; the last one by default.
    every : int
        Tokens between two looks.
    ends : bool
        Whether requests are ended at all, and not only judged.
    """

    classifier: Any
    threshold: float | None = None
    label: str | None = None
    every: int = 8
    ends: bool = False


def plan_of(classifier: Classifier | str | PathLike[str]) -> Plan:
    """What a classifier needs of requests."""
    trained = as_classifier(classifier).card.provenance
    plan = Plan.of(trained)
    return replace(plan, granularity="prompt") if trained.granularity == "token" else plan


class Judge:
    """A classifier of requests.

    Parameters
    ----------
    rule : Rule
        What it goes by.
    schema : FeatureSchema
        Of the features that are recorded.
    given : Provenance
        Of the same.

    Raises
    ------
    ConfigurationError
        An argument is impossible.
    ArtifactError
        The classifier needs other layers or features, or what only an encoder or a text has.
    """

    def __init__(self, rule: Rule, schema: FeatureSchema, given: Provenance) -> None:
        if rule.every < 1:
            raise ConfigurationError(f"every is {rule.every}; it must be at least 1")
        if rule.threshold is not None and not 0.0 <= rule.threshold <= 1.0:
            raise ConfigurationError(f"threshold {rule.threshold} is not between 0 and 1")
        classifier = as_classifier(rule.classifier)
        classes = list(classifier.card.classes)
        if rule.label is not None and rule.label not in classes:
            raise ConfigurationError(
                f"the classifier has no class '{rule.label[:80]}'",
                hint=f"it has {', '.join(classes)[:200]}",
            )
        trained = classifier.card.provenance
        if isinstance(classifier, Pooled):
            require_tokens_alone(classifier)
            given = given.at("token")
        require_match(trained, given, ignoring=UP_TO_THE_CALLER)
        wanted = schema_of(trained)
        if wanted.selection.needs_attention:
            raise ConfigurationError(
                f"classifier '{classifier.card.name}' reads intrinsic_dimension, which is not "
                "known of requests that go on",
                hint="train one on spline or blocks",
            )
        self.classifier = classifier
        self._column = -1 if rule.label is None else classes.index(rule.label)
        self.label = classes[self._column]
        threshold = classifier.card.thresholds.get(self.label, DEFAULT_THRESHOLD)
        self.threshold = threshold if rule.threshold is None else rule.threshold
        self.every, self.ends = rule.every, rule.ends
        self._wanted = wanted
        self._layers = [schema.layers.index(layer) for layer in wanted.layers]
        places = {name: i for i, name in enumerate(schema.names)}
        self._columns = [] if self.is_pooled else [places[name] for name in wanted.names]

    @property
    def is_pooled(self) -> bool:
        """Whether it pools scores of tokens, which are then kept of every request."""
        return isinstance(self.classifier, Pooled)

    def score_tokens(
        self, merging: Mapping[str, Merging], values: Mapping[str, Tensor]
    ) -> np.ndarray:
        """Scores of N tokens, (N, C), from their numbers (L, N, ...) by the statistic's name."""
        columns = [merging[name].of_tokens(it[:, None]) for name, it in values.items()]
        names = [name for group, _ in columns for name in group]
        wanted = [names.index(name) for name in self._wanted.features]
        found = torch.cat([it for _, it in columns], dim=-1)[self._layers, 0][..., wanted]
        rows = found.movedim(0, 1).flatten(1).cpu().numpy()  # (N, L * F)
        scores: np.ndarray = self.classifier.scorer.logits(rows)
        return scores

    def probabilities(self, requests: Sequence[Request], features: np.ndarray) -> np.ndarray:
        """Probabilities of requests, (B, C); their features (B, L, F) are over all that was read.

        Raises
        ------
        NothingRecordedError
            A request was begun before it was judged.
        """
        if isinstance(self.classifier, Pooled):
            if not all(request.scores for request in requests):
                raise NothingRecordedError("a request was begun before it was to be judged")
            scores = [np.concatenate(request.scores) for request in requests]
            return probabilities_so_far(self.classifier, scores)
        return self.classifier.probabilities(features.reshape(len(requests), -1)[:, self._columns])

    def look(self, request: Request, n_generated: int) -> bool:
        """Whether it is time to judge a request."""
        return request.stop is None and n_generated >= request.next_look

    def decide(self, request: Request, n_generated: int, found: np.ndarray) -> bool:
        """Take note of a request's probabilities (C,); says whether it must end."""
        request.next_look = n_generated + self.every
        probability = float(found[self._column])
        if probability < self.threshold:
            return False
        request.stop = Stop(request.n_read, n_generated, probability)
        return True

    def verdict(self, request: Request, found: np.ndarray) -> dict[str, Any]:
        """What is said of a request with these probabilities (C,), in plain values."""
        predictions = self.classifier.card
        probabilities = dict(zip(predictions.classes, map(float, found), strict=True))
        of_label = probabilities[self.label]
        if predictions.kind == "multiclass":
            label = max(probabilities, key=lambda name: probabilities[name])
        else:
            others = [name for name in predictions.classes if name != self.label]
            is_so = of_label >= self.threshold
            label = self.label if is_so or not others else others[0]
            if predictions.kind == "multilabel" and not is_so:
                label = ""
        return {
            "classifier": predictions.name,
            "label": label,
            "probabilities": probabilities,
            "threshold": self.threshold,
            "n_tokens": request.n_read,
            "n_prompt_tokens": request.n_prompt,
            "stopped": None if request.stop is None else asdict(request.stop),
        }
