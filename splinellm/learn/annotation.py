"""The columns that ``splinellm predict`` adds: a classifier as an annotator of rows."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import TYPE_CHECKING

import pyarrow as pa

from splinellm.learn.classifier import Card, Classifier, require_match
from splinellm.learn.predictions import prediction_schema
from splinellm.table import N_TOKENS, TRUNCATED

if TYPE_CHECKING:
    from splinellm.errors import PromptError
    from splinellm.extraction.base import Extractor
    from splinellm.io.feature_reader import FeatureChunk
    from splinellm.io.pipeline import Listener
    from splinellm.io.rows import Chunk
    from splinellm.provenance import Provenance
    from splinellm.table import FeatureTable

CLASSIFIER_KEY = b"splinellm.classifier"
"""Key of what made the predictions, in Arrow and Parquet schema metadata."""


def added_schema(card: Card) -> pa.Schema:
    """Columns that a classifier adds, with what one must know of it in the metadata."""
    record = dataclasses.asdict(card)
    facts = ("name", "kind", "classes", "thresholds", "classifier_sha256", "provenance")
    return pa.schema(
        [
            pa.field(N_TOKENS, pa.int64(), nullable=False),
            pa.field(TRUNCATED, pa.bool_(), nullable=False),
            *prediction_schema(card.kind, card.classes),
        ],
        metadata={CLASSIFIER_KEY: json.dumps({name: record[name] for name in facts}).encode()},
    )


class NormalisationWarning(UserWarning):
    """A classifier that reads normalised texts is given features of texts as they were."""


class TextClassification:
    """Adds ``n_tokens``, ``truncated`` and predictions to rows of texts.

    Parameters
    ----------
    classifier : Classifier
        Says what the features mean.
    extractor : Extractor
        Computes them.

    Raises
    ------
    ArtifactError
        The extractor's features are not the classifier's; names the first difference.
    """

    def __init__(self, classifier: Classifier, extractor: Extractor) -> None:
        require_match(classifier.card.provenance, extractor.provenance)
        self.schema = added_schema(classifier.card)
        self._classifier = classifier
        self._extractor = extractor

    def annotate(
        self, rows: Chunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Classify the rows' texts."""
        features, errors = self._extractor.extract_valid(
            self._classifier.card.as_read(rows.texts()), on_progress=on_progress
        )
        return _added(self._classifier, features, self.schema), errors


class FeatureClassification:
    """Adds the same columns to rows that come with their features, without any model.

    Parameters
    ----------
    classifier : Classifier
        Says what the features mean.
    provenance : Provenance
        Of the features.

    Raises
    ------
    ArtifactError
        They are not the classifier's; names the first difference.
    """

    def __init__(self, classifier: Classifier, provenance: Provenance) -> None:
        require_match(classifier.card.provenance, provenance)
        if classifier.card.normalisation is not None:
            warnings.warn(
                f"classifier '{classifier.card.name}' reads normalised texts, but these features "
                "are of texts as they were; give it the texts",
                NormalisationWarning,
                stacklevel=2,
            )
        self.schema = added_schema(classifier.card)
        self._classifier = classifier

    def annotate(
        self, rows: FeatureChunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Classify the rows' features."""
        if on_progress is not None:
            on_progress(len(rows), int(rows.features.n_tokens.sum()))
        return _added(self._classifier, rows.features, self.schema), {}


def _added(classifier: Classifier, features: FeatureTable, schema: pa.Schema) -> pa.Table:
    columns = [pa.array(features.n_tokens, pa.int64()), pa.array(features.truncated, pa.bool_())]
    predictions = classifier.predict(features).to_arrow()
    return pa.Table.from_arrays([*columns, *predictions.columns], schema=schema)
