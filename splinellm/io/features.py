"""The columns that ``splinellm extract`` adds: an extractor as an annotator of rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from splinellm.io.checks import conversation_of
from splinellm.layout import Layout, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from splinellm.errors import PromptError
    from splinellm.extraction.base import Extractor
    from splinellm.io.pipeline import Listener
    from splinellm.io.rows import Chunk
    from splinellm.schema import Granularity


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
    """

    def __init__(
        self,
        extractor: Extractor,
        granularity: Granularity = "prompt",
        *,
        holds_messages: bool = False,
        layout: Layout = "columns",
    ) -> None:
        self._extractor = extractor
        self._granularity = granularity
        self._holds_messages = holds_messages
        self._layout = layout
        provenance = extractor.provenance_at(granularity)
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
        if self._holds_messages and features.tokens is not None:  # though every row may be bad
            features = replace(features, tokens=features.tokens.with_messages())
        return features.to_arrow(self._layout), errors
