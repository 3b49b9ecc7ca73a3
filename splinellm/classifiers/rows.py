"""Rows that the boxed classifiers are trained on: texts, labels, weights, annotated characters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from splinellm.classifiers import sources
from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.domains import OTHER, like_any, lines_of_domains, with_pieces
from splinellm.classifiers.short_domains import short_texts
from splinellm.classifiers.sources import TOXICITY_SOURCES
from splinellm.learn.annotated import as_read
from splinellm.learn.labels import Labels
from splinellm.normalisation import normalise

WEIGHTS = {"davidson": 0.15, "toxic_spans": 0.15, "templates": 3.0}
"""Of sources. Two count less: one calls offensive what others do not, the other has no text without
a span to tell its own style from toxicity. Our own count more: they are few. One for the others."""

PIECE_WEIGHT = 0.3
"""Of a short piece beside a whole text: more would cost whole texts that are short."""

DOMAINS = "domains"


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows.

    Parameters
    ----------
    texts : list of str
        Normalised.
    label : ndarray of str, shape (N,)
        Of each.
    source : ndarray of str, shape (N,)
        Where each comes from.
    weights : ndarray, shape (N,)
        How much each counts.
    marks : list of ndarray or None
        Annotated characters of each text as it is read.
    origins : ndarray of int, shape (N,), optional
        Which rows are of one text: the same number for the text and for pieces of it.
    is_piece : ndarray of bool, shape (N,), optional
        Which were cut from another row.
    """

    texts: list[str]
    label: np.ndarray
    source: np.ndarray
    weights: np.ndarray
    marks: list[np.ndarray | None]
    origins: np.ndarray | None = None
    is_piece: np.ndarray | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.texts)

    def __getitem__(self, rows: np.ndarray) -> Rows:
        """Select rows."""
        return Rows(
            [self.texts[row] for row in rows],
            self.label[rows],
            self.source[rows],
            self.weights[rows],
            [self.marks[row] for row in rows],
            None if self.origins is None else self.origins[rows],
            None if self.is_piece is None else self.is_piece[rows],
        )

    def followed_by(self, others: Rows) -> Rows:
        """These rows, then others; none of them pieces."""
        return Rows(
            [*self.texts, *others.texts],
            np.concatenate([self.label, others.label]),
            np.concatenate([self.source, others.source]),
            np.concatenate([self.weights, others.weights]),
            [*self.marks, *others.marks],
        )

    @property
    def labels(self) -> Labels:
        """The labels as a task."""
        return Labels.from_columns({"label": list(self.label)})


def toxicity_rows(data: Path) -> Rows:
    """All rows of all toxicity sources, and the texts of other domains as clean ones.

    Within a source that has both, toxic and clean rows weigh the same: otherwise a source's style
    speaks for the label that is common in it.
    """
    frames = []
    for name, read in TOXICITY_SOURCES.items():
        frame = read(data)
        weights = balanced(frame["label"].to_numpy()) * WEIGHTS.get(name, 1.0)
        frames.append(frame.assign(source=name, weight=weights))
    domains = sources.domains(data)
    kept = domains["label"] != "wiki_talk"  # those come from jigsaw
    frames.append(domains[kept].assign(label=CLEAN, source=DOMAINS, weight=1.0))
    return _rows(pd.concat(frames, ignore_index=True))


def marked_rows(data: Path) -> Rows:
    """Rows whose characters people marked."""
    return _rows(sources.toxic_spans(data).assign(source="toxic_spans", weight=1.0))


def domain_rows(data: Path) -> Rows:
    """Texts of eight domains, tweets and sentences of our own that are of none, and their pieces.

    What is like a text that the classifier is tried on is left out; see
    :mod:`splinellm.classifiers.short_domains`.
    """
    frames = [sources.domains(data).assign(source=DOMAINS)]
    tweets = sources.davidson(data).sample(1500, random_state=0)
    own = sources.templates(data)
    own = own[(own["label"] == CLEAN) & ~like_any(own["text"], lines_of_domains())]
    frames.append(tweets.assign(label=OTHER, source="davidson"))
    frames.append(own.assign(label=OTHER, source="templates"))
    rows = with_pieces(pd.concat(frames, ignore_index=True))
    tried = [one.text for one in short_texts()]
    rows = rows[~like_any(rows["text"], tried)]
    return _rows(rows.assign(weight=np.where(rows["is_piece"], PIECE_WEIGHT, 1.0)))


def jigsaw_types(data: Path) -> tuple[Rows, Labels]:
    """Comments with the six labels that each may have."""
    frame = sources.jigsaw(data).reset_index(drop=True)
    rows = _rows(frame.assign(source="jigsaw", weight=1.0))
    columns: dict[str, Sequence[object]] = {n: list(frame[n]) for n in sources.JIGSAW_LABELS}
    return rows, Labels.from_columns(columns)


def balanced(label: np.ndarray) -> np.ndarray:
    """Weights with which toxic and clean rows count alike; ones where there are not both."""
    weights = np.ones(len(label))
    if {TOXIC, CLEAN} <= set(label):
        for name in (TOXIC, CLEAN):
            weights[label == name] = 0.5 * len(label) / np.sum(label == name)
    return weights


def _rows(frame: pd.DataFrame) -> Rows:
    texts = list(frame["text"])
    spans: Sequence[object] = list(frame["spans"]) if "spans" in frame else [None] * len(frame)
    marks = [
        _marks(value, text, source)
        for value, text, source in zip(spans, texts, frame["source"], strict=True)
    ]
    return Rows(
        [normalise(text).text for text in texts],
        frame["label"].to_numpy(str),
        frame["source"].to_numpy(str),
        frame["weight"].to_numpy(float),
        marks,
        frame["origin"].to_numpy(np.int64) if "origin" in frame else None,
        frame["is_piece"].to_numpy(bool) if "is_piece" in frame else None,
    )


def _marks(value: object, text: str, source: str) -> np.ndarray | None:
    """Annotated characters of a text as it is read; only one source was annotated by people."""
    if source != "toxic_spans":
        return None
    marks = np.zeros(len(text), np.bool_)
    marks[json.loads(str(value))] = True
    return as_read(marks, text)
