"""A pooled classifier of planted texts over a tiny model, trained once for all tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from splinellm import SplineExtractor
from splinellm.learn.labels import Labels
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from tests.planted import planted_texts
from tests.tiny import tiny_backbone

POOLING = Pooling(window=8, stride=4)
SETTINGS: dict[str, Any] = {"features": "blocks:8", "max_tokens": 96}
TEXTS = planted_texts(100)
LABELS = Labels("binary", ("clean", "toxic"), np.arange(100) % 2)


@cache
def extractor() -> SplineExtractor:
    return SplineExtractor(tiny_backbone("llama"), **SETTINGS)


def marked(text: str) -> np.ndarray:
    """The bad word's characters."""
    begin = text.index("idiot")
    return np.array([begin <= i < begin + 5 for i in range(len(text))])


@cache
def trained(*, hybrid: bool = False, normalisation: str | None = None) -> Pooled:
    marks = [
        marked(text) if toxic else None for text, toxic in zip(TEXTS, LABELS.values, strict=True)
    ]
    return train_pooled(
        TEXTS,
        LABELS,
        extractor(),
        name="p",
        settings=PooledSettings(POOLING, hybrid=hybrid, n_components=None),
        marks=None if hybrid else marks,
        abstain=0.2,
        normalisation=normalisation,
    )
