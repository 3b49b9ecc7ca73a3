"""What can be attached to, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    LlamaForSequenceClassification,
    T5Config,
    T5EncoderModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from splinellm import SplineExtractor, attach
from splinellm.backbone.loading import Backbone
from splinellm.errors import (
    AttentionUnavailableError,
    ConfigurationError,
    NothingRecordedError,
    SchemaError,
    UnsupportedArchitectureError,
)
from tests.live.models import (
    ALL,
    PAD,
    PROMPTS,
    causal_lm,
    check,
    extractor_of,
    left_padded,
    nothing_left_behind,
)
from tests.tiny import (
    pad,
    tiny_model,
    tiny_tokenizer,
)


def test_base_models_and_other_heads() -> None:
    base = tiny_model()
    extractor = extractor_of(base)
    classifier = LlamaForSequenceClassification(base.config).eval()
    classifier.model.load_state_dict(base.state_dict())
    classifier.config.pad_token_id = PAD
    ids, lengths = pad(PROMPTS, filler=PAD)
    mask = (torch.arange(9) < lengths[:, None]).long()
    for model in (base, classifier):
        with torch.no_grad():
            plain = model(ids, attention_mask=mask)[0]
            with nothing_left_behind(model), attach(model, features=ALL) as recorder:
                found = model(ids, attention_mask=mask, return_dict=False)[0]
                assert torch.equal(found, plain)
            check(recorder.table, extractor, PROMPTS)


def test_a_recorder_says_what_it_records() -> None:
    recorder = attach(causal_lm(), layers="1", features="sign_mean")
    assert repr(recorder).startswith("LiveRecorder(1 layers x 1 features (sign_mean), ")


def test_one_recorder_at_a_time() -> None:
    model = causal_lm()
    with nothing_left_behind(model), attach(model) as recorder:
        model(**left_padded())
        with pytest.raises(ConfigurationError, match="watched already"):
            attach(model, features="sign_mean").__enter__()
        with pytest.raises(ConfigurationError), recorder:
            pytest.fail("entered twice")
        extractor = SplineExtractor(Backbone(model.model, tiny_tokenizer(), "tiny"))
        with pytest.raises(ConfigurationError):
            extractor.extract(PROMPTS)
        assert recorder.n_tokens.tolist() == [5, 9, 3]
    assert extractor.extract(PROMPTS).n_tokens.tolist() == [5, 9, 3]


def test_other_attention_refuses_the_dimension_and_nothing_else() -> None:
    AttentionInterface.register("of_my_own", sdpa_attention_forward)
    AttentionMaskInterface.register("of_my_own", sdpa_mask)
    model = causal_lm()
    model.set_attn_implementation("of_my_own")
    with nothing_left_behind(model):
        with pytest.raises(AttentionUnavailableError, match="without intrinsic_dimension"):
            attach(model).__enter__()
        with torch.no_grad(), attach(model, features="spline,blocks") as recorder:
            model(**left_padded())
        assert recorder.provenance.attention == "of_my_own"
    model.set_attn_implementation("sdpa")
    check(recorder.table, extractor_of(model, "spline,blocks"), PROMPTS)


def test_what_cannot_be_attached_to() -> None:
    other = T5EncoderModel(T5Config(d_model=8, d_kv=8, d_ff=8, num_heads=1, num_layers=1))
    with pytest.raises(UnsupportedArchitectureError, match="T5EncoderModel holds no model"):
        attach(other)
    model = causal_lm()
    with pytest.raises(SchemaError):
        attach(model, layers="7")
    with pytest.raises(SchemaError):
        attach(model, features="sign_men")
    with pytest.raises(ConfigurationError):
        attach(model, dimension_threshold=2.0)
    with pytest.raises(NothingRecordedError):
        _ = attach(model).table


def test_layers_features_and_rules() -> None:
    model = causal_lm()
    backbone = Backbone(copy.deepcopy(model.model), tiny_tokenizer(), "tiny")
    settings: dict[str, Any] = {
        "layers": "0,2",
        "features": "sign_max,intrinsic_dimension",
        "dimension_rule": "absolute",
        "dimension_threshold": 0.2,
    }
    with torch.no_grad(), attach(model, **settings) as recorder:
        model(**left_padded())
    expected = SplineExtractor(backbone, **settings).extract(PROMPTS)
    assert recorder.table.names == expected.names
    np.testing.assert_allclose(recorder.table.values, expected.values, atol=2e-6)
    assert recorder.table.provenance.first_difference(expected.provenance)  # weights not hashed
