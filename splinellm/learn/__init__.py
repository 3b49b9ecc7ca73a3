"""scikit-learn on top of feature tables: transformer, caches, the models behind them.

The names load on first use: the caches do without scikit-learn, and all of it without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splinellm.extraction.caching import CachedExtractor
    from splinellm.extraction.stores import DiskStore, MemoryStore
    from splinellm.learn.backbones import register_backbone, release_backbones, shared_backbone
    from splinellm.learn.pooled_classifier import PooledClassifier
    from splinellm.learn.transformer import SplineFeatures

_HOME = {
    "CachedExtractor": "splinellm.extraction.caching",
    "DiskStore": "splinellm.extraction.stores",
    "MemoryStore": "splinellm.extraction.stores",
    "PooledClassifier": "splinellm.learn.pooled_classifier",
    "SplineFeatures": "splinellm.learn.transformer",
    "register_backbone": "splinellm.learn.backbones",
    "release_backbones": "splinellm.learn.backbones",
    "shared_backbone": "splinellm.learn.backbones",
}

__all__ = [
    "CachedExtractor",
    "DiskStore",
    "MemoryStore",
    "PooledClassifier",
    "SplineFeatures",
    "register_backbone",
    "release_backbones",
    "shared_backbone",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'splinellm.learn' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
