"""The features as one writes them down first: the yardstick that the benchmark measures against.

One prompt at a time through the whole language model, eager attention that returns every matrix,
hooks that keep each gate's output, norms computed anew for every prompt, nothing stopped early.
Its numbers are the library's; only its cost differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 0.1


class NaiveExtractor:
    """Compute the paper's features the plain way.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model with its head, of a Llama-like architecture, whose attention
        implementation is ``eager``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @torch.no_grad()
    def extract(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Features of prompts given as token ids.

        Returns
        -------
        Tensor, shape (N, L, 8), float32
            The seven and the intrinsic dimension.
        """
        return torch.stack([self._read(ids) for ids in prompts])

    def _read(self, ids: Sequence[int]) -> Tensor:
        layers = self._model.model.layers
        gates: dict[int, Tensor] = {}
        hooks = [
            layer.mlp.gate_proj.register_forward_hook(partial(_keep, gates, index))
            for index, layer in enumerate(layers)
        ]
        try:
            output = self._model(input_ids=torch.tensor([ids]), output_attentions=True)
        finally:
            for hook in hooks:
                hook.remove()
        rows = []
        for index, layer in enumerate(layers):
            h = gates[index][0].float()  # (T, K)
            norms = layer.mlp.gate_proj.weight.float().norm(dim=1)
            signs = (h > 0).float().mean(dim=1)
            distances = (h.abs() / norms).min(dim=1).values
            last = output.attentions[index][0, :, -1].float()  # (H, T)
            dimension = (last > EPSILON * last.max(dim=1, keepdim=True).values).sum().float()
            rows.append(
                torch.stack(
                    [
                        *(signs.mean(), signs.min(), signs.max(), _std(signs)),
                        *(distances.min(), distances.mean(), _std(distances)),
                        dimension,
                    ]
                )
            )
        return torch.stack(rows)


def _keep(
    gates: dict[int, Tensor], index: int, _module: nn.Module, _args: Any, output: Tensor
) -> None:
    gates[index] = output


def _std(values: Tensor) -> Tensor:
    return values.std() if len(values) > 1 else torch.zeros(())
