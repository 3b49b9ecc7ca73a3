"""How commands get their model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splinellm.extraction import SplineExtractor


def load_extractor(**settings: Any) -> SplineExtractor:
    """Load the model; the one place where a test can put a fake instead.

    Parameters
    ----------
    **settings
        Of :meth:`splinellm.extraction.SplineExtractor.from_pretrained`.
    """
    from splinellm.extraction import SplineExtractor  # here, because it imports torch

    return SplineExtractor.from_pretrained(**settings)
