"""Tiny models with heads, what they are asked to generate, and what must hold of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LogitsProcessor,
    PreTrainedModel,
    StoppingCriteria,
)

from splinellm import FeatureTable, SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.live.recorder import LiveRecorder
from tests.tiny import (
    random_prompts,
    tiny_model,
    tiny_tokenizer,
)
from tests.watched import state_of

ALL = "paper,blocks,sign_entropy,complexity:0.4"


PAD = 3


PROMPTS = random_prompts(5, 9, 3)


def causal_lm(kind: str = "llama", **overrides: Any) -> PreTrainedModel:
    """A tiny model with a head of its own, around the base model of the other tests."""
    return with_head(tiny_model(kind, **overrides))


def with_head(base: PreTrainedModel) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_config(
        base.config, attn_implementation=base.config._attn_implementation
    ).eval()
    getattr(model, model.base_model_prefix).load_state_dict(base.state_dict())
    if not model.config.get_text_config().tie_word_embeddings:
        with torch.no_grad():
            model.get_output_embeddings().weight.normal_(std=0.3)
    return model


def left_padded(prompts: list[list[int]] = PROMPTS) -> dict[str, Tensor]:
    longest = max(map(len, prompts))
    ids = [[PAD] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def options(**changed: Any) -> dict[str, Any]:
    return {
        "max_new_tokens": 12,
        "do_sample": False,
        "pad_token_id": PAD,
        "eos_token_id": None,
        **changed,
    }


class Watch(StoppingCriteria):
    """Notes the ids that were read, and the table, after every step of `generate`."""

    def __init__(self, recorder: LiveRecorder) -> None:
        self.recorder = recorder
        self.seen: list[tuple[Tensor, FeatureTable]] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.seen.append((input_ids[:, :-1].clone(), self.recorder.table))
        return torch.zeros(len(input_ids), dtype=torch.bool)


def extractor_of(model: PreTrainedModel, features: str = ALL) -> SplineExtractor:
    """Extraction from the same weights, in a model of its own."""
    base = copy.deepcopy(model.base_model)
    return SplineExtractor(Backbone(base, tiny_tokenizer(), "tiny"), features=features)


def check(table: FeatureTable, extractor: SplineExtractor, texts: list[list[int]]) -> None:
    """Compare with an extraction of the same token ids."""
    expected = extractor.extract(texts)
    assert table.names == expected.names
    assert table.n_tokens.tolist() == expected.n_tokens.tolist()
    distances = np.array(["distance" in name for name in table.names])
    np.testing.assert_allclose(
        table.values[:, ~distances], expected.values[:, ~distances], atol=2e-6, rtol=0
    )
    np.testing.assert_allclose(
        table.values[:, distances], expected.values[:, distances], atol=4e-6, rtol=2e-3
    )


def real(ids: Tensor, mask: Tensor) -> list[list[int]]:
    """Texts of left-padded rows, the padding of the prompts left out."""
    return [row[int((own == 0).sum()) :].tolist() for row, own in zip(ids, mask, strict=True)]


@contextmanager
def nothing_left_behind(model: PreTrainedModel) -> Iterator[None]:
    def own_methods() -> list[str]:
        return [
            name
            for module in model.modules()
            for name in vars(module)
            if name in ("generate", "forward", "_get_stopping_criteria")
        ]

    def parameters() -> list[tuple[bool, bool]]:
        return [(p.requires_grad, p.is_inference()) for p in model.parameters()]

    def state() -> tuple[Any, ...]:
        configs = [m.config for m in model.modules() if isinstance(m, PreTrainedModel)]
        attention = [config._attn_implementation for config in configs]
        return state_of(model), own_methods(), parameters(), attention

    before = state()
    try:
        yield
    finally:
        assert state() == before


class Force(LogitsProcessor):
    """Chooses the tokens of every row."""

    def __init__(self, tokens: list[list[int]], n_prompt: int) -> None:
        self.tokens = torch.tensor(tokens)  # (B, steps)
        self.n_prompt = n_prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wanted = self.tokens[:, input_ids.shape[1] - self.n_prompt]
        return torch.full_like(scores, -1e9).scatter(1, wanted[:, None], 0.0)
