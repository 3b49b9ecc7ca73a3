"""Tiny models as vLLM can serve them, and what they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from splinellm import Guard, SplineExtractor, attach
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


def guarded_in_transformers(
    folder: Path, classifier: Classifier, prompts: Sequence[list[int]], n_new: int
) -> dict[str, Any]:
    """Where `Guard` stops each prompt alone, and what is written until then."""
    model = load_tiny(folder)
    found: dict[str, Any] = {"stops": [], "tokens": []}
    for prompt in prompts:
        with attach(model, classifier=classifier) as recorder:
            guard = Guard(recorder, classifier, threshold=0.6, label="bad", every=3)
            written = model.generate(
                input_ids=torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=n_new,
                do_sample=False,
                pad_token_id=3,
                stopping_criteria=[guard],
            )
            found["stops"].append(guard.stops.get(0))
            found["tokens"].append(written[0, len(prompt) :].tolist())
    return found
