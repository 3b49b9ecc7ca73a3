"""Scores of single tokens beside the running features, for classifiers that pool them.

A token's features are thousands of numbers; they are made scores at once, and only these are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor

from splinellm.backbone.reduction import PromptReduction, PromptState, TokenReduction
from splinellm.errors import NothingRecordedError
from splinellm.geometry import Attended
from splinellm.schema import FeatureSchema

Score = Callable[[np.ndarray], np.ndarray]
"""From features of tokens, (any, L * F), to their scores, (any, C)."""


@dataclass(frozen=True)
class TokenScores:
    """Scores of the tokens of B rows.

    Parameters
    ----------
    values : ndarray, shape (B, T, C)
        Anything where a token does not count.
    real : ndarray, shape (B, T), bool
        Which do.
    """

    values: np.ndarray
    real: np.ndarray

    def followed_by(self, later: TokenScores) -> TokenScores:
        """Tokens of both pieces."""
        return TokenScores(
            np.concatenate([self.values, later.values], axis=1),
            np.concatenate([self.real, later.real], axis=1),
        )

    def __getitem__(self, index: Any) -> TokenScores:
        rows = index[1].cpu().numpy()  # the first is of layers, which scores are not of
        return TokenScores(self.values[rows], self.real[rows])


@dataclass(frozen=True)
class _Scoring:
    """One way of scoring."""

    name: str
    reduction: TokenReduction
    score: Score

    def hears(self, layer: int) -> bool:
        return layer in self.reduction.schema.layers

    def result(self, real: Tensor) -> TokenScores:
        rows = self.reduction.result().flatten(2).numpy()  # (B, T, L * F)
        scores = self.score(rows.reshape(-1, rows.shape[-1]))
        return TokenScores(scores.reshape(*rows.shape[:2], -1), real.cpu().numpy())


class ScoringReduction(PromptReduction):
    """Running features, and scores of tokens for those who have asked for them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Who is gone wants nothing: a recorder may see many guards.
        self._scorings: WeakKeyDictionary[object, _Scoring] = WeakKeyDictionary()
        self._active: list[_Scoring] = []
        self._numbers = count()

    def score_tokens(self, owner: object, schema: FeatureSchema, score: Score) -> None:
        """Score tokens from the next text on, as long as `owner` lives.

        Parameters
        ----------
        owner : object
            To ask with; see :meth:`scores`.
        schema : FeatureSchema
            What is scored: of granularity ``token``, of layers that are watched.
        score : callable
            Scores of features.
        """
        reduction = TokenReduction(schema, self._norms, self._rule)
        self._scorings[owner] = _Scoring(f"scores {next(self._numbers)}", reduction, score)

    def scores(self, owner: object, state: PromptState) -> list[np.ndarray]:
        """Scores of the tokens of each row that count, (T, C) each.

        Raises
        ------
        NothingRecordedError
            The text was begun before they were asked for.
        """
        found = state.merged.get(self._scorings[owner].name)
        if not isinstance(found, TokenScores):
            raise NothingRecordedError(
                "the model had begun to read before the tokens were to be scored",
                hint="make the guard first, then generate from the start",
            )
        return [values[real] for values, real in zip(found.values, found.real, strict=True)]

    def begin(self, real: Tensor, last: Tensor, past: PromptState | None = None) -> None:
        """Prepare for the next forward pass; see the base class."""
        self._active = list(self._scorings.values())
        if past is not None:
            kept = {*self._merging, *(one.name for one in self._active)}
            merged = {name: it for name, it in past.merged.items() if name in kept}
            past = replace(past, merged=merged)
        super().begin(real, last, past)
        for one in self._active:
            one.reduction.begin(real, last)

    def on_gate(self, layer: int, h: Tensor, x: Tensor | None = None) -> None:
        """Reduce the pre-activations (B, T, K) of a layer's gate, of tokens as well."""
        super().on_gate(layer, h, x)
        for one in self._active:
            if one.hears(layer):
                one.reduction.on_gate(layer, h, x)

    def on_attention(self, layer: int, attended: Attended) -> None:
        """Reduce what a layer attends with, of tokens as well."""
        super().on_attention(layer, attended)
        for one in self._active:
            if one.hears(layer) and one.reduction.schema.selection.needs_attention:
                one.reduction.on_attention(layer, attended)

    def _read(self) -> PromptState:
        read = super()._read()
        scores = {one.name: one.result(self._real) for one in self._active}
        return replace(read, merged={**read.merged, **scores})
