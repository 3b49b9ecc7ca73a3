"""Models in memory, and folders that hold something else than a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from splinellm import SplineExtractor, model_path
from splinellm.cli import run
from splinellm.errors import (
    ConfigurationError,
    ModelLoadError,
    ModelNotFoundError,
    UnsupportedArchitectureError,
)
from tests.architectures import case_backbone
from tests.live.models import causal_lm, extractor_of
from tests.tiny import tiny_tokenizer

TEXTS = ["The capital of France is", "x"]


def small_mamba() -> MambaForCausalLM:
    return MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=64))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_in_memory_with_its_tokenizer(wrapped: bool) -> None:
    model = causal_lm()
    expected = extractor_of(model).extract(TEXTS)
    given: torch.nn.Module = model
    if wrapped:
        given = torch.nn.Sequential(model)
    table = SplineExtractor(given, tiny_tokenizer(), features=expected.provenance.features)
    np.testing.assert_array_equal(table.extract(TEXTS).values, expected.values)
    assert table.provenance.weights_sha256 or wrapped


def test_token_ids_need_no_tokenizer() -> None:
    model = causal_lm()
    ids = [tiny_tokenizer()(text)["input_ids"] for text in TEXTS]
    bare = SplineExtractor(model, features="paper", max_tokens=3)
    table = bare.extract(ids)
    expected = SplineExtractor(model, tiny_tokenizer(), features="paper", max_tokens=3)
    np.testing.assert_array_equal(table.values, expected.extract(ids).values)
    assert table.truncated.tolist() == [True, False]
    assert bare.provenance.tokenizer_probe == ()
    assert "tokenizer_probe" in str(table.provenance.first_difference(expected.provenance))


def test_tokens_of_ids_have_no_text_without_a_tokenizer() -> None:
    model = causal_lm()
    bare, whole = SplineExtractor(model), SplineExtractor(model, tiny_tokenizer())
    ids = whole.tokenize(TEXTS)[0][0].ids
    for granularity in ("token", "prefix"):
        found = bare.extract([ids], granularity=granularity)
        np.testing.assert_array_equal(
            found.values, whole.extract([ids], granularity=granularity).values
        )
        assert found.tokens is not None
        assert list(found.tokens.token) == [""] * len(ids)
        assert found.tokens.position.tolist() == [*range(len(ids))]
    looked_at = bare.inspect(ids).to_dict()
    assert [token["token"] for token in looked_at["tokens"]] == [""] * len(ids)


def test_token_ids_of_an_encoder_need_a_tokenizer_where_they_are_cut() -> None:
    backbone = case_backbone("bert")
    ids = backbone.tokenizer(TEXTS[0])["input_ids"]
    bare = SplineExtractor(backbone.model, features="paper", max_tokens=len(ids))
    assert bare.extract([ids]).values.shape[0] == 1
    short = SplineExtractor(backbone.model, features="paper", max_tokens=len(ids) - 1)
    with pytest.raises(ConfigurationError, match="needs its tokenizer"):  # it knows the end
        short.extract([ids])


def test_a_tokenizer_is_not_guessed() -> None:
    with pytest.raises(ConfigurationError, match="a model in memory needs its tokenizer to read"):
        SplineExtractor(causal_lm()).extract(TEXTS)
    backbone = extractor_of(causal_lm()).backbone
    with pytest.raises(ConfigurationError, match="has its own tokenizer"):
        SplineExtractor(backbone, tiny_tokenizer())
    assert SplineExtractor(backbone, backbone.tokenizer).backbone is backbone


@pytest.mark.parametrize(
    ("given", "shown"), [("smollm2-135m", "'smollm2-135m'"), (7, "a int"), (None, "a NoneType")]
)
def test_what_is_no_model_is_refused_with_the_way_to_load_one(given: Any, shown: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{shown} is no model in memory \(.*pretrained"):
        SplineExtractor(given, tiny_tokenizer())


def test_a_mamba_is_one_sentence(tmp_path: Path) -> None:
    reason = "a 'mamba' cannot be read: its layers have no MLP"
    with pytest.raises(UnsupportedArchitectureError, match=reason) as caught:
        SplineExtractor(small_mamba(), tiny_tokenizer())
    assert len(str(caught.value)) < 200
    small_mamba().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedArchitectureError, match=reason):
        SplineExtractor.from_pretrained(str(tmp_path))


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    causal_lm().save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=r"a model without its tokenizer \(.*save_pretrained"):
        SplineExtractor.from_pretrained(str(tmp_path))
    tiny_tokenizer().save_pretrained(tmp_path)
    assert SplineExtractor.from_pretrained(str(tmp_path)).extract(TEXTS).array.shape[0] == 2
    assert model_path(str(tmp_path)) == tmp_path.resolve()


@pytest.mark.parametrize(
    ("content", "base"),
    [
        (json.dumps({"base_model_name_or_path": "org/base"}), ": it is of 'org/base'"),
        ("[]", r" \(load"),
        ("no JSON", r" \(load"),
    ],
)
def test_a_folder_of_an_adapter(tmp_path: Path, content: str, base: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelLoadError, match=f"holds an adapter, not a model{base}"):
        SplineExtractor.from_pretrained(str(tmp_path))


def test_an_empty_folder_and_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelLoadError, match=r"holds no model: it has no config\.json"):
        SplineExtractor.from_pretrained(str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="no folder of a model 'a/b/c' here"):
        model_path("a/b/c")
    assert run(["models", "path", "no-such-model"]) == 1
    assert "built in: smollm2-135m" in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2-135m", "minilm-l6"])
def test_transformers_opens_the_folder_of_a_built_in_model(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModel, AutoModelForCausalLM

    assert run(["models", "path", name]) == 0
    folder = capsys.readouterr().out.strip()
    kind = AutoModel if name == "minilm-l6" else AutoModelForCausalLM
    _, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
