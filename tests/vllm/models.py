"""Tiny models as vLLM can serve them, and what they are asked."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.live.models import with_head
from tests.tiny import tiny_model, tiny_tokenizer

SHAPE = {"hidden_size": 64, "num_attention_heads": 4, "head_dim": 32}
"""Heads of a size that vLLM has kernels for."""


def save_tiny(folder: Path) -> Path:
    """Write a tiny random Llama with a head, and its tokenizer."""
    model = with_head(tiny_model("llama", **SHAPE))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def load_tiny(folder: Path) -> PreTrainedModel:
    """The same model for transformers."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
