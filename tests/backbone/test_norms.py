"""Norms of dense, packed and absent weights are those of the rows that the forward pass uses."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splinellm.backbone import linear_maps
from splinellm.backbone.loading import Backbone
from splinellm.backbone.norms import hyperplane_norms
from splinellm.errors import ModelLoadError
from tests.tiny import pad, random_prompts, recorder_of, tiny_model, tiny_tokenizer

CPU = torch.device("cpu")
K, D = 10, 12


def rows(seed: int = 0) -> Tensor:
    return torch.randn(K, D, generator=torch.Generator().manual_seed(seed))


def row_lengths(weight: Tensor) -> Tensor:
    return torch.stack([(row.double() @ row.double()).sqrt() for row in weight]).float()


class Packed(nn.Module):
    """Like the packed layers of quantisation libraries: ``weight`` is bytes of another shape."""

    def __init__(self, codes: Tensor, scale: float, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(codes.flatten()[:, None], requires_grad=False)
        self.in_features, self.out_features = codes.shape[1], codes.shape[0]
        self.scale, self.bias = scale, bias

    def dense(self) -> Tensor:
        return (self.weight.view(self.out_features, -1).float() - 128) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dense().to(x.dtype), self.bias)


class Float8(nn.Linear):
    """Like a float8 layer: a weight of the right shape, whose scale is elsewhere."""

    def __init__(self, dense: Tensor) -> None:
        super().__init__(D, K, bias=False)
        self.weight = nn.Parameter((dense * 16).to(torch.float8_e4m3fn), requires_grad=False)

    def dense(self) -> Tensor:
        return self.weight.float() / 16

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.dense().T


class Offloaded(nn.Linear):
    """Like a layer that a dispatcher fills when it is called: the weight is on `meta`."""

    def __init__(self, dense: Tensor) -> None:
        super().__init__(D, K, device="meta")
        self.hidden = dense

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.hidden.T + 5.0


def codes() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (K, D), generator=generator, dtype=torch.uint8)


def dense_linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    linear.weight.data.copy_(weight)
    return linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dense_weight(dtype: torch.dtype) -> None:
    linear = dense_linear(rows().to(dtype))
    found = hyperplane_norms(linear, D, CPU)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, row_lengths(linear.weight.detach()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bias", [None, torch.linspace(-9, 9, K)], ids=["plain", "bias"])
@pytest.mark.parametrize("probe_rows", [1, 5, 512])
def test_packed_weight(
    bias: Tensor | None, probe_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_maps, "_PROBE_ROWS", probe_rows)
    packed = Packed(codes(), 0.01, bias)
    expected = row_lengths(packed.dense())
    torch.testing.assert_close(hyperplane_norms(packed, D, CPU), expected, rtol=1e-5, atol=0)


def test_packed_weight_of_the_right_shape_is_not_taken_for_dense() -> None:
    packed = Packed(codes(), 0.01, None)
    packed.weight = nn.Parameter(codes(), requires_grad=False)
    expected = row_lengths(packed.dense())
    torch.testing.assert_close(hyperplane_norms(packed, D, CPU), expected, rtol=1e-5, atol=0)


def test_scaled_float8_weight() -> None:
    layer = Float8(rows())
    expected = row_lengths(layer.dense())
    torch.testing.assert_close(hyperplane_norms(layer, D, CPU), expected, rtol=1e-5, atol=0)


def test_offloaded_weight() -> None:
    expected = row_lengths(rows())
    found = hyperplane_norms(Offloaded(rows()), D, CPU)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_transposed_weight() -> None:
    # transformers' Conv1D keeps (D, K): the rows are its columns.
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(K, D)
    found = hyperplane_norms(layer, D, CPU)
    torch.testing.assert_close(found, row_lengths(layer.weight.detach().T), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Sequential(nn.Linear(D, K), nn.ReLU()),
        nn.Sequential(nn.Linear(D, K), nn.SiLU()),
        nn.LayerNorm(D),
        nn.Embedding(D, K),
        nn.Linear(D + 1, K),
        dense_linear(torch.full((K, D), torch.nan)).requires_grad_(False).half(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_no_linear_map_is_refused(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear) and layer.in_features == D:
        layer = nn.Sequential(layer)  # not read directly: its answers are not finite
    with pytest.raises(ModelLoadError, match=r"cannot be computed.*dequantised"):
        hyperplane_norms(layer, D, CPU)


def quantised(model: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao moves to another package
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def test_quantised_backbone_reads_like_its_dequantised_twin() -> None:
    # The norms of packed weights are asked of the gate, which must not reach the recorder.
    packed = Backbone(quantised(tiny_model()), tiny_tokenizer(), "packed")
    gate = packed.model.layers[1].mlp.gate_proj
    expected = row_lengths(gate.weight().dequantize())
    torch.testing.assert_close(packed.norms(1), expected, rtol=1e-3, atol=0)

    batch = pad(random_prompts(3, 8))
    with torch.inference_mode(), recorder_of(packed) as recorder:
        found = recorder.read(*batch)
        assert torch.equal(recorder.read(*batch), found)  # the first read has no calls of its own
    dense = Backbone(tiny_model(), tiny_tokenizer(), "dense")
    with torch.inference_mode(), recorder_of(dense) as recorder:
        near = recorder.read(*batch)
    # int8 arithmetic differs; columns of another layer or of bytes would be far off.
    assert (found - near)[..., :4].abs().max() < 0.1


def test_norms_are_computed_once(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first = llama.norms(2)
    monkeypatch.setattr("splinellm.backbone.gates.hyperplane_norms", None)
    assert llama.norms(2) is first
