"""Turn what a layer shows during the forward pass into one row of features per prompt.

Runs inside the hooks, so it keeps nothing of size B x T x K beyond the call.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from splinellm import geometry
from splinellm.geometry import DimensionRule
from splinellm.schema import (
    DISTANCE_FEATURES,
    INTRINSIC_DIMENSION,
    SIGN_FEATURES,
    FeatureSchema,
    block_name,
)


class PromptReduction:
    """Features of whole prompts, for one right-padded batch at a time.

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
        self._lengths = torch.empty(0)
        self._real = torch.empty(0)
        self._broken = torch.empty(0)

    def prepare(self) -> None:
        """Compute the norms before anything is hooked: those of packed weights call the gate."""
        if self.schema.selection.needs_distance:
            for layer in self.schema.layers:
                self._norms(layer)

    def begin(self, lengths: Tensor, n_positions: int) -> None:
        """Forget the last batch and prepare for prompts of these lengths, padded to T.

        Parameters
        ----------
        lengths : Tensor, shape (B,), int64
            Real tokens of each prompt, at least 1.
        n_positions : int
            T.
        """
        self._columns.clear()
        self._lengths = lengths
        self._real = geometry.real_tokens(lengths, n_positions)
        self._broken = torch.zeros_like(lengths, dtype=torch.bool)

    def on_gate(self, layer: int, h: Tensor) -> None:
        """Reduce the pre-activations (B, T, K) of a layer's gate."""
        self._to(h.device)
        # A comparison with NaN is false, so that signs would hide an overflow. The residual stream
        # carries a NaN to all later layers, so that the last one shows it.
        if layer == self.schema.layers[-1]:
            self._broken |= (h.isnan().any(dim=-1) & self._real).any(dim=-1)
        selection = self.schema.selection
        if selection.needs_sign:
            self._keep(
                layer, SIGN_FEATURES, geometry.summarise(geometry.sign_fraction(h), self._real)
            )
        if selection.needs_distance:
            norms = self._norms(layer).to(h.device)
            distance = geometry.hyperplane_distance(h, norms)
            # mean, min, max, std -> the distance has no maximum among the features
            mean, low, _, std = geometry.summarise(distance, self._real).unbind(dim=-1)
            self._keep(layer, DISTANCE_FEATURES, torch.stack([low, mean, std], dim=-1))
        if selection.needs_blocks:
            blocks = geometry.sign_block_means(h, self._real, selection.n_blocks)
            names = [block_name(index) for index in range(selection.n_blocks)]
            self._keep(layer, names, blocks)

    def on_attention(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float,
        softcap: float | None = None,
    ) -> None:
        """Reduce queries (B, H, T, D) and keys (B, H_kv, T, D) of a layer's attention."""
        self._to(query.device)
        scores = geometry.last_row_scores(query, key, self._lengths, scaling, mask, softcap)
        self._broken |= scores.isnan().any(dim=-1).any(dim=-1)
        dimension = geometry.intrinsic_dimension(scores, self._rule)
        self._keep(layer, (INTRINSIC_DIMENSION,), dimension[:, None])

    def result(self) -> Tensor:
        """Features of the batch, shape (B, L, F), float32, on the CPU, in the schema's order.

        All NaN for a prompt on which the forward pass made a NaN anywhere it was watched.
        """
        values = torch.stack(
            [
                torch.stack([self._columns[layer, name] for name in self.schema.features], -1).cpu()
                for layer in self.schema.layers
            ],
            dim=1,
        )
        return values.masked_fill(self._broken.cpu()[:, None, None], torch.nan)

    def _keep(self, layer: int, names: tuple[str, ...] | list[str], values: Tensor) -> None:
        for name, column in zip(names, values.unbind(dim=-1), strict=True):
            self._columns[layer, name] = column

    def _to(self, device: torch.device) -> None:
        # A model split over devices shows its layers in turn; the lengths follow.
        if self._lengths.device != device:
            self._lengths, self._real = self._lengths.to(device), self._real.to(device)
            self._broken = self._broken.to(device)
