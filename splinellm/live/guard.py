"""Stop a generation when a classifier does not like where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import StoppingCriteria

from splinellm.errors import ArtifactError, ConfigurationError
from splinellm.learn.artifact import as_classifier
from splinellm.learn.classifier import Classifier
from splinellm.learn.growing import probabilities_so_far, require_tokens_alone
from splinellm.learn.handed import UP_TO_THE_CALLER, require_match
from splinellm.learn.pooled import Pooled
from splinellm.learn.predictions import DEFAULT_THRESHOLD
from splinellm.live.recorder import LiveRecorder
from splinellm.parameters import number, whole_from
from splinellm.plan import Plan


class ProbabilisticClassifier(Protocol):
    """A fitted scikit-learn classifier, or a pipeline that ends in one."""

    classes_: Any

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803 - scikit-learn's name
        """Probabilities, shape (N, C)."""


@dataclass(frozen=True)
class Stop:
    """Why and where a row was stopped.

    Parameters
    ----------
    n_tokens : int
        Tokens of the row that the classifier judged, prompt included.
    n_generated : int
        How many of them were generated.
    probability : float
        What the classifier said of them.
    """

    n_tokens: int
    n_generated: int
    probability: float


class Guard(StoppingCriteria):
    """Score the running features every few tokens, and stop the rows that reach a threshold.

    The first look is at the prompt alone. The other rows go on, and a guard begins anew with every
    ``generate``. A stopped row's features stay as they were judged.

    Parameters
    ----------
    recorder : LiveRecorder
        Attached to the model that generates.
    classifier : Classifier, its name or folder, or a fitted scikit-learn classifier
        Of the recorder's features in their order (``recorder.schema.names``). Of this library's
        classifiers, those of the same layers and features. One that pools windows of tokens is
        shown those that are complete: its verdict is that of the text up to there. That the model
        is the one that it was trained with is up to the caller.
    threshold : float, optional
        Probability from which a row is stopped; by default the one in the classifier's card, and
        0.5 of any other classifier.
    label : optional
        Class whose probability counts; the last one by default, which of two is the positive one.
    every : int
        Tokens between two looks.

    Raises
    ------
    ConfigurationError
        An argument is impossible, or the classifier was fitted on other columns; in ``generate``:
        there are beams.
    TableFormatError
        The recorder has a row for every token.
    ArtifactError
        One of this library's classifiers needs other layers or features, or what only an encoder
        or a text has; in ``generate``: a probability is not finite.

    Attributes
    ----------
    stops : dict of int to Stop
        The rows that were stopped, and where.

    Examples
    --------
    >>> with attach(model, classifier=classifier) as recorder:  # doctest: +SKIP
    ...     guard = Guard(recorder, classifier, threshold=0.9)
    ...     model.generate(**inputs, stopping_criteria=[guard])
    ...     guard.stops
    {0: Stop(n_tokens=41, n_generated=24, probability=0.93)}
    """

    def __init__(
        self,
        recorder: LiveRecorder,
        classifier: Classifier | ProbabilisticClassifier | str | PathLike[str],
        *,
        threshold: float | None = None,
        label: Any = None,
        every: int = 8,
    ) -> None:
        if not hasattr(recorder, "finish"):  # whoever records as LiveRecorder does will do
            raise ConfigurationError(
                f"a {type(recorder).__name__} is no recorder",
                hint="give what attach gives: with attach(model) as recorder",
            )
        every = whole_from(1, "every", every)
        if threshold is not None and not 0.0 <= number("threshold", threshold) <= 1.0:
            raise ConfigurationError(f"threshold {threshold} is not between 0 and 1")
        if isinstance(classifier, (str, PathLike)):
            classifier = as_classifier(classifier)
        _require_same_columns(recorder, classifier)
        classes = _classes_of(classifier)
        if label is not None and label not in classes:
            raise ConfigurationError(
                f"the classifier has no class '{str(label)[:80]}'",
                hint=f"it has {', '.join(map(str, classes))[:200]}",
            )
        self._recorder = recorder
        self._classifier = classifier
        if isinstance(classifier, Pooled):
            plan = Plan.of(classifier.card.provenance)
            recorder.score_tokens(self, plan, classifier.scorer.logits)
        self._column = -1 if label is None else classes.index(label)
        self._threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        if threshold is None and isinstance(classifier, Classifier):
            name = classes[self._column]
            self._threshold = classifier.card.thresholds.get(name, DEFAULT_THRESHOLD)
        self._every = every
        self._next_look = 0
        self.stops: dict[int, Stop] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Say which rows are done, shape (B,), bool; called by ``generate`` after every token."""
        del scores, kwargs
        recorder = self._recorder
        if len(input_ids) != len(recorder.n_tokens):
            raise ConfigurationError(
                "a guard cannot follow beams", hint="generate with num_beams=1"
            )
        # The token that was just chosen is in `input_ids`, but the model has not read it yet.
        n_generated = recorder.n_columns - recorder.n_prompt_columns
        if n_generated == 0:
            self.stops = {}
            self._next_look = 0
        if n_generated >= self._next_look:
            self._look(n_generated)
            self._next_look = n_generated + self._every
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        done[[*self.stops]] = True
        return done

    def _look(self, n_generated: int) -> None:
        n_tokens = self._recorder.n_tokens
        found = self._probabilities()[:, self._column]
        if not np.isfinite(found).all():  # which reaches no threshold: it would guard nothing
            row = int(np.flatnonzero(~np.isfinite(found))[0])
            raise ArtifactError(
                f"the classifier's probability of row {row} is not finite",
                hint="look at its predict_proba on recorder.table.values",
            )
        over = np.flatnonzero((found >= self._threshold) & ~self._recorder.is_finished).tolist()
        for row in over:
            self.stops[row] = Stop(int(n_tokens[row]), n_generated, float(found[row]))
        self._recorder.finish(over)

    def _probabilities(self) -> np.ndarray:
        classifier = self._classifier
        if isinstance(classifier, Pooled):
            return probabilities_so_far(classifier, self._recorder.token_scores(self))
        table = self._recorder.table
        if isinstance(classifier, Classifier):
            return classifier.probabilities(classifier.columns_of(table, ignoring=UP_TO_THE_CALLER))
        if hasattr(classifier, "feature_names_in_"):  # it was fitted on a frame, and wants one
            return classifier.predict_proba(pd.DataFrame(table.values, columns=[*table.names]))
        return classifier.predict_proba(table.values)


