"""Memory that runs out, overflow, callers that fail: one prompt's trouble stays its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from splinellm import SplineExtractor
from splinellm.backbone.recorder import Recorder
from splinellm.errors import NonFiniteFeaturesError, OutOfMemoryError
from tests.tiny import random_prompts, tiny_backbone

PROMPTS = random_prompts(40, 30, 30, 9, 8, 5, 2, 1)
POISON = 5
"""Id of a token that the tests spoil; no random prompt holds it."""


@pytest.fixture(autouse=True)
def _prompts_are_free_of_poison() -> None:
    assert not any(POISON in prompt for prompt in PROMPTS)


def limit_memory(monkeypatch: pytest.MonkeyPatch, n_tokens: int, error: Exception) -> list[int]:
    """Let batches of more padded tokens fail; returns the sizes that were tried."""
    tried: list[int] = []
    read = Recorder.read

    def limited(self: Recorder, input_ids: Tensor, lengths: Tensor, **more: Any) -> Tensor:
        tried.append(input_ids.numel())
        if input_ids.numel() > n_tokens:
            raise error
        return read(self, input_ids, lengths, **more)

    monkeypatch.setattr(Recorder, "read", limited)
    return tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
    ids=["cuda", "python", "cpu", "mps"],
)
def test_batches_shrink_until_they_fit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    extractor = SplineExtractor(tiny_backbone(), batch_tokens=4096)
    expected = extractor.extract(PROMPTS)
    tried = limit_memory(monkeypatch, 100, error)
    done: list[int] = []
    found = extractor.extract(PROMPTS, on_progress=lambda n, _tokens: done.append(n))
    np.testing.assert_allclose(found.values, expected.values, atol=2e-6)
    assert sum(done) == len(PROMPTS)
    assert tried[:3] == [320, 160, 80]
    assert extractor.batch_tokens <= 100  # remembered
    tried.clear()
    extractor.extract(PROMPTS)
    assert max(tried) <= 100


def test_prompt_too_large_for_memory_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = SplineExtractor(tiny_backbone(), batch_tokens=4096)
    expected = extractor.extract(PROMPTS)
    limit_memory(monkeypatch, 35, torch.OutOfMemoryError())
    table, errors = extractor.extract_valid(PROMPTS)
    assert list(errors) == [0]
    assert isinstance(errors[0], OutOfMemoryError)
    assert "40 tokens" in str(errors[0])
    assert "--max-tokens" in str(errors[0])
    np.testing.assert_allclose(table.values, expected.values[1:], atol=2e-6)
    with pytest.raises(OutOfMemoryError, match="prompt 0"):
        extractor.extract(PROMPTS)


def test_other_errors_of_the_model_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_memory(monkeypatch, 0, RuntimeError("CUDA error: device-side assert"))
    with pytest.raises(RuntimeError, match="device-side"):
        SplineExtractor(tiny_backbone()).extract(PROMPTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "features", ["paper", "blocks", "sign_mean", "intrinsic_dimension", "distance_min"]
)
def test_overflow_is_refused_and_batch_mates_are_unharmed(features: str, value: float) -> None:
    # A comparison with NaN is false: signs and counts would come out as innocent zeros.
    backbone = tiny_backbone()
    extractor = SplineExtractor(backbone, features=features, batch_tokens=4096)
    expected = extractor.extract(PROMPTS)
    with torch.no_grad():
        backbone.model.embed_tokens.weight[POISON] = value
    prompts = [*PROMPTS[:3], [*PROMPTS[0][:9], POISON], *PROMPTS[3:], [POISON]]
    table, errors = extractor.extract_valid(prompts)
    assert list(errors) == [3, 9]
    assert all(isinstance(error, NonFiniteFeaturesError) for error in errors.values())
    assert "float32" in str(errors[3])
    np.testing.assert_allclose(table.values, expected.values, atol=2e-6)


def test_float16_that_overflows_is_refused() -> None:
    backbone = tiny_backbone(dtype=torch.float16)
    with torch.no_grad():
        backbone.model.layers[0].mlp.down_proj.weight.mul_(3e4)
    _, errors = SplineExtractor(backbone, features="blocks").extract_valid(PROMPTS)
    assert sorted(errors) == list(range(len(PROMPTS)))
    assert "in float16 overflowed" in str(errors[0])


def test_no_dtype_is_blamed_for_weights_that_cannot_work() -> None:
    """A gate without any hyperplane has no nearest one."""
    backbone = tiny_backbone()
    with torch.no_grad():
        backbone.model.layers[0].mlp.gate_proj.weight.zero_()
    _, errors = SplineExtractor(backbone, layers="0").extract_valid([PROMPTS[0]])
    assert "not finite after the forward pass in float32 (look for weights" in str(errors[0])
    assert "use float32" not in str(errors[0])


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()], ids=repr)
def test_caller_that_fails_leaves_the_model_free(error: BaseException) -> None:
    extractor = SplineExtractor(tiny_backbone(), batch_tokens=8)
    expected = extractor.extract(PROMPTS)

    def fail(*_: Any) -> None:
        raise error

    with pytest.raises(type(error)):  # kept alive, with its traceback and all frames
        extractor.extract(PROMPTS, on_progress=fail)
    assert not extractor.backbone.lock.locked()
    assert extractor.backbone.model.config._attn_implementation == "sdpa"
    assert not torch.is_inference_mode_enabled()
    assert (extractor.extract(PROMPTS).values == expected.values).all()
