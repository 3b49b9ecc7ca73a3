"""Where each architecture keeps the parts that are observed. One entry each, nothing else.

To add one: find its ``model_type`` in transformers, say where the layers are and where
their attention and the first linear map of their MLP sit, describe a tiny model of it in
``tests/architectures.py``, and the parametrised tests do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from splinellm.backbone.gates import ExpertsGate, Gate, LinearGate
from splinellm.backbone.linear_maps import innermost
from splinellm.backbone.mlp import MLP
from splinellm.errors import (
    AttentionUnavailableError,
    PrefixUnavailableError,
    UnsupportedArchitectureError,
)
from splinellm.schema import Granularity, require_granularity

Positions = Literal["relative", "columns", "mask", "ids"]
"""See :class:`Architecture`."""


@dataclass(frozen=True)
class Architecture:
    """Paths inside a transformers base model (without its language-model head).

    Parameters
    ----------
    model_type : str
        transformers' name of the architecture.
    layers : str
        Path from the base model to the list of layers.
    attention : str
        Path from a layer to its attention module.
    gate : str
        Path from a layer to the first linear map of its MLP, whose rows are the
        hyperplanes.
    is_fused : bool
        Whether that map's rows are the gate's, which are activated, and then the up projection's;
        only the first half are hyperplanes.
    is_flat : bool
        Whether the layer calls that map with all tokens of a batch in one row.
    experts : str, optional
        Path from a layer to the module of all experts, in layers that have one.
    shared : str, optional
        Path from such a layer to the gate projection of the expert that reads every token.
    shows_attention : bool
        Whether the attention goes through transformers' attention interface, where queries and
        keys can be seen. If not, there is no intrinsic dimension.
    attention_implementation : str
        transformers' attention that the model is loaded and observed with: ``sdpa``, or ``eager``
        where the model has no other (T x T weights are then held for one layer at a time).
    positions : {"relative", "columns", "mask", "ids"}
        What a token's place is without ``position_ids``: ``relative`` where only the distance
        between columns matters, ``columns`` where the number of the column does, padding included,
        ``mask`` where the attention mask is counted, so that padding changes nothing, ``ids`` where
        the ids are that are not padding's, from behind the padding's own row on.
    is_encoder : bool
        Whether tokens attend both ways: to all of the text, padding excluded.
    up : str, optional
        Path from a layer to the linear map that the activated gate is multiplied with; None where
        there is none, or it is the other half of a fused map.
    down : str
        Path from a layer to the last linear map of its MLP.
    activation : str
        Path from a layer to what is applied to the gate.
    """

    model_type: str
    layers: str = "layers"
    attention: str = "self_attn"
    gate: str = "mlp.gate_proj"
    is_fused: bool = False
    is_flat: bool = False
    experts: str | None = None
    shared: str | None = None
    shows_attention: bool = True
    attention_implementation: str = "sdpa"
    positions: Positions = "relative"
    is_encoder: bool = False
    up: str | None = "mlp.up_proj"
    down: str = "mlp.down_proj"
    activation: str = "mlp.act_fn"

    def decoder_layers(self, model: nn.Module) -> nn.ModuleList:
        """Layers of `model`, decoder or encoder, in order."""
        return cast(nn.ModuleList, attrgetter(self.layers)(model))

    def owner_of_layers(self, model: nn.Module) -> PreTrainedModel:
        """Part of `model` that holds the layers, and whose configuration is theirs."""
        owner = part = model
        for name in self.layers.split("."):
            part = getattr(part, name)
            owner = part if isinstance(part, PreTrainedModel) else owner
        return cast(PreTrainedModel, owner)

    def attention_of(self, layer: nn.Module) -> nn.Module:
        """Attention module of a layer."""
        return cast(nn.Module, attrgetter(self.attention)(layer))

    def gate_of(self, layer: nn.Module) -> Gate:
        """Hyperplanes of a layer."""
        experts = None if self.experts is None else _find(layer, self.experts)
        if experts is not None:
            return ExpertsGate(layer, innermost(experts), _find(layer, self.shared))
        gate = cast(nn.Module, attrgetter(self.gate)(layer))
        return LinearGate(layer, gate, is_fused=self.is_fused, is_flat=self.is_flat)

    def mlp_of(self, layer: nn.Module, n_inputs: int) -> MLP:
        """The whole MLP of a layer, whose input has so many numbers.

        Raises
        ------
        UnsupportedArchitectureError
            It is a mixture of experts, each of which is another MLP.
        """
        gate = self.gate_of(layer)
        if not isinstance(gate, LinearGate):
            raise UnsupportedArchitectureError(
                f"this layer of a '{self.model_type}' is a mixture of experts: which MLP a token "
                "meets is the router's choice",
                hint="use a dense layer",
            )
        return MLP(
            gate,
            None if self.up is None else attrgetter(self.up)(layer),
            attrgetter(self.down)(layer),
            attrgetter(self.activation)(layer),
            n_inputs,
        )

    def arguments(self, real: Tensor) -> dict[str, Any]:
        """What a forward pass over right-padded texts is given beside their ids.

        Parameters
        ----------
        real : Tensor, shape (B, T)
            True or 1 at the tokens that are no padding.
        """
        if self.is_encoder:
            return {"attention_mask": real.long()}  # which DeBERTa subtracts
        # Attention is causal: real tokens never see the padding to their right.
        return {"use_cache": False}

    def counted_token(self, real: Tensor) -> Tensor:
        """Find the token whose attention is the text's, shape (B,), among the real ones (B, T).

        In a decoder the last one, which alone sees all the others; in an encoder the first, which
        is ``[CLS]`` or the like. Where none is real, anything that is there.
        """
        if self.is_encoder:
            return real.int().argmax(dim=-1)
        return real.shape[1] - 1 - real.flip(-1).int().argmax(dim=-1)

    def require_granularity(self, granularity: Granularity) -> None:
        """Refuse prefixes where tokens see what comes after them.

        Raises
        ------
        SchemaError
            There is no such granularity.
        PrefixUnavailableError
            Names the architecture and what to ask for instead.
        """
        require_granularity(granularity)
        if self.is_encoder and granularity == "prefix":
            raise PrefixUnavailableError(
                f"architecture '{self.model_type}' has no features of prefixes: its tokens attend "
                "both ways",
                hint="ask for granularity 'token', or pass each beginning as a prompt of its own",
            )

    def require_generation(self) -> None:
        """Refuse to follow ``generate`` where every new token changes all that came before.

        Raises
        ------
        PrefixUnavailableError
            Names the architecture and what to do instead.
        """
        if self.is_encoder:
            raise PrefixUnavailableError(
                f"architecture '{self.model_type}' cannot be watched while it generates: its "
                "tokens attend both ways",
                hint="run the model on whole texts",
            )

    def require_attention(self) -> None:
        """Refuse the intrinsic dimension where the attention cannot be seen.

        Raises
        ------
        AttentionUnavailableError
            Names the architecture and what to ask for instead.
        """
        if not self.shows_attention:
            raise AttentionUnavailableError(
                f"the attention of architecture '{self.model_type}' cannot be observed: it does "
                "not go through transformers' attention interface",
                hint="ask for features without intrinsic_dimension, such as 'spline' or 'blocks'",
            )


def _find(layer: nn.Module, path: str | None) -> nn.Module | None:
    """Follow a path that not every layer of a model has."""
    found: object = layer
    for name in path.split(".") if path else ["\0"]:
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None


def _plain(
    model_type: str, gate: str, down: str, activation: str, **differences: Any
) -> Architecture:
    """An MLP without an up projection: one map, the activation, another map."""
    return Architecture(
        model_type, gate=gate, up=None, down=down, activation=activation, **differences
    )


def _fused(model_type: str) -> Architecture:
    """Gate and up projection in one map."""
    return Architecture(
        model_type,
        gate="mlp.gate_up_proj",
        up=None,
        activation="mlp.activation_fn",
        is_fused=True,
    )


def _encoder(model_type: str, **differences: Any) -> Architecture:
    """An encoder with BERT's parts, but for those that are given."""
    parts: dict[str, Any] = {
        "layers": "encoder.layer",
        "attention": "attention.self",
        "gate": "intermediate.dense",
        "up": None,
        "down": "output.dense",
        "activation": "intermediate.intermediate_act_fn",
        "positions": "columns",
        "is_encoder": True,
    }
    return Architecture(model_type, **parts | differences)


