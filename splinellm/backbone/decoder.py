"""A decoder or encoder without its head, and what can be asked of any."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from splinellm.backbone.architectures import (
    ARCHITECTURES,
    Architecture,
    Positions,
    architecture_of,
)
from splinellm.backbone.mlp import MLP
from splinellm.errors import ConfigurationError, UnsupportedArchitectureError
from splinellm.schema import parse_layers


@dataclass
class Decoder:
    """A transformers base model of a supported architecture, whichever way its tokens attend.

    Parameters
    ----------
    model : PreTrainedModel
        Base model, without its head.

    Attributes
    ----------
    architecture : Architecture
        Where the model's parts are.

    Raises
    ------
    UnsupportedArchitectureError
        The model is of another architecture, or an encoder that is made to attend like a decoder.
    """

    model: PreTrainedModel
    architecture: Architecture = field(init=False)

    def __post_init__(self) -> None:
        config = self.model.config
        self.architecture = architecture_of(config.model_type)
        if self.architecture.is_encoder and getattr(config, "is_decoder", False):
            raise UnsupportedArchitectureError(
                f"a '{config.model_type}' with is_decoder=True is not supported",
                hint="load it as an encoder, with is_decoder=False",
            )

    @property
    def n_layers(self) -> int:
        """Number of layers of the whole model, loaded or not."""
        return self.n_loaded_layers

    @property
    def n_loaded_layers(self) -> int:
        """Number of layers that are there, from the first on."""
        return len(self.architecture.decoder_layers(self.model))

    @property
    def max_positions(self) -> int | None:
        """Longest prompt that the model has positions for; None if unlimited."""
        limit = getattr(self._text_config, "max_position_embeddings", None)
        has_alibi = getattr(self._text_config, "alibi", False)  # Falcon's limit is for the others
        if not limit or has_alibi:
            return None
        # RoBERTa's table of positions starts with those of padding.
        embeddings: Any = self.model.embeddings if self.positions == "ids" else None
        n_unused = embeddings.padding_idx + 1 if embeddings is not None else 0
        return int(limit) - int(n_unused)

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
        if (device := self._a_weight.device).type != "meta":
            return device
        # Offloaded: a dispatcher of accelerate brings the weights to a device when they are needed.
        hook = getattr(self.model.get_input_embeddings(), "_hf_hook", None)
        return torch.device(getattr(hook, "execution_device", None) or "cpu")

    @property
    def dtype(self) -> str:
        """Dtype of the forward pass, by name."""
        return str(self._a_weight.dtype).removeprefix("torch.")

    @property
    def attention_implementation(self) -> str:
        """What computes the attention, by transformers' name."""
        config = self.architecture.owner_of_layers(self.model).config
        return str(config._attn_implementation).removeprefix("splinellm_")  # noqa: SLF001

    @property
    def positions(self) -> Positions:
        """What a token's place is without position ids; see :class:`Architecture`."""
        config = self._text_config
        if getattr(config, "alibi", False):  # Falcon's biases count the mask, its rotations do not
            return "mask"
        if not getattr(config, "position_biased_input", True):  # of DeBERTa: only distances count
            return "relative"
        return self.architecture.positions

    def positions_among(self, ids: Tensor | None, real: Tensor) -> Positions:
        """What a token's place is in a pass over these ids (B, T), where not all are real.

        RoBERTa passes over the padding's own id, and over no other that stands in its place; MPNet
        likewise, but the distances that it counts besides are those of columns.
        """
        if self.positions != "ids":
            return self.positions
        embeddings: Any = self.model.embeddings
        if ids is None or not bool((ids[~real] == embeddings.padding_idx).all()):
            return "columns"
        has_distances = hasattr(self.model.config, "relative_attention_num_buckets")
        return "relative" if has_distances else "mask"

    def norms(self, layer: int) -> Tensor:
        """Hyperplane norms of a layer as its weights are now, shape (K,), float32.

        Kept where they cannot have changed, see :mod:`splinellm.backbone.norms`. Ones for a mixture
        of experts, see :class:`splinellm.backbone.gates.ExpertsGate`.
        """
        gate = self.architecture.gate_of(self.architecture.decoder_layers(self.model)[layer])
        return gate.current_norms(self.hidden_size, lambda: self.device)

    def loaded_layers(self, layers: str | int | Iterable[int] | None) -> tuple[int, ...]:
        """Layers of the whole model, as :func:`splinellm.schema.parse_layers` reads them.

        Raises
        ------
        SchemaError
            One does not exist, or was not loaded.
        """
        return parse_layers(layers, self.n_layers, n_loaded=self.n_loaded_layers)

    def layer(self, layer: int) -> MLP:
        """A view of one layer's MLP: its maps, Jacobian, partition and complexity.

        Parameters
        ----------
        layer : int
            Counted from 0; a negative one from the last.

        Raises
        ------
        SchemaError
            There is no such layer, or it was not loaded.
        UnsupportedArchitectureError
            It is a mixture of experts.
        """
        (index,) = self.loaded_layers([layer])
        found = self.architecture.decoder_layers(self.model)[index]
        return self.architecture.mlp_of(found, self.hidden_size)

    def expect_changes(self, layers: Iterable[int]) -> None:
        """Say that a text begins, before which the weights of layers may have been changed."""
        found = self.architecture.decoder_layers(self.model)
        for layer in layers:
            # A layer may have been taken out, or have no gate any more: that shows in the pass.
            with suppress(IndexError, AttributeError):
                self.architecture.gate_of(found[layer]).expect_changes()

    @property
    def _a_weight(self) -> Tensor:
        """Weight that says where the model is and what its dtype is."""
        for weight in self.model.parameters():
            if weight.is_floating_point():
                return weight
        # FSDP has put all of them into one flat parameter of its own.
        return cast(Tensor, self.model.get_input_embeddings().weight)

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)


