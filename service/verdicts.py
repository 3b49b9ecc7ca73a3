"""What a classifier says of an input, however many windows it was read in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier
from splinellm.learn.pooled import Judged, Pooled
from splinellm.learn.predictions import PROBABILITY, Predictions, scored_classes
from splinellm.learn.spans import Span
from splinellm.plan import Plan
from splinellm.table import FeatureTable

if TYPE_CHECKING:
    from service.drift import DriftWindow
    from service.served_model import ServedModel


@dataclass(frozen=True)
class Extent:
    """How much of an input a classifier has read.

    Parameters
    ----------
    n_tokens : int
        Tokens, those of overlapping windows once.
    truncated : bool
        Whether the end was not read.
    windows : int
        Overlapping parts that it was read in.
    """

    n_tokens: int
    truncated: bool
    windows: int


@dataclass(frozen=True)
class Verdict:
    """What a classifier says of one input.

    Parameters
    ----------
    label : str or None
        The class; None where several labels may hold.
    labels : list of str
        The class, or every label that holds.
    probabilities : dict of str to float
        By class.
    flags : dict of str to bool
        Whether each probability reaches its class' threshold.
    spans : tuple of Span
        Where in the text its classes are, if the classifier tells.
    extent : Extent
        What was read of the input.
    decided_by : str or None
        Of a cascade: the classifier whose verdict this is, or ``person``, whom it is left to.
    """

    label: str | None
    labels: list[str]
    probabilities: dict[str, float]
    flags: dict[str, bool]
    spans: tuple[Span, ...] = ()
    extent: Extent = Extent(0, truncated=False, windows=0)
    decided_by: str | None = None


@dataclass(frozen=True, eq=False)
class ServedClassifier:
    """A loaded classifier and the model that it reads.

    Parameters
    ----------
    name : str
        What requests call it.
    classifier : Classifier
        Estimators and card.
    model : ServedModel
        The loaded model that computes its features.
    plan : Plan
        What to compute.
    drift : DriftWindow or None
        What it judged lately, if it is watched.
    """

    name: str
    classifier: Classifier
    model: ServedModel
    plan: Plan
    drift: DriftWindow | None = None

    @property
    def card(self) -> Card:
        """Everything about it."""
        return self.classifier.card

    @property
    def harmless(self) -> str | None:
        """The class of a binary task that stands for nothing found."""
        return self.card.classes[0] if self.card.kind == "binary" else None

    @property
    def pooled(self) -> Pooled | None:
        """The classifier, if it reads tokens and pools the scores of their windows."""
        return self.classifier if isinstance(self.classifier, Pooled) else None

    @property
    def overlap(self) -> int:
        """Tokens that a piece of a long text reads again of the one before; 0 for windows."""
        return 0 if self.pooled is None else self.pooled.overlap

    @property
    def knows_template(self) -> bool:
        """Whether conversations are rendered as they were when it was trained."""
        trained_with = self.card.provenance.chat_template_sha256
        if self.pooled is not None or not trained_with:  # who pools reads what is said
            return True
        return self.model.provenance(self.plan).chat_template_sha256 in ("", trained_with)

    def with_threshold(self, threshold: float | Mapping[str, float]) -> ServedClassifier:
        """The same, read in the same pass, with other thresholds."""
        return replace(self, classifier=self.classifier.with_threshold(threshold))

    def verdicts_of(self, judged: Sequence[Judged], *, is_watched: bool = False) -> list[Verdict]:
        """Tell what became of inputs whose windows were pooled, and where its classes are."""
        pooled = self.pooled
        assert pooled is not None  # noqa: S101 (nothing else is judged so)
        predictions = pooled.predictions(judged)
        if is_watched and self.drift is not None:
            lengths = np.array([len(one.of_tokens) for one in judged])
            self.drift.add(lengths, self._scores(predictions))
        verdicts = _verdicts(predictions)
        return [
            replace(verdict, spans=tuple(pooled.spans_of(one)))
            for verdict, one in zip(verdicts, judged, strict=True)
        ]

    def verdicts(
        self, table: FeatureTable, owners: Sequence[int], *, is_watched: bool = False
    ) -> list[Verdict]:
        """Judge inputs by their windows: the worst window decides.

        Parameters
        ----------
        table : FeatureTable
            A row per window, with at least the classifier's columns.
        owners : sequence of int
            The input that each window is of: 0, 1, 2, ... without gaps, in ascending order.
        is_watched : bool
            Whether they count for drift: each with its first window's features.

        Returns
        -------
        list of Verdict
            One per input.
        """
        of_windows = self.classifier.predict_table(table)
        of_inputs = of_windows.of_texts(np.asarray(owners, int), table.n_tokens)
        if is_watched and self.drift is not None:
            first = table[np.unique(owners, return_index=True)[1]]
            self.drift.add(first.n_tokens, self._scores(of_inputs), first)
        return _verdicts(of_inputs)

    def _scores(self, predictions: Predictions) -> dict[str, np.ndarray]:
        columns = (f"{PROBABILITY}.{name}" for name in predictions.classes)
        return dict(zip(columns, predictions.probabilities.T, strict=True))


def threshold_classes(classifiers: Iterable[ServedClassifier]) -> list[str]:
    """Classes that have a threshold, of any classifier."""
    found = [scored_classes(one.card.kind, one.card.classes) for one in classifiers]
    return sorted({name for names in found for name in names})


@dataclass(frozen=True)
class Pass:
    """Classifiers that one forward pass serves.

    Parameters
    ----------
    model : ServedModel
        Whose it is.
    plan : Plan
        With the layers and features of all of them.
    classifiers : tuple of ServedClassifier
        At least one.
    """

    model: ServedModel
    plan: Plan
    classifiers: tuple[ServedClassifier, ...]

    @property
    def overlap(self) -> int:
        """Tokens that a piece of a long text reads again of the one before."""
        return self.classifiers[0].overlap

    @property
    def card(self) -> Card:
        """That of the first classifier, which says for all of them how texts are normalised."""
        return self.classifiers[0].card


def passes(classifiers: Sequence[ServedClassifier]) -> list[Pass]:
    """Group classifiers so that as few forward passes as possible serve all."""
    found: list[Pass] = []
    for classifier in classifiers:
        for position, other in enumerate(found):
            if other.model is not classifier.model:
                continue
            if other.card.normalisation != classifier.card.normalisation:
                continue  # they read different texts
            if other.overlap != classifier.overlap:
                continue  # or the same in different pieces
            try:
                plan = other.plan.union(classifier.plan)
            except ValueError:  # their token limits, say, differ
                continue
            found[position] = Pass(other.model, plan, (*other.classifiers, classifier))
            break
        else:
            found.append(Pass(classifier.model, classifier.plan, (classifier,)))
    return found


def _verdicts(predictions: Predictions) -> list[Verdict]:
    """One for each input."""
    predicted: Sequence[str | None] = (
        [None] * len(predictions) if predictions.kind == "multilabel" else predictions.predicted
    )
    return [
        _verdict(label, predictions.classes, row, flags)
        for label, row, flags in zip(
            predicted, predictions.probabilities, predictions.flags, strict=True
        )
    ]


def _verdict(
    label: str | None, classes: Sequence[str], probabilities: np.ndarray, flags: np.ndarray
) -> Verdict:
    by_class = dict(zip(classes, flags.tolist(), strict=True))
    labels = [name for name, holds in by_class.items() if holds] if label is None else [label]
    return Verdict(label, labels, dict(zip(classes, probabilities.tolist(), strict=True)), by_class)
