"""The view of a layer's MLP: value and Jacobian are those of the model, in every architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from splinellm import SplineExtractor
from splinellm.errors import ConfigurationError, SchemaError, UnsupportedArchitectureError
from splinellm.geometry import root_mean_square
from splinellm.regions import orthonormal_directions
from tests.architectures import CASES, case_backbone
from tests.tiny import random_prompts, tiny_backbone

MIXTURES = {name for name, case in CASES.items() if case.experts}
DENSE = sorted(set(CASES) - MIXTURES)
MLP_OF = {"distilbert": "ffn", "opt": "", "biogpt": ""}
"""Path from a layer to a module that is its MLP and nothing else, where it is not `mlp`."""


def whole_mlp(name: str, layer: Any) -> Any:
    """The model's own function of what the gate reads."""
    if hasattr(layer, "fc2"):
        act = layer.activation_fn
        return lambda x: layer.fc2(act(layer.fc1(x)))
    if hasattr(layer, "intermediate"):  # BERT's kin: residual and norm come after it
        return lambda x: layer.output.dense(layer.intermediate(x))
    if CASES[name].kind == "distilbert":
        return layer.ffn.ff_chunk
    if CASES[name].kind == "bloom":
        mlp = layer.mlp
        return lambda x: mlp(x, torch.zeros_like(x))
    return layer.mlp


@pytest.mark.parametrize("name", DENSE)
def test_value_and_jacobian_are_the_model_s(name: str) -> None:
    backbone = case_backbone(name)
    layer = backbone.architecture.decoder_layers(backbone.model)[1].double()
    view = backbone.layer(1)
    x = torch.randn(3, view.n_inputs, generator=torch.Generator().manual_seed(0)).double()
    mlp = whole_mlp(name, layer)

    def alone(point: Tensor) -> Tensor:
        found: Tensor = mlp(point[None, None])[0, 0]
        return found

    value = torch.stack([alone(point) for point in x])
    assert value.abs().max() > 0.01
    torch.testing.assert_close(view.value(x), value, rtol=1e-9, atol=1e-12)
    expected = torch.stack([torch.autograd.functional.jacobian(alone, point) for point in x])
    torch.testing.assert_close(view.jacobian(x), expected, rtol=1e-9, atol=1e-11)
    assert torch.equal(view.jacobian(x[0]), view.jacobian(x)[0])
    assert view.is_gated == (view.up is not None)


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_mixtures_are_refused(name: str) -> None:
    backbone = case_backbone(name)
    last = backbone.n_layers - 1
    with pytest.raises(UnsupportedArchitectureError, match="mixture of experts"):
        backbone.layer(last)
    for dense in CASES[name].dense_layers:
        assert backbone.layer(dense).n_hyperplanes > 0


def test_gated_architectures_are_known_to_be_gated() -> None:
    gated = {name for name in DENSE if case_backbone(name).layer(0).is_gated}
    assert {"llama", "gemma2", "phi3", "glm4", "modernbert", "qwen3"} <= gated
    assert gated.isdisjoint({"gpt2", "opt", "bert", "apertus", "nemotron", "falcon"})


@pytest.mark.parametrize("name", ["llama", "opt", "phi3", "bert"])
def test_layer_inputs_are_what_the_gate_reads(name: str) -> None:
    backbone = case_backbone(name)
    extractor = SplineExtractor(backbone, features="complexity:0.4,sign_mean", layers="0,2")
    prompt = random_prompts(7, seed=3)[0]
    inputs = extractor.layer_inputs(prompt)
    assert list(inputs) == [0, 2]
    assert list(extractor.layer_inputs(prompt, [1, -1])) == [1, 2]
    tokens = extractor.extract([prompt], granularity="token").array
    for place, layer in enumerate(inputs):
        view, x = backbone.layer(layer), inputs[layer]
        assert x.shape == (7, view.n_inputs)
        signs = (view.pre_activations(x) > 0).mean(axis=1)
        np.testing.assert_allclose(signs, tokens[:, place, 0], atol=1e-6)
        rms = root_mean_square(torch.from_numpy(x)).numpy()
        near = [float(view.complexity(x[t], 0.4 * float(rms[t]))) for t in range(7)]
        np.testing.assert_allclose(near, tokens[:, place, 1], atol=1e-6)
    assert not backbone.lock.locked()


def test_a_prompt_or_layer_that_is_none_is_refused() -> None:
    extractor = SplineExtractor(tiny_backbone())
    with pytest.raises(SchemaError, match="layer 3 does not exist"):
        extractor.layer_inputs("Hi", 3)
    with pytest.raises(SchemaError, match="layer 7 does not exist"):
        extractor.backbone.layer(7)
    with pytest.raises(ConfigurationError, match="points of shape"):
        extractor.backbone.layer(0).jacobian(torch.zeros(3))


def test_complexity_of_a_cross_polytope_is_below_that_of_its_ball() -> None:
    view = tiny_backbone().layer(1)
    x = torch.randn(20, view.n_inputs, generator=torch.Generator().manual_seed(0))
    ball = view.complexity(x, 0.5)
    some = [
        view.complexity(x, 0.5, orthonormal_directions(view.n_inputs, n, 0)) for n in (2, 8, 32)
    ]
    assert (some[0] <= some[1]).all()
    assert (some[1] <= some[2]).all()
    assert (some[2] <= ball).all()
    assert some[0].mean() < some[2].mean() < ball.mean()


def test_slice_of_a_layer() -> None:
    view = tiny_backbone().layer(0)
    assert isinstance(view.gate.rows, Tensor)
    x = torch.randn(3, view.n_inputs, generator=torch.Generator().manual_seed(5)).double()
    partition = view.slice_partition(x[0], x[1] - x[0], x[2] - x[0], (-0.5, 1.5, -0.5, 1.5))
    assert partition.areas.sum() == pytest.approx(4.0, abs=1e-12)
    signs = view.pre_activations(np.stack([region.point for region in partition])) > 0
    np.testing.assert_array_equal(signs, partition.codes > 0)
    np.testing.assert_allclose(partition.where(x.numpy()), [[0, 0], [1, 0], [0, 1]], atol=1e-9)
    with pytest.raises(ConfigurationError, match="affine on no region"):
        partition[0].affine_map()
    with pytest.raises(ConfigurationError, match="collinear"):
        view.slice_partition(x[0], x[1], 2 * x[1])


def test_the_view_reads_what_an_adapter_makes_of_the_maps() -> None:
    backbone = tiny_backbone()
    layer: Any = backbone.model.layers[0]

    class Twice(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    before = backbone.layer(0).down.rows
    nn.utils.parametrize.register_parametrization(layer.mlp.down_proj, "weight", Twice())
    torch.testing.assert_close(backbone.layer(0).down.rows, 2 * before)