def decoder_inside(model: nn.Module) -> Decoder:
    """Find the decoder or encoder inside a model, which may have heads and wrappers around it.

    Parameters
    ----------
    model : Module
        A transformers model, or whatever holds one: adapters, data-parallel wrappers, compiled
        modules, modules of one's own. Of two that are one in the other, the outer one is meant.

    Raises
    ------
    UnsupportedArchitectureError
        There is none, or none that is supported.
    ConfigurationError
        It is no module, or holds several of them.
    """
    if not isinstance(model, nn.Module):
        raise _no_module(model)
    found = dict[str, PreTrainedModel]()
    for name, module in model.named_modules():
        if _has_layers(module) and not any(module in set(it.modules()) for it in found.values()):
            found[name] = cast(PreTrainedModel, module)
    if not found:
        raise UnsupportedArchitectureError(
            f"{type(model).__name__} holds no model of a supported architecture",
            hint=f"supported: {', '.join(sorted(ARCHITECTURES))}",
        )
    if len(found) > 1:
        names = [f"{type(it).__name__} at '{name[:80]}'" for name, it in [*found.items()][:4]]
        raise ConfigurationError(
            f"{type(model).__name__} holds {len(found)} models: {', '.join(names)}",
            hint="pass the part that holds the one to be watched",
        )
    return Decoder(*found.values())


def _has_layers(module: nn.Module) -> bool:
    if not isinstance(module, PreTrainedModel):
        return False
    architecture = ARCHITECTURES.get(module.config.model_type)
    try:
        return architecture is not None and len(architecture.decoder_layers(module)) > 0
    except AttributeError:  # a head with the same config, around the one that has layers
        return False


def _no_module(given: object) -> ConfigurationError:
    """Say of a pipeline, trainer or the like where its model is."""
    kind = type(given).__name__
    named = getattr(given, "__dict__", {})
    inside = [name for name in named if isinstance(named[name], nn.Module)]
    inside.sort(key=lambda name: name != "model")
    hint = "pass a transformers model, such as AutoModelForCausalLM.from_pretrained gives"
    if inside:
        hint = f"pass the model inside of it: its attribute '{inside[0][:80]}'"
    return ConfigurationError(f"a {kind} is no PyTorch module", hint=hint)