def _classes_of(classifier: Classifier | ProbabilisticClassifier) -> list[Any]:
    if isinstance(classifier, Classifier):
        return list(classifier.card.classes)
    if not hasattr(classifier, "classes_"):  # scikit-learn's are made by fit
        raise ConfigurationError(
            f"this {type(classifier).__name__} is no fitted classifier",
            hint="fit it on features first, or give a classifier of this library",
        )
    return list(classifier.classes_)


def _require_same_columns(
    recorder: LiveRecorder, classifier: Classifier | ProbabilisticClassifier
) -> None:
    """Refuse a classifier of other features before anything is generated."""
    if isinstance(classifier, Classifier):
        card, given = classifier.card, recorder.provenance
        if isinstance(classifier, Pooled):
            require_tokens_alone(classifier)
            given = given.at("token")
        require_match(
            card.provenance,
            given,
            ignoring=UP_TO_THE_CALLER,
            hint="attach(model, classifier=…) records what it reads",
        )
        return
    recorder.provenance.require_prompts("the recorder")
    names = recorder.schema.names
    trained_names = getattr(classifier, "feature_names_in_", None)
    n_trained = getattr(classifier, "n_features_in_", len(names))
    if n_trained != len(names) or (trained_names is not None and tuple(trained_names) != names):
        raise ConfigurationError(
            f"the classifier was not fitted on the recorder's {len(names)} columns",
            hint="attach with the layers and features that it was fitted on",
        )
