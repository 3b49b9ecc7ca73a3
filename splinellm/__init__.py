"""Spline geometry of large language models, read while they read a prompt.

The public names load on first use, so that ``import splinellm`` (and ``splinellm --help``) does
not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splinellm.backbone.folders import model_path
    from splinellm.errors import SplineLLMError
    from splinellm.extraction import SplineExtractor
    from splinellm.learn.artifact import load_classifier
    from splinellm.learn.metrics import Target
    from splinellm.learn.pooled_classifier import PooledClassifier
    from splinellm.learn.transformer import SplineFeatures
    from splinellm.live.guard import Guard
    from splinellm.live.recorder import attach
    from splinellm.provenance import Provenance
    from splinellm.table import FeatureTable

__version__ = "0.1.0"

_HOME = {
    "FeatureTable": "splinellm.table",
    "Provenance": "splinellm.provenance",
    "Guard": "splinellm.live.guard",
    "PooledClassifier": "splinellm.learn.pooled_classifier",
    "SplineExtractor": "splinellm.extraction",
    "SplineFeatures": "splinellm.learn.transformer",
    "SplineLLMError": "splinellm.errors",
    "Target": "splinellm.learn.metrics",
    "attach": "splinellm.live.recorder",
    "load_classifier": "splinellm.learn.artifact",
    "model_path": "splinellm.backbone.folders",
}

__all__ = [
    "FeatureTable",
    "Guard",
    "PooledClassifier",
    "Provenance",
    "SplineExtractor",
    "SplineFeatures",
    "SplineLLMError",
    "Target",
    "__version__",
    "attach",
    "load_classifier",
    "model_path",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'splinellm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
