"""`verify()` passes on a sound installation, and fails when the fast way is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from splinellm import SplineExtractor, geometry
from splinellm.backbone import recorder
from splinellm.backbone.loading import Backbone
from splinellm.errors import ConfigurationError, ModelLoadError, VerificationError
from tests.backbone.test_norms import quantised
from tests.tiny import tiny_backbone, tiny_model, tiny_tokenizer

PROMPTS = ["Hi", "The capital of France is", "def add(a, b):\n    return a + b\n"]


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("rule", ["relative", "absolute"])
def test_sound_model_passes(kind: str, rule: Any) -> None:
    extractor = SplineExtractor(
        tiny_backbone(kind),
        features="paper,blocks,sign_entropy,complexity:0.4",
        layers="0,2",
        dimension_rule=rule,
    )
    report = extractor.verify()
    assert report.passed
    assert report.n_values == 4 * 2 * 44
    assert report.sign < 1e-6
    assert report.dimension == 0
    assert not extractor.backbone.lock.locked()
    assert extractor.backbone.model.config._attn_implementation == "sdpa"


def test_half_precision_passes_on_what_it_can_resolve() -> None:
    backbone = tiny_backbone(dtype=torch.bfloat16)
    assert SplineExtractor(backbone, features="sign_mean,intrinsic_dimension").verify().passed


def test_pruned_rows_are_no_hyperplanes() -> None:
    backbone = tiny_backbone()
    with torch.no_grad():
        for layer in backbone.model.layers:
            layer.mlp.gate_proj.weight[::7] = 0
    report = SplineExtractor(backbone).verify(PROMPTS)
    assert report.passed
    assert report.distance < 1e-3


def changed(function: Callable[..., Tensor], change: Callable[[Tensor], Tensor]) -> Any:
    return lambda *args, **kwargs: change(function(*args, **kwargs))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sign_counts", lambda s: s + 0.005),  # in each of 32 blocks: 0.16 of 72 signs
        ("hyperplane_distance", lambda d: d * 1.03),
        ("hyperplane_distance", lambda d: d + 1e-4),
        ("sign_counts", lambda s: s.flip(-1)),
        ("sign_entropy", lambda e: e + 0.02),
        ("sign_entropy", lambda e: e.square()),
        ("complexity", lambda c: c + 0.002),
        ("root_mean_square", lambda r: r * 1.2),
        ("block_sizes", lambda sizes: sizes[::-1]),
        ("intrinsic_dimension", lambda n: n + 1),
        ("row_norms", lambda n: n.square()),
        ("Moments.summary", lambda s: s[..., [0, 2, 1, 3]]),
        ("last_row_scores", lambda s: s.roll(1, 0) if len(s) > 1 else s * 0.5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_formula_fails(name: str, change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    owner: Any = geometry.Moments if "." in name else geometry
    attribute = name.rpartition(".")[2]
    broken = changed(getattr(owner, attribute), change)
    monkeypatch.setattr(owner, attribute, broken)
    if name == "row_norms":
        monkeypatch.setattr("splinellm.backbone.norms.row_norms", broken)
    extractor = SplineExtractor(
        tiny_backbone(), features="paper,blocks,sign_entropy,complexity:0.4"
    )
    report = extractor.verify(PROMPTS, raise_on_failure=False)
    assert not report.passed
    with pytest.raises(VerificationError, match="differ"):
        extractor.verify(PROMPTS)


def test_broken_sign_fraction_fails_where_no_block_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        geometry, "sign_fraction", changed(geometry.sign_fraction, lambda s: s + 0.002)
    )
    with pytest.raises(VerificationError):
        SplineExtractor(tiny_backbone(), features="sign_mean").verify(PROMPTS)


def test_ignored_mask_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    hear = recorder._AttentionEar.__call__
    monkeypatch.setattr(
        recorder._AttentionEar,
        "__call__",
        lambda self, attended: hear(self, replace(attended, mask=None)),
    )
    with pytest.raises(VerificationError):
        SplineExtractor(tiny_backbone("mistral")).verify()


def test_broken_hook_order_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if a transformers release ordered the gate's rows in another way.
    backbone = tiny_backbone()
    for layer in backbone.model.layers:
        layer.mlp.gate_proj.register_forward_hook(lambda *args: args[-1].roll(1, -1))
    with pytest.raises(VerificationError):
        SplineExtractor(backbone, features="paper,blocks").verify(PROMPTS)


def test_gate_behind_the_activation_is_no_linear_map() -> None:
    backbone = tiny_backbone()
    for layer in backbone.model.layers:
        layer.mlp.gate_proj.register_forward_hook(lambda *args: torch.relu(args[-1]))
    with pytest.raises(ModelLoadError, match="no linear map"):
        SplineExtractor(backbone).verify(PROMPTS)


def test_packed_weights_cannot_be_verified_and_that_is_said() -> None:
    backbone = Backbone(quantised(tiny_model()), tiny_tokenizer(), "packed")
    with pytest.raises(ConfigurationError, match="packed"):
        SplineExtractor(backbone).verify(PROMPTS)
    assert not backbone.lock.locked()
    assert backbone.model.config._attn_implementation == "sdpa"
