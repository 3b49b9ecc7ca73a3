"""The columns that ``splinellm predict`` adds: a classifier as an annotator of rows."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import TYPE_CHECKING

import pyarrow as pa

from splinellm.errors import ArtifactError, PromptError
from splinellm.io.checks import conversation_of
from splinellm.learn.classifier import Card, Classifier, require_match
from splinellm.learn.predictions import SPANS, prediction_schema
from splinellm.table import N_TOKENS, TRUNCATED

if TYPE_CHECKING:
    from splinellm.conversations import Count
    from splinellm.extraction.base import Extractor
    from splinellm.io.feature_reader import FeatureChunk
    from splinellm.io.pipeline import Listener
    from splinellm.io.rows import Chunk
    from splinellm.learn.pooled import Judged, Pooled
    from splinellm.learn.token_reading import Overflow
    from splinellm.provenance import Provenance
    from splinellm.table import FeatureTable

CLASSIFIER_KEY = b"splinellm.classifier"
"""Key of what made the predictions, in Arrow and Parquet schema metadata."""


SPANS_FIELD = pa.field(
    SPANS,
    pa.list_(
        pa.struct(
            [
                pa.field("begin", pa.int64(), nullable=False),
                pa.field("end", pa.int64(), nullable=False),
                pa.field("label", pa.string(), nullable=False),
                pa.field("score", pa.float64(), nullable=False),
            ]
        )
    ),
    nullable=False,
)
"""Where in a text its classes are, in code points."""


def added_schema(card: Card, *, spans: bool = False) -> pa.Schema:
    """Columns that a classifier adds, with what one must know of it in the metadata."""
    record = dataclasses.asdict(card)
    facts = ("name", "kind", "classes", "thresholds", "classifier_sha256", "provenance")
    return pa.schema(
        [
            pa.field(N_TOKENS, pa.int64(), nullable=False),
            pa.field(TRUNCATED, pa.bool_(), nullable=False),
            *prediction_schema(card.kind, card.classes),
            *([SPANS_FIELD] if spans else []),
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
    holds_messages : bool
        Whether the rows hold conversations.

    Raises
    ------
    ArtifactError
        The extractor's features are not the classifier's; names the first difference.
    """

    def __init__(
        self, classifier: Classifier, extractor: Extractor, *, holds_messages: bool = False
    ) -> None:
        require_match(classifier.card.provenance, extractor.provenance)
        self.schema = added_schema(classifier.card)
        self._classifier = classifier
        self._extractor = extractor
        self._holds_messages = holds_messages

    def annotate(
        self, rows: Chunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Classify the rows' texts or conversations."""
        prompts = rows.texts()
        if self._holds_messages:
            prompts = [conversation_of(prompt) for prompt in prompts]
        features, errors = self._extractor.extract_valid(
            self._classifier.card.as_read(prompts), on_progress=on_progress
        )
        return _added(self._classifier, features, self.schema), errors


class PooledClassification:
    """Adds the same columns, and spans if wanted, by a classifier that pools windows.

    Parameters
    ----------
    classifier : Pooled
        Says what the features mean.
    extractor : Extractor
        Computes those of tokens.
    spans : bool
        Whether to say where in the text a class is.
    overflow : {"windows", "error", "truncate"}
        See :meth:`splinellm.learn.pooled.Pooled.predict_texts`.
    holds_messages : bool
        Whether the rows hold conversations; what is said in them is then the text.
    count : str
        What of it; see :func:`splinellm.conversations.said`.

    Raises
    ------
    ArtifactError
        The extractor's features are not the classifier's; names the first difference.
    """

    def __init__(
        self,
        classifier: Pooled,
        extractor: Extractor,
        *,
        spans: bool = False,
        overflow: Overflow = "windows",
        holds_messages: bool = False,
        count: Count = "all",
    ) -> None:
        require_match(classifier.card.provenance, extractor.provenance_at("token"))
        self.schema = added_schema(classifier.card, spans=spans)
        self._classifier = classifier
        self._extractor = extractor
        self._spans = spans
        self._overflow = overflow
        self._holds_messages = holds_messages
        self._count = count

    def annotate(
        self, rows: Chunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Classify the rows' texts, or what is said in their conversations."""
        judged: list[Judged] = []
        errors: dict[int, PromptError] = {}
        prompts = rows.texts()
        if self._holds_messages:
            prompts = [conversation_of(prompt) for prompt in prompts]
        found = self._classifier.judge(
            prompts,
            self._extractor,
            overflow=self._overflow,
            count=self._count,
            on_progress=on_progress,
        )
        for position, one in enumerate(found):
            if isinstance(one, PromptError):
                errors[position] = one
            else:
                judged.append(one)
        columns = [
            pa.array([len(one.of_tokens) for one in judged], pa.int64()),
            pa.array([one.truncated for one in judged], pa.bool_()),
            *self._classifier.predictions(judged).to_arrow().columns,
        ]
        if self._spans:
            spans = [[s._asdict() for s in self._classifier.spans_of(one)] for one in judged]
            columns.append(pa.array(spans, SPANS_FIELD.type))
        return pa.Table.from_arrays(columns, schema=self.schema), errors


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
        if classifier.card.pooling is not None:
            raise ArtifactError(
                f"classifier '{classifier.card.name}' pools windows of a text's tokens",
                hint="give it the texts",
            )
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
