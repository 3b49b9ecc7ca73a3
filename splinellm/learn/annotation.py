"""The columns that ``splinellm predict`` adds: a classifier as an annotator of rows."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from splinellm.errors import ArtifactError
from splinellm.io.checks import conversation_of
from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier, warn_of_normalisation
from splinellm.learn.handed import require_match
from splinellm.learn.lengths import warn_of_length
from splinellm.learn.predictions import SPANS, prediction_schema
from splinellm.learn.verdicts import Verdicts
from splinellm.table import N_TOKENS, TRUNCATED

if TYPE_CHECKING:
    from splinellm.conversations import Count
    from splinellm.errors import PromptError
    from splinellm.extraction.base import Extractor
    from splinellm.extraction.windows import Overflow
    from splinellm.io.feature_reader import FeatureChunk
    from splinellm.io.pipeline import Listener
    from splinellm.io.rows import Chunk
    from splinellm.provenance import Provenance

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


class TextClassification:
    """Adds ``n_tokens``, ``truncated`` and predictions to rows of texts, and spans if wanted.

    Parameters
    ----------
    classifier : Classifier
        Says what the features mean.
    extractor : Extractor
        Computes them.
    holds_messages : bool
        Whether the rows hold conversations.
    spans : bool
        Whether to say where in the text a class is; for classifiers that pool windows.
    overflow : {"windows", "error", "truncate"}
        See :meth:`splinellm.learn.classifier.Classifier.predict_texts`.
    count : str
        What of conversations, to a classifier that pools; see
        :func:`splinellm.conversations.said`.

    Raises
    ------
    ArtifactError
        The extractor's features are not the classifier's; names the first difference.
    ChatTemplateError
        Conversations are to be read, and the extractor cannot.
    """

    def __init__(
        self,
        classifier: Classifier,
        extractor: Extractor,
        *,
        holds_messages: bool = False,
        spans: bool = False,
        overflow: Overflow = "windows",
        count: Count = "all",
    ) -> None:
        granularity = classifier.card.provenance.granularity
        require_match(
            classifier.card.provenance,
            extractor.provenance_at(granularity),
            of_texts=not holds_messages,
        )
        if holds_messages and classifier.card.pooling is None:  # who pools reads what is said
            extractor.require_messages()
        self.schema = added_schema(classifier.card, spans=spans)
        self._classifier = classifier
        self._extractor = extractor
        self._holds_messages = holds_messages
        self._spans = spans
        self._overflow = overflow
        self._count = count

    def annotate(
        self, rows: Chunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Classify the rows' texts or conversations."""
        prompts = rows.texts()
        if self._holds_messages:
            prompts = [conversation_of(prompt) for prompt in prompts]
        found = self._classifier.verdicts(
            prompts,
            self._extractor,
            overflow=self._overflow,
            count=self._count,
            on_progress=on_progress,
        )
        columns = found.columns()
        if self._spans:
            pooled: Any = self._classifier  # only those tell
            spans = [[s._asdict() for s in pooled.spans_of(one)] for one in found.judged]
            columns.append(pa.array(spans, SPANS_FIELD.type))
        return pa.Table.from_arrays(columns, schema=self.schema), found.errors


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
            warn_of_normalisation(classifier.card)
        self.schema = added_schema(classifier.card)
        self._classifier = classifier

    def annotate(
        self, rows: FeatureChunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Classify the rows' features."""
        if on_progress is not None:
            on_progress(len(rows), int(rows.features.n_tokens.sum()))
        features = rows.features
        predictions = self._classifier.predict_table(features)
        warn_of_length(self._classifier.card, features.n_tokens)
        found = Verdicts(predictions, features.n_tokens, features.truncated)
        return pa.Table.from_arrays(found.columns(), schema=self.schema), {}
