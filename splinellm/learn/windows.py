"""Windows of many texts, small enough in memory to train on tens of thousands of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from splinellm.errors import PromptError
from splinellm.learn.pooling import Pooling, window_means
from splinellm.learn.token_reading import read_tokens
from splinellm.schema import is_sign_block

if TYPE_CHECKING:
    from splinellm.extraction.base import Extractor, OnProgress

STEPS = 255
"""A share of signs is kept as one of these steps: a byte, an eighth of a double."""

CHUNK_ROWS = 8192
"""Windows that are made floats of at a time."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of N texts, one text after the other.

    Parameters
    ----------
    values : ndarray, shape (W, F), uint8 or float32
        Means over each window's tokens; bytes stand for shares, in 255ths.
    starts : ndarray, shape (N + 1,), int64
        Where the windows of each text begin.
    characters : ndarray, shape (W, 2), int64
        Where each window is in the text that was read; (0, 0) for one that is nowhere.
    n_tokens : ndarray, shape (N,), int64
        Tokens read of each text.
    truncated : ndarray, shape (N,), bool
        Which of them had more.
    """

    values: np.ndarray
    starts: np.ndarray
    characters: np.ndarray
    n_tokens: np.ndarray
    truncated: np.ndarray

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.n_tokens)

    def __getitem__(self, texts: np.ndarray) -> Windows:
        """Windows of some texts."""
        rows = self.index(texts)
        starts = np.concatenate([[0], np.cumsum(self.n_windows[texts])])
        return replace(
            self,
            values=self.values[rows],
            starts=starts,
            characters=self.characters[rows],
            n_tokens=self.n_tokens[texts],
            truncated=self.truncated[texts],
        )

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be what was computed."""
        return 1.0 / STEPS if self.values.dtype == np.uint8 else 1.0

    @property
    def n_windows(self) -> np.ndarray:
        """Windows of each text, shape (N,)."""
        counts: np.ndarray = np.diff(self.starts)
        return counts

    @property
    def owners(self) -> np.ndarray:
        """Text of each window, shape (W,)."""
        owners: np.ndarray = np.repeat(np.arange(len(self)), self.n_windows)
        return owners

    def index(self, texts: np.ndarray) -> np.ndarray:
        """Positions of the windows of some texts, in the order of these."""
        counts = self.n_windows[texts]
        shift = self.starts[texts] - np.concatenate([[0], np.cumsum(counts)[:-1]])
        return np.asarray(np.arange(counts.sum()) + np.repeat(shift, counts))

    def floats(self, rows: np.ndarray | slice) -> np.ndarray:
        """What was computed of some windows, float32."""
        chosen = self.values[rows].astype(np.float32)
        if self.scale != 1.0:
            chosen *= np.float32(self.scale)
        return chosen

    def scores(self, coefficients: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
        """Linear scores of all windows: (F, C) and (C,) to (W, C)."""
        found = np.empty((len(self.values), coefficients.shape[1]))
        weights = coefficients.astype(np.float32)
        for begin in range(0, len(found), CHUNK_ROWS):
            rows = slice(begin, begin + CHUNK_ROWS)
            found[rows] = self.floats(rows) @ weights + intercepts
        return found


def read_windows(
    extractor: Extractor,
    texts: Sequence[str],
    pooling: Pooling,
    *,
    on_progress: OnProgress | None = None,
) -> Windows:
    """Read texts, each once, and keep their windows.

    Parameters
    ----------
    extractor : Extractor
        Computes rows of tokens; texts are cut to its limit.
    texts : sequence of str
        As they are to be read.
    pooling : Pooling
        Says how windows are cut.
    on_progress : callable, optional
        See :meth:`splinellm.extraction.base.Extractor.extract`.

    Raises
    ------
    PromptError
        A text cannot be read; names its position.
    """
    are_shares = all(map(is_sign_block, extractor.provenance_at("token").features))
    values: list[np.ndarray] = []
    characters: list[np.ndarray] = []
    n_tokens: list[int] = []
    truncated: list[bool] = []
    for _, rows in read_tokens(extractor, texts, lambda t: t.values, on_progress=on_progress):
        if isinstance(rows, PromptError):
            raise rows
        bounds = pooling.bounds(len(rows))
        means = window_means(rows.values, bounds)
        if are_shares:
            values.append(np.rint(means * STEPS).astype(np.uint8))
        else:
            values.append(means.astype(np.float32))
        characters.append(rows.characters(bounds))
        n_tokens.append(len(rows))
        truncated.append(rows.truncated)
    counts = [len(part) for part in values]
    return Windows(
        np.concatenate(values),
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate(characters),
        np.array(n_tokens, np.int64),
        np.array(truncated, np.bool_),
    )
