"""From prompts to a FeatureTable.

The names load on first use: caches and stores do without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splinellm.errors import PrecisionWarning
    from splinellm.extraction.extractor import SplineExtractor
    from splinellm.extraction.verification import VerificationReport

_HOME = {
    "PrecisionWarning": "splinellm.errors",
    "SplineExtractor": "splinellm.extraction.extractor",
    "VerificationReport": "splinellm.extraction.verification",
}

__all__ = ["PrecisionWarning", "SplineExtractor", "VerificationReport"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'splinellm.extraction' has no attribute '{name}'")
