"""The columns that ``splinellm extract`` adds: an extractor as an annotator of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splinellm.table import arrow_schema

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
    """

    def __init__(self, extractor: Extractor, granularity: Granularity = "prompt") -> None:
        self._extractor = extractor
        self._granularity = granularity
        self.schema = arrow_schema(extractor.provenance_at(granularity))

    def annotate(
        self, rows: Chunk, *, on_progress: Listener | None = None
    ) -> tuple[pa.Table, dict[int, PromptError]]:
        """Compute the features of the rows' texts."""
        features, errors = self._extractor.extract_valid(
            rows.texts(), granularity=self._granularity, on_progress=on_progress
        )
        return features.to_arrow(), errors
