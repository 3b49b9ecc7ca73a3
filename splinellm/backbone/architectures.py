"""Where each architecture keeps the parts that are observed. One entry each, nothing else.

To add one: find its ``model_type`` in transformers, say where the decoder layers are and where
their attention and the first linear map of their MLP sit, and the parametrised tests do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import cast

from torch import nn

from splinellm.errors import UnsupportedArchitectureError


@dataclass(frozen=True)
class Architecture:
    """Paths inside a transformers base model (without its language-model head).

    Parameters
    ----------
    model_type : str
        transformers' name of the architecture.
    layers : str
        Path from the base model to the list of decoder layers.
    attention : str
        Path from a decoder layer to its attention module.
    gate : str
        Path from a decoder layer to the first linear map of its MLP, whose rows are the
        hyperplanes.
    """

    model_type: str
    layers: str = "layers"
    attention: str = "self_attn"
    gate: str = "mlp.gate_proj"

    def decoder_layers(self, model: nn.Module) -> nn.ModuleList:
        """Decoder layers of `model`, in order."""
        return cast(nn.ModuleList, attrgetter(self.layers)(model))

    def attention_of(self, layer: nn.Module) -> nn.Module:
        """Attention module of a decoder layer."""
        return cast(nn.Module, attrgetter(self.attention)(layer))

    def gate_of(self, layer: nn.Module) -> nn.Module:
        """First linear map of a decoder layer's MLP."""
        return cast(nn.Module, attrgetter(self.gate)(layer))


ARCHITECTURES = {
    architecture.model_type: architecture
    for architecture in [
        Architecture("llama"),
        Architecture("mistral"),
    ]
}


def architecture_of(model_type: str) -> Architecture:
    """Look up an architecture by transformers' ``model_type``.

    Raises
    ------
    UnsupportedArchitectureError
        Names the architecture and the supported ones.
    """
    if model_type not in ARCHITECTURES:
        raise UnsupportedArchitectureError(
            f"architecture '{model_type[:80]}' is not supported",
            hint=f"supported: {', '.join(sorted(ARCHITECTURES))}",
        )
    return ARCHITECTURES[model_type]
