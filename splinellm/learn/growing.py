"""Classifiers that pool windows of tokens, of texts that are still being written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splinellm.backbone.encoders import attends_both_ways
from splinellm.errors import ArtifactError, PromptError
from splinellm.learn.pooled import Pooled
from splinellm.learn.token_reading import TokenRows
from splinellm.token_index import NOWHERE


def probabilities_so_far(classifier: Pooled, scores: Sequence[np.ndarray]) -> np.ndarray:
    """Probabilities (B, C) of rows, from the scores of their tokens: of windows that are complete.

    A text that is shorter than one window is judged as it is.
    """
    pooling = classifier.scorer.pooling
    judged = []
    for values in scores:
        n_tokens = len(values)
        if pooling.window is not None and n_tokens > pooling.window:
            n_tokens -= (n_tokens - pooling.window) % pooling.stride
        nowhere = np.full(n_tokens, NOWHERE)
        found = classifier.judged(
            TokenRows(values[:n_tokens], nowhere, nowhere, truncated=False), ()
        )
        if isinstance(found, PromptError):
            raise found
        judged.append(found)
    return classifier.predictions(judged).probabilities


def require_tokens_alone(classifier: Pooled) -> None:
    """Refuse a classifier of what a model that generates does not show."""
    card = classifier.card
    if attends_both_ways(card.provenance.architecture):
        raise ArtifactError(
            f"classifier '{card.name}' reads {card.provenance.model}, an encoder, whose tokens see "
            "what comes after them: it has no running features",
            hint="a guard needs a classifier that was trained with the model that generates",
        )
    if classifier.scorer.lexicon_ is not None:
        raise ArtifactError(
            f"classifier '{card.name}' reads words beside features, and a guard sees token ids",
            hint="train one without --hybrid",
        )
