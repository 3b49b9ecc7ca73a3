"""What trials ask of a classifier: a score for every text, and from where on it is a flag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from splinellm.classifiers.classes import TOXIC
from splinellm.errors import ArtifactError
from splinellm.learn.predictions import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from splinellm.extraction.base import Extractor
    from splinellm.learn.classifier import Classifier

Scores = Callable[[Sequence[str]], np.ndarray]
"""From N texts to N numbers that rise with what is looked for."""


@dataclass(frozen=True)
class Judge:
    """Anything that scores texts, be it a classifier of this library or a peer.

    Parameters
    ----------
    name : str
        For tables.
    scores : callable
        From N texts, as they are, to an array of N numbers.
    threshold : float
        Score from which a text is flagged.
    """

    name: str
    scores: Scores
    threshold: float = DEFAULT_THRESHOLD

    def flags(self, texts: Sequence[str]) -> np.ndarray:
        """Whether each text is flagged, shape (N,), bool."""
        return np.asarray(self.scores(texts) >= self.threshold)


def judge_of(
    classifier: Classifier, extractor: Extractor | None = None, *, label: str = TOXIC
) -> Judge:
    """Make a judge of a classifier, pooled or not.

    Parameters
    ----------
    classifier : Classifier
        With the class `label`.
    extractor : Extractor, optional
        See :meth:`splinellm.learn.classifier.Classifier.predict_texts`.
    label : str
        The class whose probability is the score.

    Raises
    ------
    ArtifactError
        The classifier knows no such class.
    """
    card = classifier.card
    if label not in card.classes:
        raise ArtifactError(f"classifier '{card.name}' has no class '{label}'")
    position = card.classes.index(label)
    reader = classifier.default_extractor() if extractor is None else extractor

    def scores(texts: Sequence[str]) -> np.ndarray:
        return classifier.predict_texts(list(texts), reader).probabilities[:, position]

    return Judge(card.name, scores, card.thresholds.get(label, DEFAULT_THRESHOLD))
