"""The features as one writes them down first: the yardstick at the lower end.

One prompt at a time through the whole language model, eager attention that returns every matrix,
hooks that keep each gate's output, norms computed anew for every prompt, nothing stopped early.
Its numbers are the library's; only its cost differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from splinellm.backbone.decoder import Decoder

EPSILON = 0.1


class NaiveExtractor:
    """Compute the paper's features the plain way.

    Parameters
    ----------
    decoder : Decoder
        A model without its head. The head's matrix product is made with the embedding, which has
        the same shape, and in small models is the same matrix.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @torch.no_grad()
    def extract(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Features of prompts given as token ids.

        Returns
        -------
        Tensor, shape (N, L, 8), float32
            The seven and the intrinsic dimension.
        """
        model = self._decoder.model
        previous = model.config._attn_implementation  # noqa: SLF001 - no public name
        model.set_attn_implementation("eager")
        try:
            return torch.stack([self._read(ids) for ids in prompts])
        finally:
            model.set_attn_implementation(previous)

    def _read(self, ids: Sequence[int]) -> Tensor:
        decoder, model = self._decoder, self._decoder.model
        is_encoder = decoder.architecture.is_encoder
        gates = [
            decoder.architecture.gate_of(layer)
            for layer in decoder.architecture.decoder_layers(model)
        ]
        seen: list[Tensor] = []
        ends = [gate.watch(seen.append) for gate in gates]
        try:
            output = model(
                input_ids=torch.tensor([ids], device=decoder.device), output_attentions=True
            )
            if not is_encoder:
                embedding = model.get_input_embeddings().get_parameter("weight")
                F.linear(output.last_hidden_state, embedding)  # the logits, which nobody uses
        finally:
            for end in ends:
                end()
        rows = []
        for gate, pre_activations, attention in zip(gates, seen, output.attentions, strict=True):
            h = pre_activations[0].float()  # (T, K)
            norms = gate.norms(decoder.hidden_size, decoder.device)
            signs = (h > 0).float().mean(dim=1)
            distances = (h.abs() / norms).min(dim=1).values
            last = attention[0, :, 0 if is_encoder else -1].float()  # (H, T)
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


def _std(values: Tensor) -> Tensor:
    return values.std() if len(values) > 1 else values.new_zeros(())
