"""Tiny models as vLLM can serve them, and what they are asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from splinellm import SplineExtractor
from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from tests.live.models import with_head
from tests.tiny import random_prompts, tiny_model, tiny_tokenizer

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


def made_up_classifier(extractor: SplineExtractor) -> Classifier:
    """Of two kinds of random texts, whose probabilities go up and down as a text is written."""
    table = extractor.extract(random_prompts(*[4 + n % 40 for n in range(120)], seed=12))
    score = table.values[:, 3] + table.values[:, 40]
    labels = Labels("binary", ("ok", "bad"), (score > np.median(score)).astype(int))
    return train(table, labels, name="made up")