ARCHITECTURES = {
    architecture.model_type: architecture
    for architecture in [
        # gate_proj and up_proj side by side: the Llama family
        _plain("apertus", "mlp.up_proj", "mlp.down_proj", "mlp.act_fn"),
        _plain("arcee", "mlp.up_proj", "mlp.down_proj", "mlp.act_fn"),
        Architecture("cohere"),
        Architecture("cohere2"),
        Architecture("ernie4_5"),
        Architecture("exaone4"),
        Architecture("gemma"),
        Architecture("gemma2", attention_implementation="eager"),  # soft-capped scores
        Architecture("gemma3", layers="language_model.layers"),
        Architecture("gemma3_text"),
        Architecture("granite"),
        Architecture("helium"),
        Architecture("hunyuan_v1_dense", positions="columns"),  # normed after the rotation
        Architecture("llama"),
        Architecture("ministral"),
        Architecture("ministral3", positions="columns"),  # scales queries by position
        Architecture("mistral"),
        _plain("nemotron", "mlp.up_proj", "mlp.down_proj", "mlp.act_fn"),
        Architecture("olmo"),
        Architecture("olmo2"),
        Architecture("olmo3"),
        Architecture("qwen2"),
        Architecture("qwen3"),
        Architecture("seed_oss"),
        Architecture("smollm3"),
        Architecture("stablelm"),
        # one map for both
        _fused("glm"),
        _fused("glm4"),
        _fused("phi3"),
        # mixtures of experts
        Architecture("deepseek_v3", experts="mlp.experts", shared="mlp.shared_experts.gate_proj"),
        Architecture("ernie4_5_moe", experts="mlp.experts", shared="mlp.shared_experts.gate_proj"),
        Architecture("glm4_moe", experts="mlp.experts", shared="mlp.shared_experts.gate_proj"),
        Architecture("granitemoe", experts="block_sparse_moe.experts"),
        Architecture("mixtral", experts="mlp.experts"),
        Architecture("olmoe", experts="mlp.experts"),
        Architecture("phimoe", experts="mlp.experts"),
        Architecture("qwen2_moe", experts="mlp.experts", shared="mlp.shared_expert.gate_proj"),
        Architecture("qwen3_moe", experts="mlp.experts"),
        # no gate: the map before the activation
        _plain("biogpt", "fc1", "fc2", "activation_fn", positions="columns"),
        _plain(
            "bloom",
            *("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "mlp.gelu_impl"),
            layers="h",
            attention="self_attention",
            shows_attention=False,
            attention_implementation="eager",
            positions="mask",
        ),
        _plain(
            "falcon",
            *("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "mlp.act"),
            layers="h",
            attention="self_attention",
            shows_attention=False,
        ),
        *(
            _plain(
                model_type,
                *("mlp.c_fc", "mlp.c_proj", "mlp.act"),
                layers="h",
                attention="attn",
                positions="columns",
            )
            for model_type in ("gpt2", "gpt_bigcode")
        ),
        _plain(
            "gpt_neox",
            *("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "mlp.act"),
            attention="attention",
        ),
        _plain(
            "opt",
            *("fc1", "fc2", "activation_fn"),
            layers="decoder.layers",
            is_flat=True,
            positions="mask",
        ),
        _plain("persimmon", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "mlp.act"),
        _plain("phi", "mlp.fc1", "mlp.fc2", "mlp.activation_fn"),
        _plain("starcoder2", "mlp.c_fc", "mlp.c_proj", "mlp.act"),
        # encoders: the map before the activation
        _encoder("bert"),
        _encoder("electra"),
        _encoder("roberta", positions="ids"),
        _encoder("xlm-roberta", positions="ids"),
        _encoder(
            "distilbert",
            layers="transformer.layer",
            attention="attention",
            gate="ffn.lin1",
            down="ffn.lin2",
            activation="ffn.activation",
        ),
        _encoder(
            "mpnet",
            attention="attention.attn",
            positions="ids",
            shows_attention=False,
            attention_implementation="eager",
        ),
        _encoder("deberta-v2", shows_attention=False, attention_implementation="eager"),
        # one map for gate and up projection
        _encoder(
            "modernbert",
            layers="layers",
            attention="attn",
            gate="mlp.Wi",
            down="mlp.Wo",
            activation="mlp.act",
            is_fused=True,
            positions="relative",
        ),
    ]
}


_WITHOUT_MLP = frozenset({"mamba", "mamba2", "falcon_mamba", "xlstm"})
"""State-space models, whose blocks are something else from end to end."""


def architecture_of(model_type: str) -> Architecture:
    """Look up an architecture by transformers' ``model_type``.

    Raises
    ------
    UnsupportedArchitectureError
        Names the architecture and the supported ones.
    """
    if model_type in _WITHOUT_MLP:
        raise UnsupportedArchitectureError(
            f"a '{model_type}' cannot be read: its layers have no MLP, and so no hyperplanes",
            hint="use a transformer; docs/architectures.md lists those that are supported",
        )
    if model_type not in ARCHITECTURES:
        raise UnsupportedArchitectureError(
            f"architecture '{model_type[:80]}' is not supported",
            hint=f"supported: {', '.join(sorted(ARCHITECTURES))}",
        )
    return ARCHITECTURES[model_type]
