"""Specs of every kind lead to a backbone, or to one clear error; nothing reaches the network."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
)

from splinellm import SplineExtractor
from splinellm.backbone import loading
from splinellm.backbone.architectures import ARCHITECTURES, architecture_of
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.errors import (
    ConfigurationError,
    ModelLoadError,
    ModelNotFoundError,
    OfflineError,
    SchemaError,
    UnsupportedArchitectureError,
)
from splinellm.files import file_sha256
from tests.architectures import case_model
from tests.tiny import MAX_POSITIONS, N_HYPERPLANES, VOCABULARY, tiny_model, tiny_tokenizer

TEXTS = ["The capital of France is", "Hi"]


class NoHub:
    """Stands for `HfApi`; knows no model, and whoever calls it is written down."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None

    def __call__(self) -> NoHub:
        return self

    def model_info(self, spec: str, timeout: float) -> None:
        assert timeout <= 10
        self.asked.append(spec)
        raise self.error or _not_found()


def _not_found() -> Exception:
    import httpx

    request = httpx.Request("GET", "https://hub.invalid")
    return RepositoryNotFoundError("404", response=httpx.Response(404, request=request))


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> NoHub:
    fake = NoHub()
    monkeypatch.setattr(loading, "HfApi", fake)
    monkeypatch.delenv("SPLINELLM_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder in transformers' format."""
    path = tmp_path / "checkpoint"
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_folder(folder: Path, hub: NoHub) -> None:
    backbone = load_backbone(str(folder), device="cpu")
    assert backbone.weights_sha256 == file_sha256(folder / "model.safetensors")
    assert (backbone.spec, backbone.dtype) == (str(folder), "float32")
    assert backbone.model.config._attn_implementation == "sdpa"
    assert not backbone.model.training
    found = SplineExtractor(backbone).extract(TEXTS)
    direct = SplineExtractor(Backbone(tiny_model(), tiny_tokenizer(), "x")).extract(TEXTS)
    assert (found.values == direct.values).all()
    assert hub.asked == []


def test_folder_of_a_model_with_a_head_and_shards(tmp_path: Path) -> None:
    base = tiny_model()
    whole = LlamaForCausalLM(base.config)
    whole.model.load_state_dict(base.state_dict())
    whole.save_pretrained(tmp_path, max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    found = SplineExtractor(load_backbone(str(tmp_path), device="cpu")).extract(TEXTS)
    direct = SplineExtractor(Backbone(base, tiny_tokenizer(), "x")).extract(TEXTS)
    assert (found.values == direct.values).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype(folder: Path, dtype: str) -> None:
    backbone = load_backbone(str(folder), dtype=dtype, device="cpu")
    assert backbone.dtype == dtype
    assert {p.dtype for p in backbone.model.parameters()} == {getattr(torch, dtype)}


def test_auto_dtype_is_float32_on_a_cpu_whatever_the_checkpoint_has(tmp_path: Path) -> None:
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path), device="cpu").dtype == "float32"


def test_facts_of_a_backbone(llama: Backbone) -> None:
    assert (llama.n_layers, llama.n_hyperplanes) == (3, N_HYPERPLANES)
    assert (llama.n_vocabulary, llama.max_positions) == (VOCABULARY, MAX_POSITIONS)
    assert len(llama.tokenizer_probe) > 20


def test_missing_weight_is_refused(folder: Path) -> None:
    # transformers would fill it with random numbers and a log line.
    state = load_file(folder / "model.safetensors")
    del state["layers.1.mlp.gate_proj.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"lacks 1 weights.*layers\.1\.mlp\.gate_proj"):
        load_backbone(str(folder), device="cpu")


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "modernbert", "mpnet"])
def test_checkpoint_of_a_masked_language_model(name: str, tmp_path: Path) -> None:
    # It has a head that is not read, and lacks the pooler, which is not read either.
    base = case_model(name)
    whole = AutoModelForMaskedLM.from_config(base.config)
    getattr(whole, whole.base_model_prefix).load_state_dict(base.state_dict(), strict=False)
    whole.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), device="cpu")
    found = SplineExtractor(backbone, features="spline").extract(TEXTS)
    direct = SplineExtractor(Backbone(base, tiny_tokenizer(), "x"), features="spline")
    assert (found.values == direct.extract(TEXTS).values).all()


