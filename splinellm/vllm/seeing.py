"""Hooks on a served model: the numbers of a step's tokens, reduced where the gates show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splinellm import geometry
from splinellm.backbone.kernels import Activations, of_scores
from splinellm.geometry import Attended, DimensionRule
from splinellm.schema import FeatureSelection
from splinellm.vllm.parts import norms_of, width_of
from splinellm.vllm.requests import Step
from splinellm.vllm.running import PROMPT

_FEW_TOKENS = 32
"""Up to here, all layers are reduced together in the end: small operations cost their call."""


class Seen:
    """What some layers have shown of one step.

    Parameters
    ----------
    gates : list of Module
        The watched layers' fused projections.
    selection : FeatureSelection
        What is wanted of each.
    rule : DimensionRule
        Of the dimension.
    """

    def __init__(
        self, gates: Sequence[nn.Module], selection: FeatureSelection, rule: DimensionRule
    ) -> None:
        self.widths = [width_of(gate) for gate in gates]
        self.of_gate = [it for it in selection.statistics if not it.is_of_attention]
        self.of_attention = [it for it in selection.statistics if it.is_of_attention]
        self.is_broken: Tensor | None = None
        """Which of the step's tokens overflowed, (N,)."""
        self._takes_inputs = selection.needs_inputs
        self._rule = rule
        self._are_alike = len({*self.widths}) == 1
        norms = [norms_of(gate) for gate in gates] if selection.needs_norms else []
        self._layer_norms = norms
        self._norms = torch.stack(norms)[:, None, None] if norms and self._are_alike else None
        self._step: Step | None = None
        self._kept: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._values: dict[str, dict[int, Tensor]] = {}

    def begin(self, step: Step) -> None:
        """Look at a step from now on."""
        self.forget()
        self._step = step

    def forget(self) -> None:
        """Look at nothing."""
        self._step = self.is_broken = None
        self._kept, self._values = {}, {}

    def gate_hook(self, place: int) -> Callable[..., None]:
        """What is called after a layer's projection."""
        width = self.widths[place]

        def hook(_gate: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if (step := self._step) is None:
                return
            whole = output[0] if isinstance(output, tuple) else output
            h = whole[: step.n_tokens, :width]
            x = args[0][: step.n_tokens] if self._takes_inputs else None
            if step.counted is not None:
                h = h[step.counted]
                x = None if x is None else x[step.counted]
            rms = None if x is None else geometry.root_mean_square(x)
            if not len(h):
                return
            if place == len(self.widths) - 1:
                self.is_broken = h.isnan().any(dim=-1)
            if len(h) <= _FEW_TOKENS:
                # A copy, since what the model does to it meanwhile is its own affair.
                self._kept[place] = h.to(torch.float32, copy=True), rms
            else:
                self._reduce([place], h[None, None], None if rms is None else rms[None, None])

        return hook

    def attention_hook(self, place: int, attention: Any) -> Callable[..., None]:
        """What is called before a layer's attention."""
        n_heads, n_key_heads = attention.num_heads, attention.num_kv_heads
        size, scaling = attention.head_size, float(attention.impl.scale)
        window = getattr(attention, "sliding_window", None)
        softcap = getattr(attention.impl, "logits_soft_cap", None) or None

        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            if (step := self._step) is None:
                return
            found = torch.full((len(step.rows),), torch.nan)
            for number, (part, (_, half)) in enumerate(zip(step.pieces, step.rows, strict=True)):
                request = part.request
                whole = part.start == 0 and part.end - part.begin >= request.n_prompt
                if half != PROMPT or not whole or request.n_read:
                    continue
                tokens = slice(part.begin, part.begin + request.n_prompt)
                query, key = args[0][tokens], args[1][tokens]
                heads = query.view(len(query), n_heads, size).transpose(0, 1)[None, :, -1:]
                keys = key.view(len(key), n_key_heads, size).transpose(0, 1)[None]
                if window:
                    keys = keys[:, :, -int(window) :]
                attended = Attended(heads, keys, scaling, None, softcap)
                scores = geometry.last_row_scores(attended, torch.zeros(1, dtype=torch.int64))
                for statistic in self.of_attention:
                    found[number] = of_scores(statistic, scores, self._rule)[0]
                request.has_dimension = True
            for statistic in self.of_attention:
                self._values.setdefault(statistic.name, {})[place] = found

        return hook

    def values(self) -> dict[str, Tensor] | None:
        """Numbers by the statistic's name, (L, N, ...); None if not every layer was seen once."""
        self._reduce_kept()
        n_layers = len(self.widths)
        found = {}
        for statistic in (*self.of_gate, *self.of_attention):
            layers = self._values.get(statistic.name, {})
            if len(layers) != n_layers:
                return None
            found[statistic.name] = torch.stack([layers[place] for place in range(n_layers)])
        return found

    def _reduce_kept(self) -> None:
        if self._kept and self._are_alike:
            places = [*self._kept]
            rms = [it for _, it in self._kept.values() if it is not None]
            self._reduce(
                places,
                torch.stack([h for h, _ in self._kept.values()])[:, None],
                torch.stack(rms)[:, None] if rms else None,
            )
        else:
            for place, (h, one) in self._kept.items():
                self._reduce([place], h[None, None], None if one is None else one[None, None])
        self._kept = {}

    def _reduce(self, places: Sequence[int], h: Tensor, rms: Tensor | None) -> None:
        """Reduce pre-activations (L, 1, N, K) of some layers, the whole row as one text's."""

        def norms() -> Tensor:
            if self._norms is None:
                return torch.stack([self._layer_norms[it] for it in places])[:, None, None]
            return self._norms if len(places) == len(self.widths) else self._norms[list(places)]

        activations = Activations(h, norms, self.of_gate, rms)
        for statistic in self.of_gate:
            values = activations[statistic.name][:, 0]  # (L, N) or (L, N, C)
            self._values.setdefault(statistic.name, {}).update(zip(places, values, strict=True))
