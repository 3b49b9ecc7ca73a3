"""Turn what a layer shows during the forward pass into features.

Runs inside the hooks, so nothing of size B x T x K outlives a call: a layer leaves a few numbers
per token, and statistics are made of those for all layers together once the pass is over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import torch
from torch import Tensor

from splinellm import geometry
from splinellm.backbone.kernels import Activations, of_scores
from splinellm.backbone.merging import Columns, Merged, merging_of
from splinellm.geometry import Attended, DimensionRule
from splinellm.schema import FeatureSchema


class Reduction(ABC):
    """What the hooks of a recorder feed, layer after layer.

    Parameters
    ----------
    schema : FeatureSchema
        What is wanted.
    norms : callable
        Gives for a layer its hyperplane norms, shape (K,), float32. Only called if they are needed.
    rule : DimensionRule
        When an attention weight counts.
    """

    merges_at_once: ClassVar[bool]
    """Whether nothing is asked of single tokens, so that counts are summed inside the hooks."""

    def __init__(
        self, schema: FeatureSchema, norms: Callable[[int], Tensor], rule: DimensionRule
    ) -> None:
        self.schema = schema
        self._norms = norms
        self._rule = rule
        self._real = self._last = self._broken = torch.empty(0)
        self._kept: dict[int, Tensor] = {}
        self._rms: dict[int, Tensor] = {}
        self._lengths: dict[int, Tensor] = {}
        wanted = schema.selection.statistics
        self._of_gate = [it for it in wanted if not it.is_of_attention]
        self._of_attention = [it for it in wanted if it.is_of_attention]
        self._takes_norms = schema.selection.needs_norms
        self._takes_inputs = schema.selection.needs_inputs
        self._values: dict[str, dict[int, Tensor]] = {it.name: {} for it in wanted}
        self._widths = widths = dict[int, int]()
        self._merging = {
            it.name: merging_of(it, lambda: [widths[layer] for layer in schema.layers])
            for it in wanted
        }

    def prepare(self) -> None:
        """Compute the norms before anything is hooked: those of packed weights call the gate."""
        if self._takes_norms:
            for layer in self.schema.layers:
                self._norms(layer)

    def begin(self, real: Tensor, last: Tensor) -> None:
        """Prepare for the next forward pass.

        Parameters
        ----------
        real : Tensor, shape (B, T), bool
            True at the tokens that count.
        last : Tensor, shape (B,), int64
            Index of each prompt's last one; of its first, where tokens attend both ways.
        """
        self._real, self._last = real, last
        self._kept = {}
        self._broken = torch.zeros_like(last, dtype=torch.bool)

    def on_gate(self, layer: int, h: Tensor, x: Tensor | None = None) -> None:
        """Reduce the pre-activations (B, T, K) of a layer's gate.

        Parameters
        ----------
        layer : int
            Which layer.
        h : Tensor, shape (B, T, K)
            Pre-activations.
        x : Tensor, shape (B, T, D), optional
            The gate's inputs, where the selection needs them.
        """
        self._to(h.device)
        if self._takes_inputs and x is not None:
            self._rms[layer] = geometry.root_mean_square(x)
        if self._takes_norms:
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
            self._note_nan(h)
        self._reduce((layer,), h[None])

    def _reduce(self, layers: tuple[int, ...], h: Tensor) -> None:
        """Reduce the pre-activations (L, B, T, K) of some layers."""

        def norms() -> Tensor:
            return torch.stack([self._lengths[it].to(h.device) for it in layers])[:, None, None]

        rms = torch.stack([self._rms[it] for it in layers]) if self._takes_inputs else None
        activations = Activations(h, norms, self._of_gate, rms)
        self._widths.update(dict.fromkeys(layers, h.shape[-1]))
        for statistic in self._of_gate:
            values = self._in_rows(activations[statistic.name], 1)
            if self.merges_at_once:
                values = self._merging[statistic.name].keep(values, self._real)
            self._values[statistic.name].update(zip(layers, values, strict=True))

    def _in_rows(self, values: Tensor, _axis: int, /) -> Tensor:
        """Put the tokens behind the axis of the prompts in the rows that are reduced: a prompt's.

        See :class:`splinellm.backbone.block_reduction.BlockReduction` for others.
        """
        return values

    def _note_nan(self, h: Tensor) -> None:
        # A sum of squares is NaN if one of them is, on every device; infinities make it infinite.
        # Of maxima not every device's shows NaN.
        is_nan = torch.linalg.vector_norm(h, dim=-1).isnan()
        broken = self._in_rows(is_nan, 0)
        self._broken |= (broken & self._real).any(dim=-1)

    def _reduce_kept(self) -> None:
        kept, self._kept = self._kept, {}
        if (h := kept.get(self.schema.layers[-1])) is not None:
            self._note_nan(h)
        alike: dict[tuple[int, torch.device], list[int]] = {}
        for layer, h in kept.items():
            alike.setdefault((h.shape[-1], h.device), []).append(layer)
        for layers in alike.values():
            self._reduce(tuple(layers), torch.stack([kept[layer] for layer in layers]))

    def on_attention(self, layer: int, attended: Attended) -> None:
        """Reduce what a layer attends with."""
        self._to(attended.query.device)
        for name, values in self._reduce_attention(layer, attended).items():
            self._values[name][layer] = values

    @abstractmethod
    def result(self) -> Tensor:
        """Features, shape (B, L, F) or (B, T, L, F), float32, on the CPU, in the schema's order.

        All NaN for a prompt on which the forward pass made a NaN anywhere it was watched.
        """

    @abstractmethod
    def _reduce_attention(self, layer: int, attended: Attended, /) -> dict[str, Tensor]:
        """Numbers of the token `last` (B,) or of every token (B, T), by their statistic's name."""

    def _in_order(self, columns: list[Columns], broken: Tensor) -> Tensor:
        """Pick the wanted features and put layers behind prompts (and tokens)."""
        parts = [values for _, values in columns]
        found = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
        order = _order(tuple(tuple(group) for group, _ in columns), self.schema.features)
        if order is not None:
            found = found[..., order]
        values = found.movedim(0, -2).cpu()
        broken = broken.cpu()
        if not broken.any():
            return values
        return values.masked_fill(broken.view(-1, *[1] * (values.ndim - 1)), torch.nan)

    def _stacked(self, by_layer: dict[int, Tensor], dim: int = 0) -> Tensor:
        """One tensor of all layers, which are its axis `dim`; a model may be split over devices."""
        layers = [by_layer[layer].to(self._last.device) for layer in self.schema.layers]
        return torch.stack(layers, dim)

    def _to(self, device: torch.device) -> None:
        # A model split over devices shows its layers in turn; the masks follow.
        if self._last.device != device:
            self._last, self._real = self._last.to(device), self._real.to(device)
            self._broken = self._broken.to(device)