def test_missing_weight_of_an_encoder_is_refused(tmp_path: Path) -> None:
    case_model("bert").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.layer.1.intermediate.dense.bias"], state["pooler.dense.bias"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"lacks 1 weights.*layer\.1\.intermediate"):
        load_backbone(str(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{}", b'{"vocab_size": "x"}'])
def test_damaged_file_is_refused_in_one_line(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises((ModelLoadError, UnsupportedArchitectureError)) as caught:
        load_backbone(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_not_opened(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError):
        load_backbone(str(folder), device="cpu")


def test_code_in_a_checkpoint_is_not_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')\n")
    edit_config(
        folder,
        model_type="evil",
        auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
    )
    with pytest.raises(ModelLoadError):
        load_backbone(str(folder), device="cpu")


def test_unsupported_architecture_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    T5Config(num_layers=1, num_heads=1, d_model=8).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedArchitectureError, match=r"'t5'.*llama, ministral"):
        load_backbone(str(tmp_path), device="cpu")


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_registry_names_its_entries(name: str) -> None:
    assert architecture_of(name).model_type == name


def test_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ModelLoadError):
        load_backbone(str(folder), device="cpu")


def test_empty_folder_and_missing_files(tmp_path: Path, hub: NoHub) -> None:
    with pytest.raises(ModelLoadError):
        load_backbone(str(tmp_path), device="cpu")
    with pytest.raises(ModelNotFoundError, match="there is no file"):
        load_backbone(str(tmp_path / "missing.gguf"), device="cpu")
    with pytest.raises(ModelNotFoundError):
        load_backbone(str(tmp_path / "missing"), device="cpu")


def test_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"not GGUF")
    with pytest.raises(ModelLoadError):
        load_backbone(str(tmp_path / "model.gguf"), device="cpu")


@pytest.mark.parametrize("spec", ["smollm2-135", "smolm2-135m", "SmolLM2-135M"])
def test_typo_gets_a_suggestion(spec: str, hub: NoHub) -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean 'smollm2-135m'"):
        load_backbone(spec, device="cpu")
    assert hub.asked == [spec]


def test_a_suggestion_comes_before_a_hub_that_never_answers(
    hub: NoHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It came after minutes: a timeout is of each address and each attempt."""
    ended = Event()
    monkeypatch.setattr(loading, "_HUB_S", 0.05)
    monkeypatch.setattr(hub, "model_info", lambda *_args, **_kwargs: ended.wait(60))
    try:
        with pytest.raises(ModelNotFoundError, match=r"did not answer \(TimeoutError\) \(did you"):
            load_backbone("smollm2", device="cpu")
    finally:
        ended.set()
    assert "did you mean 'smollm2-135m'? Asking" in caplog.text
    caplog.clear()
    monkeypatch.setattr(hub, "model_info", NoHub().model_info)
    with pytest.raises(ModelNotFoundError):
        load_backbone("someone/smollm2-135m", device="cpu")
    assert not caplog.text  # the id of somebody's model is no typo


@pytest.mark.parametrize("spec", ["a/b/c", "../etc", "who?what", "x" * 500, "~nobody-here/x"])
def test_impossible_spec(spec: str) -> None:
    with pytest.raises((ModelNotFoundError, ModelLoadError)) as caught:
        load_backbone(spec, device="cpu")
    assert len(str(caught.value)) < 600


def test_hub_that_does_not_answer(hub: NoHub) -> None:
    hub.error = TimeoutError("no route")
    with pytest.raises(ModelNotFoundError, match=r"did not answer \(TimeoutError\)"):
        load_backbone("someone/model", device="cpu")


@pytest.mark.parametrize("variable", ["SPLINELLM_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_no_hub(hub: NoHub, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(OfflineError, match="someone/model"):
        load_backbone("someone/model", device="cpu")
    assert hub.asked == []


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "xpu", "cpu:x", ""])
def test_absent_device(device: str) -> None:
    with pytest.raises(ConfigurationError, match="device"):
        load_backbone("smollm2-135m", device=device)


@pytest.mark.parametrize("layers", [1, np.array(1), iter([1])])
def test_one_layer(folder: Path, layers: Any) -> None:
    extractor = SplineExtractor.from_pretrained(folder, device="cpu", layers=layers)
    assert extractor.plan.layers == (1,)
    assert extractor.backbone.n_loaded_layers == 2


def test_a_device_of_torchs(folder: Path) -> None:
    assert load_backbone(folder, device=torch.device("cpu")).device.type == "cpu"


@pytest.mark.parametrize("device", [99, np.int64(99), torch.device("cuda", 99), "hpu"])
def test_an_absent_device_is_told_with_those_that_are_there(device: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is not there \(use auto, cpu"):
        load_backbone("smollm2-135m", device=device)


@pytest.mark.parametrize("dtype", [["float32"], np.array(["auto", "float32"]), 32])
def test_a_dtype_is_text(dtype: Any) -> None:
    with pytest.raises(ConfigurationError, match="dtype is of type"):
        load_backbone("smollm2-135m", device="cpu", dtype=dtype)


_NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.mark.parametrize("device", [None, pytest.param(0, marks=_NO_CUDA)])
def test_a_device_is_text(device: Any) -> None:
    with pytest.raises(ConfigurationError, match="device is of type"):
        load_backbone("smollm2-135m", device=device)


@pytest.mark.parametrize("spec", [None, 5, b"smollm2-135m"])
def test_a_model_is_named_by_text_or_path(spec: Any) -> None:
    with pytest.raises(ConfigurationError, match="model is of type"):
        load_backbone(spec)
    with pytest.raises(ModelNotFoundError, match=r"no file '/there/is/none\.gguf'"):
        load_backbone(Path("/there/is/none.gguf"))


def test_unknown_dtype() -> None:
    with pytest.raises(ConfigurationError, match="float32, bfloat16, float16"):
        load_backbone("smollm2-135m", dtype="int8", device="cpu")


def test_typo_in_the_features_costs_no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splinellm.extraction.extractor.load_backbone", None)
    with pytest.raises(SchemaError, match="sign_meen"):
        SplineExtractor.from_pretrained(features="sign_meen")


def test_features_may_be_an_iterator(folder: Path) -> None:
    extractor = SplineExtractor.from_pretrained(
        str(folder), device="cpu", features=iter(["sign_mean", "blocks:4"])
    )
    assert extractor.schema.shape == (3, 5)


def test_loading_leaves_transformers_logging_as_it_was(folder: Path) -> None:
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        load_backbone(str(folder), device="cpu")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_backbone(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_slow_tokenizer_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(ModelLoadError, match="fast tokenizer"):
        load_backbone(str(folder), device="cpu")


def test_config_of_another_size_is_refused(folder: Path) -> None:
    edit_config(folder, intermediate_size=64)
    with pytest.raises(ModelLoadError):
        load_backbone(str(folder), device="cpu")


def test_unknown_model_in_memory_is_refused() -> None:
    model = tiny_model()
    model.config = LlamaConfig(hidden_size=32)
    model.config.model_type = "mamba"
    with pytest.raises(UnsupportedArchitectureError, match="mamba"):
        Backbone(model, tiny_tokenizer(), "x")
