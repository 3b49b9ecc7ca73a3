"""Turn what a layer shows during the forward pass into features.

Runs inside the hooks, so nothing of size B x T x K outlives a call. Three reductions share how a
token's numbers come about and differ in what they make of them: one row per prompt
(:class:`PromptReduction`), one per prefix, or one per token (:class:`TokenReduction`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from splinellm import geometry
from splinellm.geometry import DimensionRule, Moments
from splinellm.schema import (
    DISTANCE_FEATURES,
    HYPERPLANE_DISTANCE,
    INTRINSIC_DIMENSION,
    SIGN_FEATURES,
    SIGN_FRACTION,
    FeatureSchema,
    block_name,
)


@dataclass(frozen=True)
class TokenNumbers:
    """What one layer's MLP says of each token.

    Parameters
    ----------
    signs : Tensor, shape (B, T), float32
        Sign fractions s_t.
    distances : Tensor, shape (B, T), float32, or None
        Hyperplane distances d_t, if wanted.
    blocks : Tensor, shape (B, T, n_blocks), float32, or None
        Positive signs counted block by block, if wanted.
    n_hyperplanes : int
        K.
    """

    signs: Tensor
    distances: Tensor | None
    blocks: Tensor | None
    n_hyperplanes: int


class Reduction(ABC):
    """What the hooks of a recorder feed, layer after layer.

    Parameters
    ----------
    schema : FeatureSchema
        What is wanted.
    norms : callable
        Gives for a layer its hyperplane norms, shape (K,), float32. Only called if a distance is
        wanted.
    rule : DimensionRule
        When an attention weight counts.
    """

    def __init__(
        self, schema: FeatureSchema, norms: Callable[[int], Tensor], rule: DimensionRule
    ) -> None:
        self.schema = schema
        self._norms = norms
        self._rule = rule
        self._columns: dict[tuple[int, str], Tensor] = {}
        self._real = self._last = self._broken = torch.empty(0)

    def prepare(self) -> None:
        """Compute the norms before anything is hooked: those of packed weights call the gate."""
        if self.schema.selection.needs_distance:
            for layer in self.schema.layers:
                self._norms(layer)

    def begin(self, real: Tensor, last: Tensor) -> None:
        """Prepare for the next forward pass.

        Parameters
        ----------
        real : Tensor, shape (B, T), bool
            True at the tokens that count.
        last : Tensor, shape (B,), int64
            Index of each prompt's last one.
        """
        self._columns.clear()
        self._real, self._last = real, last
        self._broken = torch.zeros_like(last, dtype=torch.bool)

    def on_gate(self, layer: int, h: Tensor) -> None:
        """Reduce the pre-activations (B, T, K) of a layer's gate."""
        self._to(h.device)
        # A comparison with NaN is false, so that signs would hide an overflow. The residual stream
        # carries a NaN to all later layers, so that the last one shows it.
        if layer == self.schema.layers[-1]:
            self._broken |= (h.isnan().any(dim=-1) & self._real).any(dim=-1)
        selection = self.schema.selection
        counts = geometry.sign_counts(h, selection.n_blocks if selection.needs_blocks else 1)
        self._on_tokens(
            layer,
            TokenNumbers(
                counts.sum(dim=-1) / h.shape[-1],
                geometry.hyperplane_distance(h, self._norms(layer).to(h.device))
                if selection.needs_distance
                else None,
                counts if selection.needs_blocks else None,
                h.shape[-1],
            ),
        )

    @abstractmethod
    def on_attention(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None = None,
    ) -> None:
        """Reduce queries (B, H, T, D) and keys (B, H_kv, S, D) of a layer's attention."""

    @abstractmethod
    def _on_tokens(self, layer: int, numbers: TokenNumbers) -> None:
        """Take in what a layer's MLP says of this forward pass' tokens."""

    @property
    def has_overflowed(self) -> bool:
        """Whether the forward pass made a NaN on any prompt."""
        return bool(self._broken.any())

    def result(self) -> Tensor:
        """Features, shape (B, L, F) or (B, T, L, F), float32, on the CPU, in the schema's order.

        All NaN for a prompt on which the forward pass made a NaN anywhere it was watched.
        """
        values = torch.stack(
            [
                torch.stack([self._columns[layer, name] for name in self.schema.features], -1).cpu()
                for layer in self.schema.layers
            ],
            dim=-2,
        )
        broken = self._broken.cpu().view(-1, *[1] * (values.ndim - 1))
        return values.masked_fill(broken, torch.nan)

    def _keep(self, layer: int, names: tuple[str, ...] | list[str], values: Tensor) -> None:
        for name, column in zip(names, values.unbind(dim=-1), strict=True):
            self._columns[layer, name] = column

    def _keep_summaries(self, layer: int, signs: Tensor, distances: Tensor | None) -> None:
        """Keep statistics (..., 4): mean, min, max, std."""
        self._keep(layer, SIGN_FEATURES, signs)
        if distances is not None:
            # The distance has no maximum among the features.
            mean, low, _, std = distances.unbind(dim=-1)
            self._keep(layer, DISTANCE_FEATURES, torch.stack([low, mean, std], dim=-1))

    def _keep_blocks(self, layer: int, blocks: Tensor, n_tokens: Tensor, k: int) -> None:
        """Keep shares of positive signs: counts (..., n_blocks) over `n_tokens` (...) tokens."""
        n_blocks = blocks.shape[-1]
        sizes = torch.tensor(geometry.block_sizes(k, n_blocks), device=blocks.device)
        names = [block_name(index) for index in range(n_blocks)]
        self._keep(layer, names, (blocks / (n_tokens[..., None] * sizes)).float())

    def _to(self, device: torch.device) -> None:
        # A model split over devices shows its layers in turn; the masks follow.
        if self._last.device != device:
            self._last, self._real = self._last.to(device), self._real.to(device)
            self._broken = self._broken.to(device)


