"""Stop a generation when a classifier does not like where it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import StoppingCriteria

from splinellm.errors import ConfigurationError
from splinellm.learn.classifier import Classifier
from splinellm.live import LiveRecorder


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

    Parameters
    ----------
    recorder : LiveRecorder
        Attached to the model that generates.
    classifier : Classifier, or a fitted scikit-learn classifier
        Of the recorder's features in their order (``recorder.schema.names``). Of this library's
        classifiers, those of the same layers and features; that the model is the one that it was
        trained with is up to the caller.
    threshold : float
        Probability from which a row is stopped.
    label : optional
        Class whose probability counts; the last one by default, which of two is the positive one.
    every : int
        Tokens between two looks.

    Attributes
    ----------
    stops : dict of int to Stop
        The rows that were stopped, and where.

    Examples
    --------
    >>> with attach(model, features="blocks") as recorder:  # doctest: +SKIP
    ...     guard = Guard(recorder, classifier, threshold=0.9)
    ...     model.generate(**inputs, stopping_criteria=[guard])
    ...     guard.stops
    {0: Stop(n_tokens=41, n_generated=24, probability=0.93)}
    """

    def __init__(
        self,
        recorder: LiveRecorder,
        classifier: Classifier | ProbabilisticClassifier,
        *,
        threshold: float = 0.5,
        label: Any = None,
        every: int = 8,
    ) -> None:
        if every < 1:
            raise ConfigurationError(f"every is {every}; it must be at least 1")
        if not 0.0 <= threshold <= 1.0:
            raise ConfigurationError(f"threshold {threshold} is not between 0 and 1")
        self._recorder = recorder
        self._classifier = classifier
        classes = list(
            classifier.card.classes if isinstance(classifier, Classifier) else classifier.classes_
        )
        if label is not None and label not in classes:
            raise ConfigurationError(
                f"the classifier has no class '{str(label)[:80]}'",
                hint=f"it has {', '.join(map(str, classes))[:200]}",
            )
        self._column = -1 if label is None else classes.index(label)
        self._threshold = threshold
        self._every = every
        self.stops: dict[int, Stop] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Say which rows are done, shape (B,), bool; called by ``generate`` after every token."""
        del scores, kwargs
        # The token that was just chosen is in `input_ids`, but the model has not read it yet.
        n_read = self._recorder.n_columns
        if n_read == self._recorder.n_prompt_columns:
            self.stops = {}
        n_generated = n_read - self._recorder.n_prompt_columns
        if n_generated % self._every == 0:
            self._look(n_generated)
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        done[[*self.stops]] = True
        return done

    def _look(self, n_generated: int) -> None:
        table = self._recorder.table
        if isinstance(self._classifier, Classifier):
            trained = self._classifier.card.provenance
            given = replace(trained, layers=table.provenance.layers)
            given = replace(given, features=table.provenance.features)
            probabilities = self._classifier.predict(replace(table, provenance=given)).probabilities
        else:
            probabilities = self._classifier.predict_proba(table.values)
        found = probabilities[:, self._column]
        over = [row for row in np.flatnonzero(found >= self._threshold) if row not in self.stops]
        for row in map(int, over):
            self.stops[row] = Stop(int(table.n_tokens[row]), n_generated, float(found[row]))
        self._recorder.finish(map(int, over))
