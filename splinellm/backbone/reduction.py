"""Turn what a layer shows during the forward pass into features.

Runs inside the hooks, so nothing of size B x T x K outlives a call: a layer leaves a few numbers
per token, and statistics are made of those for all layers together once the pass is over.
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

Columns = tuple[tuple[str, ...], Tensor]
"""Names of features, and their values, shape (L, B, F) or (L, B, T, F)."""


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
        self._real = self._last = self._broken = torch.empty(0)
        self._kept: dict[int, Tensor] = {}
        self._lengths: dict[int, Tensor] = {}
        self._signs: dict[int, Tensor] = {}
        self._distances: dict[int, Tensor] = {}
        self._blocks: dict[int, Tensor] = {}
        self._sizes: dict[int, Tensor] = {}
        self._dimensions: dict[int, Tensor] = {}

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
        self._real, self._last = real, last
        self._kept = {}
        self._broken = torch.zeros_like(last, dtype=torch.bool)

    def on_gate(self, layer: int, h: Tensor) -> None:
        """Reduce the pre-activations (B, T, K) of a layer's gate."""
        self._to(h.device)
        if self.schema.selection.needs_distance:
            # Now, while the layer's weights are those of the pass: some are only there meanwhile.
            self._lengths[layer] = self._norms(layer)
        if h.shape[1] == 1:
            # One token of each prompt, as in `generate`: small operations would cost more than the
            # numbers, so that all layers are reduced together in the end. A copy, since what the
            # model does to h meanwhile is its own affair.
            self._kept[layer] = h.to(torch.float32, copy=True)
            return
        # A comparison with NaN is false, so that signs would hide an overflow. The residual stream
        # carries a NaN to all later layers, so that the last one shows it.
        if layer == self.schema.layers[-1]:
            self._broken |= (h.isnan().any(dim=-1) & self._real).any(dim=-1)
        self._reduce((layer,), h[None])

    def _reduce(self, layers: tuple[int, ...], h: Tensor) -> None:
        """Reduce the pre-activations (L, B, T, K) of some layers."""
        selection, k = self.schema.selection, h.shape[-1]
        if selection.needs_blocks:
            counts = geometry.sign_counts(h, selection.n_blocks)  # (L, B, T, n_blocks)
            self._signs.update(zip(layers, counts.sum(dim=-1) / k, strict=True))
            self._blocks.update(zip(layers, self._of_blocks(counts), strict=True))
            if not self._sizes.keys() >= set(layers):
                sizes = torch.tensor(geometry.block_sizes(k, selection.n_blocks))
                self._sizes.update(dict.fromkeys(layers, sizes))
        elif selection.needs_sign:
            self._signs.update(zip(layers, geometry.sign_fraction(h), strict=True))
        if selection.needs_distance:
            norms = torch.stack([self._lengths[layer].to(h.device) for layer in layers])
            distances = geometry.hyperplane_distance(h, norms[:, None, None])
            self._distances.update(zip(layers, distances, strict=True))

    def _reduce_kept(self) -> None:
        kept, self._kept = self._kept, {}
        if (h := kept.get(self.schema.layers[-1])) is not None:
            self._broken |= (h.isnan().any(dim=-1) & self._real).any(dim=-1)
        alike: dict[tuple[int, torch.device], list[int]] = {}
        for layer, h in kept.items():
            alike.setdefault((h.shape[-1], h.device), []).append(layer)
        for layers in alike.values():
            self._reduce(tuple(layers), torch.stack([kept[layer] for layer in layers]))

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
        self._to(query.device)
        self._dimensions[layer] = self._dimension(layer, query, key, mask, scaling, softcap)

    @abstractmethod
    def result(self) -> Tensor:
        """Features, shape (B, L, F) or (B, T, L, F), float32, on the CPU, in the schema's order.

        All NaN for a prompt on which the forward pass made a NaN anywhere it was watched.
        """

    @abstractmethod
    def _of_blocks(self, counts: Tensor) -> Tensor:
        """What is kept of some layers' positive signs (L, B, T, n_blocks)."""

    @abstractmethod
    def _dimension(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None,
    ) -> Tensor:
        """Intrinsic dimension of one layer, shape (B,) or (B, T)."""

    def _in_order(self, columns: list[Columns], broken: Tensor) -> Tensor:
        """Pick the wanted features and put layers behind prompts (and tokens)."""
        names = [name for group, _ in columns for name in group]
        wanted = [names.index(name) for name in self.schema.features]
        found = torch.cat([values for _, values in columns], dim=-1)[..., wanted]
        values = found.movedim(0, -2).cpu()
        return values.masked_fill(broken.cpu().view(-1, *[1] * (values.ndim - 1)), torch.nan)

    def _stacked(self, by_layer: dict[int, Tensor]) -> Tensor:
        """One tensor of all layers, (L, ...); a model may be split over devices."""
        return torch.stack([by_layer[layer].to(self._last.device) for layer in self.schema.layers])

    def _shares(self, counts: Tensor, n_tokens: Tensor) -> Columns:
        """Shares of positive signs: counts (L, B, ..., n_blocks) over `n_tokens` (L, B, ...)."""
        sizes = self._stacked(self._sizes)  # (L, n_blocks)
        sizes = sizes.view(len(sizes), *[1] * (counts.ndim - 2), -1)
        names = tuple(block_name(index) for index in range(counts.shape[-1]))
        return names, (counts / (n_tokens[..., None] * sizes)).float()

    def _to(self, device: torch.device) -> None:
        # A model split over devices shows its layers in turn; the masks follow.
        if self._last.device != device:
            self._last, self._real = self._last.to(device), self._real.to(device)
            self._broken = self._broken.to(device)


