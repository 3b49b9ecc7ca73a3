"""Windows of the sources' texts, read once and kept in a folder: a run that stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.extraction import SplineExtractor
from splinellm.learn.pooling import Pooling
from splinellm.learn.windows import Windows, read_windows
from splinellm.plan import Plan
from splinellm.provenance import Provenance

MAX_TOKENS = 256
"""Of a text, in training; at prediction longer texts are read in windows as well."""

_PART = 2000
"""Texts that are read and kept at a time."""


@dataclass(frozen=True)
class Reading:
    """What is read of every text.

    Parameters
    ----------
    model : str
        A built-in model.
    layers : tuple of int
        Its layers, from 0.
    features : str
        Of each.
    """

    model: str
    layers: tuple[int, ...]
    features: str

    def extractor(self, backbone: Backbone) -> SplineExtractor:
        """Make the extractor that reads it."""
        return SplineExtractor(
            backbone, layers=self.layers, features=self.features, max_tokens=MAX_TOKENS
        )


@dataclass
class Workshop:
    """Reads texts, or finds what was read of them before.

    Parameters
    ----------
    work : Path
        Folder of what was read.
    pooling : Pooling
        How windows are cut.
    """

    work: Path
    pooling: Pooling = field(default_factory=Pooling)
    _backbones: dict[str, Backbone] = field(default_factory=dict)

    def windows(self, reading: Reading, texts: Sequence[str]) -> tuple[Windows, Provenance]:
        """Windows of texts, and the provenance of their tokens."""
        extractor = reading.extractor(self.backbone(reading.model))
        parts = []
        for begin in range(0, len(texts), _PART):
            part = list(texts[begin : begin + _PART])
            path = self.work / f"{self._key(extractor, part)}.npz"
            if not path.is_file():
                _write(path, read_windows(extractor, part, self.pooling))
            parts.append(_read(path))
        return joined(parts), extractor.provenance_at("token")

    def backbone(self, name: str) -> Backbone:
        """Load a model once."""
        if name not in self._backbones:
            self._backbones[name] = load_backbone(name)
        return self._backbones[name]

    def _key(self, extractor: SplineExtractor, texts: Sequence[str]) -> str:
        source = extractor.provenance_at("token")
        what = [
            Plan.of(source).settings(),
            source.weights_sha256,
            self.pooling.settings(),
            list(texts),
        ]
        return hashlib.sha256(json.dumps(what, default=str).encode()).hexdigest()[:32]


def joined(parts: Sequence[Windows]) -> Windows:
    """One after the other."""
    shifts = np.cumsum([0, *(len(part.values) for part in parts)])
    starts = [part.starts[:-1] + shift for part, shift in zip(parts, shifts[:-1], strict=True)]
    return Windows(
        np.concatenate([part.values for part in parts]),
        np.concatenate([*starts, shifts[-1:]]),
        np.concatenate([part.characters for part in parts]),
        np.concatenate([part.n_tokens for part in parts]),
        np.concatenate([part.truncated for part in parts]),
    )


def of_layers(
    windows: Windows, source: Provenance, layers: Sequence[int]
) -> tuple[Windows, Provenance]:
    """What reading fewer of the layers would have given."""
    chosen = [source.layers.index(layer) for layer in layers]
    by_layer = windows.values.reshape(len(windows.values), len(source.layers), -1)
    values = by_layer[:, chosen].reshape(len(windows.values), -1)
    return replace(windows, values=values), replace(source, layers=tuple(layers))


def _write(path: Path, windows: Windows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            values=windows.values,
            starts=windows.starts,
            characters=windows.characters,
            n_tokens=windows.n_tokens,
            truncated=windows.truncated,
        )
    partial.replace(path)


def _read(path: Path) -> Windows:
    with np.load(path) as kept:
        return Windows(
            kept["values"],
            kept["starts"],
            kept["characters"],
            kept["n_tokens"],
            kept["truncated"],
        )