@dataclass
class LayerState:
    """What must be known of a layer's past to go on from there."""

    signs: Moments
    distances: Moments | None
    blocks: Tensor | None
    n_hyperplanes: int

    def followed_by(self, later: LayerState) -> LayerState:
        """State after both pieces; a single past may be followed by many continuations."""
        past = self.repeat(len(later.signs.count)) if len(self.signs.count) == 1 else self
        return LayerState(
            past.signs.followed_by(later.signs),
            past.distances.followed_by(later.distances)
            if past.distances is not None and later.distances is not None
            else None,
            past.blocks + later.blocks
            if past.blocks is not None and later.blocks is not None
            else None,
            later.n_hyperplanes,
        )

    def repeat(self, n_rows: int) -> LayerState:
        """The same single past `n_rows` times."""
        return LayerState(
            self.signs.repeat(n_rows),
            None if self.distances is None else self.distances.repeat(n_rows),
            None if self.blocks is None else self.blocks.expand(n_rows, -1),
            self.n_hyperplanes,
        )


PromptState = dict[int, LayerState]
"""By layer."""


class PromptReduction(Reduction):
    """One row per prompt, read in one forward pass or in several."""

    def __init__(
        self, schema: FeatureSchema, norms: Callable[[int], Tensor], rule: DimensionRule
    ) -> None:
        super().__init__(schema, norms, rule)
        self.state: PromptState = {}
        self._past: PromptState = {}

    def begin(self, real: Tensor, last: Tensor, past: PromptState | None = None) -> None:
        """Prepare for the next forward pass.

        Parameters
        ----------
        real, last : Tensor
            See :meth:`Reduction.begin`.
        past : PromptState, optional
            `state` after the tokens that came before: of the same prompts, or of a single
            beginning that all of them share.
        """
        super().begin(real, last)
        self._past, self.state = past or {}, {}

    def on_attention(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None = None,
    ) -> None:
        """Count the tokens that the last one attends to."""
        self._to(query.device)
        scores = geometry.last_row_scores(query, key, self._last, scaling, mask, softcap)
        # Minus infinity is where the token does not attend.
        self._broken |= (scores.isnan() | scores.isposinf()).any(dim=-1).any(dim=-1)
        dimension = geometry.intrinsic_dimension(scores, self._rule)
        self._keep(layer, (INTRINSIC_DIMENSION,), dimension[:, None])

    def _on_tokens(self, layer: int, numbers: TokenNumbers) -> None:
        real, k = self._real, numbers.n_hyperplanes
        distances, blocks = numbers.distances, numbers.blocks
        state = LayerState(
            Moments.of(numbers.signs, real),
            None if distances is None else Moments.of(distances, real),
            None if blocks is None else blocks.where(real[..., None], 0.0).sum(dim=1),
            k,
        )
        if (past := self._past.get(layer)) is not None:
            state = past.followed_by(state)
        self.state[layer] = state
        summary = None if state.distances is None else state.distances.summary()
        self._keep_summaries(layer, state.signs.summary(), summary)
        if state.blocks is not None:
            self._keep_blocks(layer, state.blocks, state.signs.count, k)


class TokenReduction(Reduction):
    """One row per token: its own numbers, or the features of the prompt up to it.

    Parameters
    ----------
    schema, norms, rule
        See :class:`Reduction`.
    """

    def on_attention(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None = None,
    ) -> None:
        """Count the tokens that each one attends to."""
        self._to(query.device)
        for seen in (query, key[:, :, -query.shape[2] :]):  # (B, heads, T, D)
            self._broken |= (~seen.isfinite().all(dim=-1).all(dim=1) & self._real).any(dim=-1)
        dimension = geometry.dimension_of_every_token(
            query, key, self._rule, scaling, mask, softcap
        )
        self._keep(layer, (INTRINSIC_DIMENSION,), dimension[..., None])

    def _on_tokens(self, layer: int, numbers: TokenNumbers) -> None:
        if self.schema.granularity == "prefix":
            self._keep_prefixes(layer, numbers)
            return
        self._keep(layer, (SIGN_FRACTION,), numbers.signs[..., None])
        if numbers.distances is not None:
            self._keep(layer, (HYPERPLANE_DISTANCE,), numbers.distances[..., None])
        if numbers.blocks is not None:
            one = torch.ones_like(numbers.signs)
            self._keep_blocks(layer, numbers.blocks, one, numbers.n_hyperplanes)

    def _keep_prefixes(self, layer: int, numbers: TokenNumbers) -> None:
        distances = numbers.distances
        self._keep_summaries(
            layer,
            geometry.running_summary(numbers.signs),
            None if distances is None else geometry.running_summary(distances),
        )
        if numbers.blocks is not None:
            # Whole numbers: float64 counts them exactly, whatever the length.
            totals = numbers.blocks.double().cumsum(dim=1)
            length = torch.arange(1, totals.shape[1] + 1, device=totals.device)
            self._keep_blocks(layer, totals, length.expand(totals.shape[:2]), numbers.n_hyperplanes)
