"""Tiny real models and a tiny real tokenizer, built in memory: nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from splinellm.backbone.loading import Backbone
from splinellm.backbone.recorder import Recorder
from splinellm.backbone.reduction import PromptReduction
from splinellm.geometry import DimensionRule
from splinellm.schema import FeatureSchema, FeatureSelection, parse_layers

VOCABULARY = 320
N_LAYERS = 3
N_HEADS = 4
N_HYPERPLANES = 72
"""Not a multiple of 32, the default number of sign blocks."""
MAX_POSITIONS = 256
WINDOW = 6

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": N_HYPERPLANES,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": 2,
    "head_dim": 12,  # not hidden_size / heads, as in Mistral-Nemo
    "max_position_embeddings": MAX_POSITIONS,
}

_CORPUS = [
    "The capital of France is Paris. If it rains tomorrow, bring the washing in.",
    "def add(a, b):\n    return a + b\n",
    "You are all wonderful, thank you so much for the careful review of the model.",
]


def tiny_model(kind: str = "llama", *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Make a random model of 3 layers, float32, whose attention is far from uniform."""
    model_class, config_class = {
        "llama": (LlamaModel, LlamaConfig),
        "mistral": (MistralModel, MistralConfig),
    }[kind]
    if kind == "mistral":
        overrides.setdefault("sliding_window", WINDOW)
    torch.manual_seed(seed)
    model = model_class(config_class(**{**_SHAPE, **overrides})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # transformers' initial values (norms of one, no bias, std 0.02) would hide mistakes.
            if "norm" in name:
                parameter.normal_(mean=1.0, std=0.3)
            else:
                parameter.normal_(std=0.2)
    return model


@cache
def _trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<|im_end|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def tiny_tokenizer(
    *, pad_token: str | None = "<pad>", adds_bos: bool = False
) -> PreTrainedTokenizerFast:
    """Make a byte-level BPE tokenizer with the special tokens ``<s> </s> <|im_end|> <pad>``."""
    backend = Tokenizer.from_str(_trained().to_str())
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token=pad_token,
        extra_special_tokens=["<|im_end|>"],
    )


def tiny_backbone(
    kind: str = "llama", *, dtype: torch.dtype = torch.float32, seed: int = 0, **overrides: Any
) -> Backbone:
    """Put a tiny model and the tiny tokenizer together."""
    return Backbone(tiny_model(kind, seed=seed, **overrides).to(dtype), tiny_tokenizer(), "tiny")


def recorder_of(
    backbone: Backbone,
    features: str = "paper,blocks",
    layers: str | None = None,
    rule: DimensionRule | None = None,
) -> Recorder:
    """Make a recorder without an extractor around it."""
    n_layers = backbone.n_layers
    schema = FeatureSchema(
        parse_layers(layers, n_layers), FeatureSelection.parse(features), n_layers
    )
    reduction = PromptReduction(schema, backbone.norms, rule or DimensionRule())
    return Recorder(backbone.model, backbone.architecture, reduction)


def pad(prompts: list[list[int]], filler: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right; ids (B, T) and lengths (B,)."""
    longest = max(map(len, prompts))
    ids = [[*prompt, *[filler] * (longest - len(prompt))] for prompt in prompts]
    return torch.tensor(ids), torch.tensor([len(prompt) for prompt in prompts])


def random_prompts(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Make prompts of random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(4, VOCABULARY, (length,), generator=generator).tolist() for length in lengths
    ]
