"""The columns that ``splinellm extract`` adds: an extractor as an annotator of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from splinellm.table import FeatureTable, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from splinellm.errors import PromptError
    from splinellm.io.pipeline import Listener
    from splinellm.io.rows import Chunk
    from splinellm.provenance import Provenance
    from splinellm.schema import Granularity


class Extractor(Protocol):
    """What is needed of :class:`splinellm.extraction.SplineExtractor`."""

    @property
    def provenance(self) -> Provenance:
        """What the features come from."""
        ...

    def extract_valid(
        self, prompts: Sequence[str], *, on_progress: Listener | None = None
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Features of the prompts that have some, and by index why the others have none."""
        ...


class TokenExtractor(Extractor, Protocol):
    """One that can make a row per token, too."""

    def provenance_at(self, granularity: Granularity) -> Provenance:
        """What rows of this kind come from."""
        ...

    def extract_valid(
        self,
        prompts: Sequence[str],
        *,
        granularity: Granularity = "prompt",
        on_progress: Listener | None = None,
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Features of the prompts that have some, and by index why the others have none."""
        ...


class FeatureAnnotator:
    """Adds ``n_tokens``, ``truncated`` and the features.

    Parameters
    ----------
    extractor : TokenExtractor
        Computes them.
    granularity : {"prompt", "prefix", "token"}
        What a row stands for. Beyond ``prompt``, every row becomes one per token, with ``row``,
        ``position``, ``token``, ``begin`` and ``end`` before the others.
    """

    def __init__(self, extractor: TokenExtractor, granularity: Granularity = "prompt") -> None:
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
