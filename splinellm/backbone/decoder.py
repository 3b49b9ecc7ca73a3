"""A decoder without its head, and what can be asked of any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from splinellm.backbone.architectures import ARCHITECTURES, Architecture, architecture_of
from splinellm.errors import UnsupportedArchitectureError


@dataclass
class Decoder:
    """A transformers base model of a supported architecture.

    Parameters
    ----------
    model : PreTrainedModel
        Base model, without its head.

    Attributes
    ----------
    architecture : Architecture
        Where the model's parts are.
    """

    model: PreTrainedModel
    architecture: Architecture = field(init=False)

    def __post_init__(self) -> None:
        self.architecture = architecture_of(self.model.config.model_type)

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.architecture.decoder_layers(self.model))

    @property
    def max_positions(self) -> int | None:
        """Longest prompt that the model has positions for; None if unlimited."""
        limit = getattr(self._text_config, "max_position_embeddings", None)
        has_alibi = getattr(self._text_config, "alibi", False)  # Falcon's limit is for the others
        return int(limit) if limit and not has_alibi else None

    @property
    def n_vocabulary(self) -> int:
        """Number of rows of the embedding; token ids are below it."""
        return int(self.model.get_input_embeddings().get_parameter("weight").shape[0])

    @property
    def n_hyperplanes(self) -> int:
        """Hyperplanes K of a token in a layer; in the smallest, where layers differ."""
        layers = self.architecture.decoder_layers(self.model)
        return min(self.architecture.gate_of(layer).n_hyperplanes for layer in layers)

    @cached_property
    def hidden_size(self) -> int:
        """Size D of what the layers read and write."""
        return int(self._text_config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        if self.model.device.type != "meta":
            return self.model.device
        # Offloaded: a dispatcher of accelerate brings the weights to a device when they are needed.
        hook = getattr(self.model.get_input_embeddings(), "_hf_hook", None)
        return torch.device(getattr(hook, "execution_device", None) or "cpu")

    @property
    def dtype(self) -> str:
        """Dtype of the forward pass, by name."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def attention_implementation(self) -> str:
        """What computes the attention, by transformers' name."""
        config = self.architecture.owner_of_layers(self.model).config
        return str(config._attn_implementation).removeprefix("splinellm_")  # noqa: SLF001

    def norms(self, layer: int) -> Tensor:
        """Hyperplane norms of a layer as its weights are now, shape (K,), float32.

        Kept where they cannot have changed, see :mod:`splinellm.backbone.norms`. Ones for a mixture
        of experts, see :class:`splinellm.backbone.gates.ExpertsGate`.
        """
        gate = self.architecture.gate_of(self.architecture.decoder_layers(self.model)[layer])
        return gate.current_norms(self.hidden_size, lambda: self.device)

    def expect_changes(self, layers: Iterable[int]) -> None:
        """Say that a text begins, before which the weights of layers may have been changed."""
        found = self.architecture.decoder_layers(self.model)
        for layer in layers:
            self.architecture.gate_of(found[layer]).expect_changes()

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)


def decoder_inside(model: PreTrainedModel) -> Decoder:
    """Find the decoder inside a model, which may have heads and wrappers around it.

    Raises
    ------
    UnsupportedArchitectureError
        There is none, or none that is supported.
    """
    for module in model.modules():
        if not isinstance(module, PreTrainedModel):
            continue
        architecture = ARCHITECTURES.get(module.config.model_type)
        try:
            if architecture and len(architecture.decoder_layers(module)):
                return Decoder(module)
        except AttributeError:  # a head with the same config, around the one that has layers
            continue
    raise UnsupportedArchitectureError(
        f"{type(model).__name__} holds no decoder of a supported architecture",
        hint=f"supported: {', '.join(sorted(ARCHITECTURES))}",
    )
