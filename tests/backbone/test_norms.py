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
from splinellm.errors import ConfigurationError, ModelLoadError
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


class Doubled(nn.Linear):
    """Computes something else than its weight says, as adapters of any library do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2 + 1


class Quiet(nn.Linear):
    """A subclass that computes what its weight says."""


class Triple(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 3


def patched(linear: nn.Linear) -> nn.Linear:
    forward = linear.forward
    linear.forward = lambda x: forward(x * 2)  # type: ignore[method-assign]
    return linear


def parametrised(linear: nn.Linear) -> nn.Linear:
    nn.utils.parametrize.register_parametrization(linear, "weight", Triple())
    return linear


def weight_normed(linear: nn.Linear) -> nn.Linear:
    found = nn.utils.parametrizations.weight_norm(linear)
    with torch.no_grad():
        found.parametrizations.weight.original0.mul_(torch.linspace(1, 9, K)[:, None])
    return found


def tied(linear: nn.Linear) -> nn.Linear:
    other = nn.Embedding(K, D)
    linear.weight = other.weight
    return linear


def compiled(linear: nn.Linear) -> nn.Module:
    wrapped: Any = nn.Module()
    wrapped.base_layer = linear
    wrapped.forward = lambda x: linear(x)[..., :] * torch.linspace(1, 2, K)
    return wrapped  # type: ignore[no-any-return]


MAPS = {
    "subclass with a forward": lambda: Doubled(D, K),
    "subclass without": lambda: Quiet(D, K),
    "patched forward": lambda: patched(nn.Linear(D, K)),
    "parametrised": lambda: parametrised(nn.Linear(D, K)),
    "weight norm": lambda: weight_normed(nn.Linear(D, K)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(D, K)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(D, K)).eval(),
    "tied": lambda: tied(nn.Linear(D, K)),
    "wrapped": lambda: compiled(nn.Linear(D, K)),
    "two in a row": lambda: nn.Sequential(nn.Linear(D, 5), nn.Linear(5, K)),
    "bias that hides the rows": lambda: nn.Sequential(dense_linear(rows()), Shift(3e3)),
    "no bias": lambda: nn.Sequential(nn.Linear(D, K, bias=False)),
    "zero": lambda: nn.Sequential(dense_linear(torch.zeros(K, D))),
}


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


@pytest.mark.parametrize("kind", MAPS)
def test_norms_are_those_of_what_is_computed(kind: str) -> None:
    torch.manual_seed(0)
    module = MAPS[kind]()
    found = hyperplane_norms(module, D, CPU)
    exact = module.double()
    with torch.no_grad():
        origin = exact(torch.zeros(1, D, dtype=torch.float64))
        columns = exact(torch.eye(D, dtype=torch.float64)) - origin
    assert not found.requires_grad
    torch.testing.assert_close(found.double(), columns.norm(dim=0), rtol=1e-5, atol=0)


def test_what_moves_on_in_training_mode_is_refused_and_put_back() -> None:
    torch.manual_seed(0)
    module = nn.utils.parametrizations.spectral_norm(nn.Linear(D, K))
    before = {name: value.clone() for name, value in module.named_buffers()}
    with pytest.raises(ConfigurationError, match=r"moves on.*eval\(\)"):
        hyperplane_norms(module, D, CPU)
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())


def test_asking_uses_no_random_numbers_and_calls_no_hooks() -> None:
    module, calls = Doubled(D, K), []
    module.register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    hyperplane_norms(module, D, CPU)
    assert torch.equal(torch.rand(2), expected)
    assert not calls


def read_with_hook(place: Any, hook: Any) -> tuple[Tensor, Tensor]:
    """Distances of a layer whose gate has a hook of somebody else, with and without it."""
    found = []
    for is_hooked in (True, False):
        backbone = Backbone(tiny_model(), tiny_tokenizer(), "tiny")
        gate = backbone.model.layers[1].mlp.gate_proj
        if is_hooked:
            place(gate)(hook)
        with torch.inference_mode(), recorder_of(backbone, "spline", "1") as recorder:
            found.append(recorder.read(*pad(random_prompts(6, 6))))
    return found[0], found[1]


def test_hooks_that_only_look_are_called_once_a_pass() -> None:
    calls: list[int] = []
    found, plain = read_with_hook(
        lambda gate: gate.register_forward_hook, lambda *_: calls.append(1)
    )
    assert torch.equal(found, plain)
    assert len(calls) == 1


def test_hook_that_scales_the_output_scales_the_norms() -> None:
    found, plain = read_with_hook(
        lambda gate: gate.register_forward_hook, lambda _module, _args, h: h * 5
    )
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-6)


def test_hook_that_makes_a_curve_of_the_map_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="no linear map"):
        read_with_hook(lambda gate: gate.register_forward_hook, lambda _module, _args, h: h.tanh())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_old_weight_norm_is_of_the_pass() -> None:
    backbone = Backbone(tiny_model(), tiny_tokenizer(), "tiny")
    plain = recorder_of(backbone, "spline", "1")
    with torch.inference_mode(), plain as recorder:
        expected = recorder.read(*pad(random_prompts(6, 6)))
    gate = torch.nn.utils.weight_norm(backbone.model.layers[1].mlp.gate_proj)
    with torch.no_grad():
        gate.weight_g.mul_(torch.linspace(0.5, 4, 72)[:, None])
    with torch.inference_mode(), recorder_of(backbone, "spline", "1") as recorder:
        found = recorder.read(*pad(random_prompts(6, 6)))
        # Rows of other lengths are the same hyperplanes.
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        gate.weight_g.data.mul_(3)
        again = recorder.read(*pad(random_prompts(6, 6)))
    torch.testing.assert_close(again, expected, rtol=1e-3, atol=1e-6)


def test_norms_are_computed_once(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first = llama.norms(2)
    monkeypatch.setattr("splinellm.backbone.gates.hyperplane_norms", None)
    assert llama.norms(2) is first