@lru_cache(maxsize=64)  # of what may be thousands of names
def _order(groups: tuple[tuple[str, ...], ...], wanted: tuple[str, ...]) -> list[int] | None:
    """Places of the wanted columns in groups that follow each other; None if they are these."""
    names = tuple(name for group in groups for name in group)
    if names == wanted:
        return None
    places = {name: place for place, name in enumerate(names)}
    return [places[name] for name in wanted]


@dataclass(frozen=True)
class PromptState:
    """What must be known of tokens that were read to go on from there.

    Parameters
    ----------
    n_tokens : Tensor, shape (B,), int64
        Tokens read.
    merged : mapping of str to Merged
        Of all layers and prompts, by the statistic's name.
    broken : Tensor, shape (B,), bool
        Whether the forward pass made a NaN where it was watched.
    """

    n_tokens: Tensor
    merged: Mapping[str, Merged]
    broken: Tensor

    def followed_by(self, later: PromptState) -> PromptState:
        """State after both pieces; a single past may be followed by many continuations."""
        merged = {name: it.followed_by(later.merged[name]) for name, it in self.merged.items()}
        # What a row that read nothing was shown is padding.
        broken = self.broken | (later.broken & (later.n_tokens > 0))
        return PromptState(self.n_tokens + later.n_tokens, merged, broken)

    def __getitem__(self, rows: Tensor) -> PromptState:
        """Select prompts."""
        merged = {name: it[:, rows] for name, it in self.merged.items()}
        return PromptState(self.n_tokens[rows], merged, self.broken[rows])


class PromptReduction(Reduction):
    """One row per prompt, read in one forward pass or in several."""

    merges_at_once = True
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
        read = self._read()
        return read if self._past is None else self._past.followed_by(read)

    def _read(self) -> PromptState:
        """Statistics of the rows of this pass."""
        self._reduce_kept()
        merged = {
            name: merging.merge(self._stacked(self._values[name]), self._real)
            for name, merging in self._merging.items()
        }
        return PromptState(self._real.sum(dim=-1), merged, self._broken)

    def result(self) -> Tensor:
        """Features of the prompts, shape (B, L, F), float32, on the CPU, in the schema's order."""
        return self.features(self.state())

    def features(self, state: PromptState) -> Tensor:
        """Features of prompts that :meth:`state` told of; all NaN for those that are broken."""
        columns = [it.of_prompts(state.merged[name]) for name, it in self._merging.items()]
        return self._in_order(columns, state.broken)

    def _reduce_attention(self, layer: int, attended: Attended, /) -> dict[str, Tensor]:
        scores = self._scores(attended)
        # Minus infinity is where the token does not attend. What else is not finite makes the
        # output NaN, which the last layer shows, as in on_gate.
        if layer == self.schema.layers[-1]:
            self._broken |= (scores.isnan() | scores.isposinf()).flatten(1).any(dim=-1)
        return {it.name: of_scores(it, scores, self._rule) for it in self._of_attention}

    def _scores(self, attended: Attended) -> Tensor:
        """Scores of each row's last token, (B, H, S)."""
        return geometry.last_row_scores(attended, self._last)


class TokenReduction(Reduction):
    """One row per token: its own numbers, or the features of the prompt up to it."""

    merges_at_once = False

    def result(self) -> Tensor:
        """Features of tokens or prefixes, (B, T, L, F), float32, on the CPU; see the base class."""
        self._reduce_kept()
        columns = []
        for name, merging in self._merging.items():
            is_prefix = self.schema.granularity == "prefix"
            columns_of = merging.of_prefixes if is_prefix else merging.of_tokens
            # Of every token all layers side by side, as its row will have them: nothing of size
            # T x L x F is put into another order then.
            values = self._stacked(self._values[name], dim=2).movedim(2, 0)
            columns.append(columns_of(values))
        return self._in_order(columns, self._broken)

    def _reduce_attention(self, _layer: int, attended: Attended, /) -> dict[str, Tensor]:
        query, key = attended.query, attended.key[:, :, attended.n_earlier :]
        for seen in (query, key):  # (B, heads, T, D)
            self._broken |= (~seen.isfinite().all(dim=-1).all(dim=1) & self._real).any(dim=-1)
        return {
            it.name: geometry.of_every_token(attended, partial(of_scores, it, rule=self._rule))
            for it in self._of_attention
        }
