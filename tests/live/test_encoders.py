"""A user's own encoder: watched in forward passes, refused where it would generate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertLMHeadModel,
    PreTrainedModel,
)

from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.errors import (
    ConfigurationError,
    PrefixUnavailableError,
    UnsupportedArchitectureError,
)
from splinellm.live import PaddingWarning
from tests.architectures import CASES, ENCODERS, case_model
from tests.live.models import check
from tests.tiny import random_prompts, tiny_tokenizer

PROMPTS = random_prompts(5, 9, 3)
PAD = 1
"""The id that RoBERTa's positions pass over."""
COUNTS_COLUMNS = ["bert", "distilbert", "electra"]
NEEDS_NO_POSITIONS = sorted(ENCODERS - set(COUNTS_COLUMNS) - {"deberta-v2-xlarge"})


def features_of(name: str) -> str:
    return (
        "paper" if CASES[name].has_dimension else "spline"
    ) + ",blocks,sign_entropy,complexity:0.4"


def extractor_of(name: str, model: PreTrainedModel) -> SplineExtractor:
    return SplineExtractor(Backbone(model, tiny_tokenizer(), "tiny"), features=features_of(name))


def padded(side: str) -> dict[str, Tensor]:
    longest = max(map(len, PROMPTS))
    rows = []
    for prompt in PROMPTS:
        filler = [PAD] * (longest - len(prompt))
        mask = [0] * len(filler)
        ones = [1] * len(prompt)
        rows.append(
            (filler + prompt, mask + ones) if side == "left" else (prompt + filler, ones + mask)
        )
    ids, masks = zip(*rows, strict=True)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(masks)}


def positions_of(mask: Tensor) -> Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


class SentenceEncoder(nn.Module):
    """A transformer, and the mean of what it gives, as in libraries for sentence embeddings."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.transformer = nn.Sequential(model)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        states = self.transformer[0](**batch).last_hidden_state
        weights = batch["attention_mask"][..., None]
        pooled: Tensor = (states * weights).sum(1) / weights.sum(1)
        return pooled


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_padded_on_the_right(name: str) -> None:
    model = case_model(name)
    expected = model(**padded("right")).last_hidden_state
    with torch.no_grad(), attach(model, features=features_of(name)) as recorder:
        found = model(**padded("right")).last_hidden_state
        check(recorder.table, extractor_of(name, case_model(name)), PROMPTS)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NEEDS_NO_POSITIONS)
def test_padded_on_the_left(name: str) -> None:
    model = case_model(name)
    with torch.no_grad(), attach(model, features=features_of(name)) as recorder:
        model(**padded("left"))
        check(recorder.table, extractor_of(name, case_model(name)), PROMPTS)


@pytest.mark.parametrize("name", [*COUNTS_COLUMNS, "deberta-v2-xlarge"])
def test_padded_on_the_left_where_columns_count(name: str) -> None:
    model = case_model(name)
    inputs = padded("left")
    with torch.no_grad(), attach(model, features=features_of(name)) as recorder:
        model(**inputs, position_ids=positions_of(inputs["attention_mask"]))
        check(recorder.table, extractor_of(name, case_model(name)), PROMPTS)
        with pytest.warns(PaddingWarning, match="padded on the left"):
            model(**inputs)


@pytest.mark.parametrize("name", ["bert", "distilbert"])
@pytest.mark.parametrize("shape", ["per key", "per query", "added"])
def test_masks_of_four_axes(name: str, shape: str) -> None:
    model = case_model(name)
    inputs = padded("right")
    mask = inputs["attention_mask"][:, None, None].bool()
    if shape != "per key":
        mask = mask.expand(-1, 1, mask.shape[-1], -1)
    if shape == "added":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        # Padding attends to nothing here, or it could not be told from text.
        mask = mask.masked_fill(~inputs["attention_mask"][:, None, :, None].bool(), -1e9)
    with torch.no_grad(), attach(model, features=features_of(name)) as recorder:
        model(inputs["input_ids"], attention_mask=mask)
        check(recorder.table, extractor_of(name, case_model(name)), PROMPTS)


@pytest.mark.parametrize("kind", [AutoModelForSequenceClassification, AutoModelForMaskedLM])
@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "roberta", "deberta-v2"])
def test_models_with_heads(name: str, kind: Any) -> None:
    base = case_model(name)
    model = kind.from_config(base.config).eval()
    getattr(model, model.base_model_prefix).load_state_dict(base.state_dict(), strict=False)
    with torch.no_grad(), attach(model, features=features_of(name), layers="0-1") as recorder:
        model(**padded("right"))
        table = recorder.table
    expected = extractor_of(name, base).extract(PROMPTS)
    assert table.array.shape[1] == 2
    np.testing.assert_allclose(table.array[..., 0], expected.array[:, :2, 0], atol=1e-6)


def test_inside_of_a_sentence_encoder() -> None:
    model = SentenceEncoder(case_model("bert"))
    with torch.no_grad(), attach(model, features=features_of("bert")) as recorder:
        model(padded("right"))
        check(recorder.table, extractor_of("bert", case_model("bert")), PROMPTS)
        model({key: value[:2] for key, value in padded("right").items()})
        assert len(recorder.table) == 2  # every pass is of texts of its own


def test_generate_is_refused() -> None:
    model = BertLMHeadModel(case_model("bert").config).eval()
    inputs = padded("left")
    with torch.no_grad(), attach(model) as recorder:
        model(**inputs, position_ids=positions_of(inputs["attention_mask"]))
        before = recorder.table
        with pytest.raises(PrefixUnavailableError, match=r"'bert'.*while it generates"):
            model.generate(**inputs, max_new_tokens=2, pad_token_id=PAD)
        assert np.array_equal(recorder.table.values, before.values)


def test_an_encoder_made_into_a_decoder_is_refused() -> None:
    config = BertConfig(**{**case_model("bert").config.to_dict(), "is_decoder": True})
    with pytest.raises(UnsupportedArchitectureError, match="is_decoder=False"):
        attach(BertLMHeadModel(config))


def test_two_encoders_are_too_many() -> None:
    with pytest.raises(ConfigurationError, match="holds 2 models: BertModel at '0'"):
        attach(nn.Sequential(case_model("bert"), case_model("electra")))
