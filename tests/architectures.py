"""A tiny model of every supported architecture, and where its hyperplanes are.

The entries name weights and modules on their own, as transformers calls them, and share nothing
with ``splinellm.backbone``: a wrong path, half or order there does not go unseen here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedModel

from splinellm.backbone.loading import Backbone
from tests.tiny import MAX_POSITIONS, N_LAYERS, VOCABULARY, WINDOW, tiny_tokenizer

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_POSITIONS,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_WIDE_HEAD = {"head_dim": 12}  # not hidden_size / heads
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_WINDOW = {"sliding_window": WINDOW}
_SHARP = {"query_pre_attn_scalar": 6}  # scores are divided by its root


@dataclass(frozen=True)
class Case:
    """A tiny model, and where its hyperplanes are.

    Parameters
    ----------
    kind : str
        transformers' model_type.
    config : dict
        Beyond the common shape.
    read : str
        Module of layer {} whose input is that of the MLP.
    rows : str
        Weight of layer {} whose rows are the hyperplanes; its bias has the same stem.
    transposed : bool
        Whether the weight is (D, K).
    fused : bool
        Whether the up projection's rows follow.
    std : float
        Of the random weights: attention must be far from uniform and from one-hot.
    dense_layers : tuple
        Layers of a mixture of experts that are not one.
    experts, router, shared : str
        Weights of a mixture of experts.
    choose : callable
        The experts of a token, from its router's logits.
    encoder : bool
        Whether tokens attend both ways; the dimension is then that of the first one.
    """

    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    read: str = "layers.{}.mlp"
    rows: str = "layers.{}.mlp.gate_proj.weight"
    transposed: bool = False
    fused: bool = False
    std: float = 0.2
    dense_layers: tuple[int, ...] = ()
    experts: str = ""
    router: str = ""
    shared: str = ""
    has_dimension: bool = True
    encoder: bool = False
    n_hyperplanes: int = 72

    @property
    def traits(self) -> list[str]:
        """What is special about the model, in words."""
        config = self.config
        named = {
            "experts, the router's choice of 2 of 6": bool(self.experts),
            "an expert for all tokens": bool(self.shared),
            "layers without experts": bool(self.dense_layers),
            "fused gate and up projection": self.fused,
            "transposed weights": self.transposed,
            "both ways": self.encoder,
            "no gate": "gate" not in self.rows and not self.fused,
            "multi-query": bool(config.get("multi_query")),
            "ALiBi": self.kind == "bloom" or bool(config.get("alibi")),
            "grouped queries": self._is_grouped,
            "sliding window": "sliding_window" in config and "layer_types" not in config,
            "alternating windows": "layer_types" in config,
            "soft-capped scores": bool(config.get("attn_logit_softcapping")),
            "layers without position embedding": "no_rope_layers" in config,
            "scaling by layer": "scale_attn_by_inverse_layer_idx" in config,
            "norm after the MLP": config.get("do_layer_norm_before") is False,
            "model for text and images": self.kind == "gemma3",
            "relative positions": "relative_attention" in config or self.kind == "mpnet",
            "positions from behind the padding's": config.get("pad_token_id") == 1,
            "embedding of another size": "embedding_size" in config,
        }
        return [trait for trait, applies in named.items() if applies] or ["plain"]

    @property
    def _is_grouped(self) -> bool:
        without = ("biogpt", "bloom", "gpt2", "gpt_bigcode", "gpt_neox", "opt", "persimmon")
        n_key_heads = self.config.get("num_key_value_heads", _SHAPE["num_key_value_heads"])
        return not self.encoder and self.kind not in (*without, "falcon") and n_key_heads == 2


def _moe(kind: str, router: str = "mlp.gate.weight", shared: str = "", **kwargs: Any) -> Case:
    config = {"num_experts_per_tok": 2, "num_local_experts": 6, "moe_intermediate_size": 24}
    return Case(
        kind,
        {**config, **kwargs.pop("config", {})},
        experts=kwargs.pop("experts", "layers.{}.mlp.experts.gate_up_proj"),
        router=f"layers.{{}}.{router}",
        shared=f"layers.{{}}.{shared}" if shared else "",
        **{"n_hyperplanes": 48, **kwargs},
    )


_DEEPSEEK = {
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_FALCON = {
    "num_key_value_heads": None,
    "ffn_hidden_size": 72,
    "bias": True,
    "multi_query": False,
    "parallel_attn": False,
}
_H = {"read": "h.{}.mlp", "rows": "h.{}.mlp.dense_h_to_4h.weight"}

_UP = {"rows": "layers.{}.mlp.up_proj.weight"}
_FUSED = {"rows": "layers.{}.mlp.gate_up_proj.weight", "fused": True}
_C_FC = {"rows": "h.{}.mlp.c_fc.weight", "read": "h.{}.mlp"}

_BERT: dict[str, Any] = {
    "read": "encoder.layer.{}.intermediate",
    "rows": "encoder.layer.{}.intermediate.dense.weight",
    "encoder": True,
}
_DEBERTA = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "pad_token_id": 0,
}

CASES = {
    "bert": Case("bert", **_BERT),
    "deberta-v2": Case("deberta-v2", _DEBERTA, has_dimension=False, **_BERT),
    "deberta-v2-xlarge": Case(
        "deberta-v2",
        {**_DEBERTA, "conv_kernel_size": 3, "position_biased_input": True, "embedding_size": 16},
        has_dimension=False,
        **_BERT,
    ),
    "distilbert": Case(
        "distilbert",
        {"hidden_dim": 72},
        read="transformer.layer.{}.ffn",
        rows="transformer.layer.{}.ffn.lin1.weight",
        encoder=True,
    ),
    "electra": Case("electra", {"embedding_size": 16}, **_BERT),
    "modernbert": Case(
        "modernbert",
        {
            **_ALTERNATING,
            "local_attention": 2 * WINDOW,
            "mlp_bias": True,
            "attention_bias": True,
            "norm_bias": True,
        },
        rows="layers.{}.mlp.Wi.weight",
        fused=True,
        encoder=True,
    ),
    "mpnet": Case("mpnet", {"pad_token_id": 1}, has_dimension=False, **_BERT),
    "roberta": Case("roberta", {"pad_token_id": 1}, **_BERT),
    "xlm-roberta": Case("xlm-roberta", {"pad_token_id": 1}, **_BERT),
    "apertus": Case("apertus", _WIDE_HEAD, **_UP),
    "arcee": Case("arcee", {"mlp_bias": True}, **_UP),
    "biogpt": Case(
        "biogpt", {"hidden_dropout_prob": 0.0}, read="layers.{}.fc1", rows="layers.{}.fc1.weight"
    ),
    "bloom": Case(
        "bloom", {"max_position_embeddings": None}, has_dimension=False, n_hyperplanes=128, **_H
    ),
    "cohere": Case("cohere", {"use_qk_norm": True}),
    "cohere2": Case("cohere2", _WINDOW | _ALTERNATING),
    "deepseek_v3": _moe(
        "deepseek_v3",
        shared="mlp.shared_experts.gate_proj.weight",
        config={
            **_DEEPSEEK,
            **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 8),
            **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 8),
            "num_key_value_heads": 4,
        },
        dense_layers=(0,),
        n_hyperplanes=72,
        std=0.4,
    ),
    "ernie4_5": Case("ernie4_5", {"use_bias": True}),
    "ernie4_5_moe": _moe(
        "ernie4_5_moe",
        shared="mlp.shared_experts.gate_proj.weight",
        config={"moe_num_experts": 6, "moe_k": 2, "moe_num_shared_experts": 1},
        dense_layers=(0,),
        n_hyperplanes=72,
    ),
    "exaone4": Case("exaone4", _WINDOW | _ALTERNATING),
    "falcon": Case("falcon", _FALCON, has_dimension=False, **_H),
    "falcon-alibi": Case("falcon", {**_FALCON, "alibi": True}, has_dimension=False, **_H),
    "falcon-new": Case(
        "falcon",
        {**_FALCON, "new_decoder_architecture": True, "parallel_attn": True, "num_kv_heads": 2},
        has_dimension=False,
        **_H,
    ),
    "gemma": Case("gemma", _WIDE_HEAD),
    "gemma2": Case(
        "gemma2",
        {**_WIDE_HEAD, **_WINDOW, **_ALTERNATING, "attn_logit_softcapping": 3.0} | _SHARP,
    ),
    "gemma2-uncapped": Case(
        "gemma2", {**_WIDE_HEAD, **_WINDOW, **_SHARP, "attn_logit_softcapping": None}
    ),
    "gemma3": Case(
        "gemma3",
        read="language_model.layers.{}.mlp",
        rows="language_model.layers.{}.mlp.gate_proj.weight",
    ),
    "gemma3_text": Case("gemma3_text", {**_WIDE_HEAD, **_WINDOW, **_ALTERNATING, **_SHARP}),
    "glm": Case("glm", {"head_dim": 8}, **_FUSED),
    "glm4": Case("glm4", {"head_dim": 8}, **_FUSED),
    "glm4_moe": _moe(
        "glm4_moe",
        shared="mlp.shared_experts.gate_proj.weight",
        config={**_DEEPSEEK, "head_dim": 8},
        dense_layers=(0,),
        n_hyperplanes=72,
    ),
    "gpt2": Case("gpt2", {"n_inner": 72}, transposed=True, **_C_FC),
    "gpt2-default-size": Case(
        "gpt2",
        {"n_inner": None, "scale_attn_by_inverse_layer_idx": True},
        transposed=True,
        n_hyperplanes=128,
        **_C_FC,
    ),
    "gpt_bigcode": Case("gpt_bigcode", {"n_inner": 72, "multi_query": True}, **_C_FC),
    "gpt_neox": Case("gpt_neox", {}, rows="layers.{}.mlp.dense_h_to_4h.weight"),
    "gpt_neox-serial": Case(
        "gpt_neox", {"use_parallel_residual": False}, rows="layers.{}.mlp.dense_h_to_4h.weight"
    ),
    "granite": Case("granite", {"attention_multiplier": 0.3, "mlp_bias": True}),
    "granitemoe": _moe(
        "granitemoe",
        router="block_sparse_moe.router.weight",
        experts="layers.{}.block_sparse_moe.experts.gate_up_proj",
        read="layers.{}.block_sparse_moe",
        config={"intermediate_size": 24, "attention_multiplier": 0.3},
    ),
    "helium": Case("helium", {"head_dim": 8}),
    "hunyuan_v1_dense": Case("hunyuan_v1_dense", {"head_dim": 8}),
    "llama": Case("llama", {**_WIDE_HEAD, "mlp_bias": True}),
    "ministral": Case("ministral", _WIDE_HEAD | _WINDOW),
    "ministral3": Case(
        "ministral3",
        {
            **_WIDE_HEAD,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 100.0,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": 8,
            },
        },
    ),
    "mistral": Case("mistral", _WIDE_HEAD | _WINDOW),
    "mixtral": _moe("mixtral", config={"intermediate_size": 24, **_WINDOW}),
    "nemotron": Case("nemotron", {"mlp_bias": True}, **_UP),
    "olmo": Case("olmo", {"clip_qkv": 2.0}),
    "olmo2": Case("olmo2"),
    "olmo3": Case("olmo3", _WINDOW | _ALTERNATING),
    "olmoe": _moe("olmoe", config={"intermediate_size": 24, "num_experts": 6}),
    "opt": Case(
        "opt",
        {"ffn_dim": 72, "word_embed_proj_dim": 32, "dropout": 0.0},
        read="decoder.layers.{}.fc1",
        rows="decoder.layers.{}.fc1.weight",
    ),
    "opt-350m": Case(
        "opt",
        {"ffn_dim": 72, "word_embed_proj_dim": 16, "do_layer_norm_before": False, "dropout": 0.0},
        std=0.35,
        read="decoder.layers.{}.fc1",
        rows="decoder.layers.{}.fc1.weight",
    ),
    "persimmon": Case(
        "persimmon", {"num_key_value_heads": 4}, rows="layers.{}.mlp.dense_h_to_4h.weight"
    ),
    "phi": Case("phi", rows="layers.{}.mlp.fc1.weight"),
    "phi3": Case("phi3", _WINDOW, **_FUSED),
    "phimoe": _moe("phimoe", router="mlp.router.weight", config={"intermediate_size": 24}),
    "qwen2": Case("qwen2", {"use_sliding_window": True, **_WINDOW, **_ALTERNATING}),
    "qwen2_moe": _moe(
        "qwen2_moe",
        shared="mlp.shared_expert.gate_proj.weight",
        config={"num_experts": 6, "shared_expert_intermediate_size": 28, "mlp_only_layers": [1]},
        dense_layers=(1,),
        n_hyperplanes=72,
    ),
    "qwen3": Case("qwen3", _WIDE_HEAD),
    "qwen3_moe": _moe("qwen3_moe", config={"num_experts": 6, "head_dim": 12}),
    "seed_oss": Case("seed_oss", {**_WIDE_HEAD, "mlp_bias": True}),
    "smollm3": Case("smollm3", {"no_rope_layers": [1, 0, 1], "mlp_bias": True}),
    "stablelm": Case("stablelm", {"num_key_value_heads": 4, "use_parallel_residual": True}),
    "starcoder2": Case("starcoder2", _WINDOW, rows="layers.{}.mlp.c_fc.weight"),
}


ENCODERS = {name for name, case in CASES.items() if case.encoder}
"""Cases that attend both ways: nothing is made of their beginnings, and they do not generate."""
PREFIX_CASES = set(CASES) - ENCODERS
"""Cases on which prefixes are checked, for the table in the documents."""
ATTACH_CASES = set(CASES) - ENCODERS
"""Cases on which a user's own model is watched while it generates."""


def case_model(name: str, *, seed: int = 0) -> PreTrainedModel:
    """Make the model, float32, with random weights, biases and norms."""
    case = CASES[name]
    values = {**_SHAPE, **case.config}
    if case.kind == "gemma3":
        vision = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        }
        values = {
            "text_config": {**values, **_WIDE_HEAD, **_WINDOW, **_ALTERNATING, **_SHARP},
            "vision_config": vision,
            "image_token_index": VOCABULARY + 1,
        }
    torch.manual_seed(seed)
    model = AutoModel.from_config(CONFIG_MAPPING[case.kind](**values)).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if re.search(r"norm|ln_|layernorm|LayerNorm", parameter_name):
                mean = 1.0 if parameter.mean() > 0.5 else 0.0  # Gemma's norms scale by 1 + weight
                parameter.normal_(mean=mean, std=0.3)
            else:
                parameter.normal_(std=case.std)
        for buffer_name, buffer in model.named_buffers():
            if "correction_bias" in buffer_name:
                buffer.normal_(std=case.std)
    return model


def case_backbone(name: str, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """Put the model and the tiny tokenizer together."""
    return Backbone(case_model(name).to(dtype), tiny_tokenizer(), f"tiny {name}")