@dataclass(frozen=True)
class PromptState:
    """What must be known of tokens that were read to go on from there.

    Parameters
    ----------
    n_tokens : Tensor, shape (B,), int64
        Tokens read.
    signs, distances : Moments of shape (L, B), or None
        Of the sign fractions and hyperplane distances, if wanted.
    blocks : Tensor, shape (L, B, n_blocks), float32, or None
        Positive signs, if wanted.
    dimensions : Tensor, shape (L, B), float32, or None
        Intrinsic dimension at the last token, if wanted.
    broken : Tensor, shape (B,), bool
        Whether the forward pass made a NaN where it was watched.
    """

    n_tokens: Tensor
    signs: Moments | None
    distances: Moments | None
    blocks: Tensor | None
    dimensions: Tensor | None
    broken: Tensor

    def followed_by(self, later: PromptState) -> PromptState:
        """State after both pieces; a single past may be followed by many continuations."""
        signs = distances = blocks = dimensions = None
        if self.signs is not None and later.signs is not None:
            signs = self.signs.followed_by(later.signs)
        if self.distances is not None and later.distances is not None:
            distances = self.distances.followed_by(later.distances)
        if self.blocks is not None and later.blocks is not None:
            blocks = self.blocks + later.blocks
        if self.dimensions is not None and later.dimensions is not None:
            dimensions = later.dimensions.where(later.n_tokens > 0, self.dimensions)
        # What a row that read nothing was shown is padding.
        broken = self.broken | (later.broken & (later.n_tokens > 0))
        n_tokens = self.n_tokens + later.n_tokens
        return PromptState(n_tokens, signs, distances, blocks, dimensions, broken)

    def __getitem__(self, rows: Tensor) -> PromptState:
        """Select prompts."""
        return PromptState(
            self.n_tokens[rows],
            None if self.signs is None else self.signs[:, rows],
            None if self.distances is None else self.distances[:, rows],
            None if self.blocks is None else self.blocks[:, rows],
            None if self.dimensions is None else self.dimensions[:, rows],
            self.broken[rows],
        )


