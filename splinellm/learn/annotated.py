"""Annotated parts of texts: what a column of spans says, and which windows it is about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from splinellm.errors import LabelError
from splinellm.learn.windows import Windows
from splinellm.normalisation import normalise

UNKNOWN = -1
"""Of a window whose label the annotation does not tell."""

HALF = 0.5


def read_marks(value: Any, text: str, row: int) -> np.ndarray | None:
    """Which characters of a text are annotated.

    Parameters
    ----------
    value : str, list or None
        Offsets of characters, or pairs of begin and end, in code points; as JSON or as a list. None
        and an empty string: the text was not annotated.
    text : str
        As it was annotated.
    row : int
        Of the text, from 1, for the message.

    Returns
    -------
    ndarray, shape (characters,), bool, or None

    Raises
    ------
    LabelError
        The value is something else, or outside of the text.
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except ValueError as error:
            raise LabelError(f"row {row}: the spans are not JSON") from error
    marks = np.zeros(len(text), np.bool_)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise LabelError(f"row {row}: the spans are a {type(value).__name__}, not a list")
    for item in value:
        pair = item if isinstance(item, Sequence) else (item, item + 1 if _whole(item) else item)
        if len(pair) != 2 or not all(map(_whole, pair)):
            raise LabelError(f"row {row}: the spans are neither offsets nor pairs of begin and end")
        begin, end = pair
        if not 0 <= begin <= end <= len(text):
            raise LabelError(
                f"row {row}: span {begin} to {end} is outside of the text's {len(text)} characters"
            )
        marks[begin:end] = True
    return marks


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def as_read(marks: np.ndarray, text: str) -> np.ndarray:
    """The same marks on the normalised text."""
    read = normalise(text)
    sums = np.concatenate([[0], np.cumsum(marks)])
    begins, ends = np.asarray(read.begins, np.int64), np.asarray(read.ends, np.int64)
    return np.asarray(sums[ends] > sums[begins])


def window_labels(windows: Windows, marks: Sequence[np.ndarray | None]) -> np.ndarray:
    """What annotations say of each window.

    A window that holds at least half of an annotated part, or that is at least half annotated,
    counts as annotated. One that holds less of it is unknown, as are the windows of texts without
    any annotation: somebody may have found the text bad without saying where.

    Parameters
    ----------
    windows : Windows
        Of N texts.
    marks : sequence of ndarray or None
        Annotated characters of each text as it was read.

    Returns
    -------
    ndarray, shape (W,), int8
        1, 0, or :data:`UNKNOWN`.
    """
    labels = np.full(len(windows.values), UNKNOWN, np.int8)
    for text, marked in enumerate(marks):
        if marked is None or not marked.any():
            continue
        padded = np.concatenate([[False], marked, [False]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(padded)).reshape(-1, 2)
        for window in range(windows.starts[text], windows.starts[text + 1]):
            begin, end = windows.characters[window].tolist()
            if begin < end:
                labels[window] = _label(begin, end, edges)
    return labels


def _label(begin: int, end: int, parts: np.ndarray) -> int:
    shared = np.clip(np.minimum(end, parts[:, 1]) - np.maximum(begin, parts[:, 0]), 0, None)
    if not shared.any():
        return 0
    lengths = parts[:, 1] - parts[:, 0]
    is_marked = (shared >= HALF * lengths).any() or shared.sum() >= HALF * (end - begin)
    return 1 if is_marked else UNKNOWN
