"""The columns that ``splinellm extract`` adds: an extractor as an annotator of rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from splinellm.errors import OutOfRangeError, TableFormatError
from splinellm.io.checks import conversation_of
from splinellm.layout import Layout, arrow_schema
from splinellm.precision import Precision, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from splinellm.errors import PromptError
    from splinellm.extraction.base import Extractor
    from splinellm.io.pipeline import Listener
    from splinellm.io.rows import Chunk
    from splinellm.schema import Granularity
    from splinellm.table import FeatureTable


class FeatureAnnotator:
    """Adds ``n_tokens``, ``truncated`` and the features.

    Parameters
    ----------
    extractor : Extractor
        Computes them.
    granularity : {"prompt", "prefix", "token"}
        What a row stands for. Beyond ``prompt``, every row becomes one per token, with ``row``,
        ``position``, ``token``, ``begin`` and ``end`` before the others.
    holds_messages : bool
        Whether prompts are conversations; then tokens have ``role`` and ``message``, too.
    layout : {"columns", "list", "tensor"}
        Of the features; see :mod:`splinellm.layout`.
    precision : {"float32", "float16", "uint8"}
        What they are rounded to; a row with a number that is too large is bad.
    """

    def __init__(
        self,
        extractor: Extractor,
        granularity: Granularity = "prompt",
        *,
        holds_messages: bool = False,
        layout: Layout = "columns",
        precision: Precision = "float32",
    ) -> None:
        if holds_messages:
            extractor.require_messages()
        self._extractor = extractor
        self._granularity = granularity
        self._holds_messages = holds_messages
        self._layout = layout
        self._precision = precision
        source = extractor.provenance_at(granularity)
        # The same for all rows of a file, even where every row of a batch is bad.
        self._source = source if holds_messages else source.of_texts
        provenance = replace(self._source, precision=precision)
        self.schema = arrow_schema(provenance, messages=holds_messages, layout=layout)

    def annotate(
        self, rows: Chunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Compute the features of the rows' texts or conversations."""
        prompts = rows.texts()
        if self._holds_messages:
            prompts = [conversation_of(prompt) for prompt in prompts]
        features, errors = self._extractor.extract_valid(
            prompts, granularity=self._granularity, on_progress=on_progress
        )
        if features.provenance.chat_template_sha256 != self._source.chat_template_sha256:
            features = replace(features, provenance=self._source)
        if self._holds_messages and features.tokens is not None:  # though every row may be bad
            features = replace(features, tokens=features.tokens.with_messages())
        if self._precision != "float32":
            good = [position for position in range(len(prompts)) if position not in errors]
            features, beyond = self._rounded(features, good)
            errors |= beyond
        return features.to_arrow(self._layout), errors

    def _rounded(
        self, features: FeatureTable, good: Sequence[int]
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Round the features, but for prompts with a number that is too large."""
        try:
            return features.rounded(self._precision), {}
        except TableFormatError:
            pass
        values = rounded(features.values, features.provenance.features, self._precision)
        is_beyond = ~np.isfinite(values)
        prompts = np.array(good) if features.tokens is None else features.tokens.row
        errors: dict[int, PromptError] = {}
        for row, column in np.argwhere(is_beyond).tolist():
            errors.setdefault(
                int(prompts[row]),
                OutOfRangeError(
                    f"{features.names[column]} is {features.values[row, column]:g}, "
                    f"too large for {self._precision}",
                    hint="--precision float32",
                ),
            )
        kept = features[~np.isin(prompts, list(errors))]
        return kept.rounded(self._precision), errors