class PromptReduction(Reduction):
    """One row per prompt, read in one forward pass or in several."""

    _past: PromptState | None = None

    def begin(self, real: Tensor, last: Tensor, past: PromptState | None = None) -> None:
        """Prepare for the next forward pass.

        Parameters
        ----------
        real, last : Tensor
            See :meth:`Reduction.begin`.
        past : PromptState, optional
            :meth:`state` after the tokens that came before: of the same prompts, or of a single
            beginning that all of them share.
        """
        super().begin(real, last)
        self._past = past

    def state(self) -> PromptState:
        """Statistics of all tokens up to now."""
        self._reduce_kept()
        read = PromptState(
            self._real.sum(dim=-1),
            Moments.of(self._stacked(self._signs), self._real) if self._signs else None,
            Moments.of(self._stacked(self._distances), self._real) if self._distances else None,
            self._stacked(self._blocks) if self._blocks else None,
            self._stacked(self._dimensions) if self._dimensions else None,
            self._broken,
        )
        return read if self._past is None else self._past.followed_by(read)

    def result(self) -> Tensor:
        """Features of the prompts, shape (B, L, F), float32, on the CPU, in the schema's order."""
        return self.features(self.state())

    def features(self, state: PromptState) -> Tensor:
        """Features of prompts that :meth:`state` told of; all NaN for those that are broken."""
        columns = list[Columns]()
        if state.signs is not None:
            columns.append((SIGN_FEATURES, state.signs.summary()))
        if state.distances is not None:
            columns.append(_distance_columns(state.distances.summary()))
        if state.dimensions is not None:
            columns.append(((INTRINSIC_DIMENSION,), state.dimensions[..., None]))
        if state.blocks is not None:
            columns.append(
                self._shares(state.blocks, state.n_tokens.expand(state.blocks.shape[:2]))
            )
        return self._in_order(columns, state.broken)

    def _of_blocks(self, counts: Tensor) -> Tensor:
        return counts.where(self._real[..., None], 0.0).sum(dim=2)

    def _dimension(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None,
    ) -> Tensor:
        scores = geometry.last_row_scores(query, key, self._last, scaling, mask, softcap)
        # Minus infinity is where the token does not attend. What else is not finite makes the
        # output NaN, which the last layer shows, as in on_gate.
        if layer == self.schema.layers[-1]:
            self._broken |= (scores.isnan() | scores.isposinf()).flatten(1).any(dim=-1)
        return geometry.intrinsic_dimension(scores, self._rule)


class TokenReduction(Reduction):
    """One row per token: its own numbers, or the features of the prompt up to it."""

    def result(self) -> Tensor:
        """Features of tokens or prefixes, (B, T, L, F), float32, on the CPU; see the base class."""
        self._reduce_kept()
        return self._in_order(self._columns(), self._broken)

    def _of_blocks(self, counts: Tensor) -> Tensor:
        return counts

    def _dimension(
        self,
        layer: int,  # noqa: ARG002 - as in PromptReduction
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None,
    ) -> Tensor:
        for seen in (query, key[:, :, -query.shape[2] :]):  # (B, heads, T, D)
            self._broken |= (~seen.isfinite().all(dim=-1).all(dim=1) & self._real).any(dim=-1)
        return geometry.dimension_of_every_token(query, key, self._rule, scaling, mask, softcap)

    def _columns(self) -> list[Columns]:
        columns = list[Columns]()
        by_prefix = self.schema.granularity == "prefix"
        if self._signs:
            signs = self._stacked(self._signs)  # (L, B, T)
            columns.append(
                (SIGN_FEATURES, geometry.running_summary(signs))
                if by_prefix
                else ((SIGN_FRACTION,), signs[..., None])
            )
        if self._distances:
            distances = self._stacked(self._distances)
            columns.append(
                _distance_columns(geometry.running_summary(distances))
                if by_prefix
                else ((HYPERPLANE_DISTANCE,), distances[..., None])
            )
        if self._dimensions:
            columns.append(((INTRINSIC_DIMENSION,), self._stacked(self._dimensions)[..., None]))
        if self._blocks:
            counts = self._stacked(self._blocks)  # (L, B, T, n_blocks)
            n_tokens = torch.ones(counts.shape[2], device=counts.device)
            if by_prefix:
                # Whole numbers: float64 counts them exactly, whatever the length.
                counts, n_tokens = counts.double().cumsum(dim=2), n_tokens.cumsum(dim=0)
            columns.append(self._shares(counts, n_tokens.expand(counts.shape[:3])))
        return columns


def _distance_columns(summary: Tensor) -> Columns:
    # The distance has no maximum among the features.
    mean, low, _, std = summary.unbind(dim=-1)
    return DISTANCE_FEATURES, torch.stack([low, mean, std], dim=-1)
