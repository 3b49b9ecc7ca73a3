"""Every architecture's features equal what its weights and its eager attention say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splinellm import SplineExtractor
from splinellm.backbone.architectures import ARCHITECTURES
from splinellm.backbone.encoders import ENCODERS
from splinellm.backbone.gates import _signed_distance
from splinellm.backbone.loading import load_backbone
from splinellm.errors import AttentionUnavailableError, ModelLoadError
from splinellm.geometry import DimensionRule
from tests import oracle
from tests.architectures import CASES, case_backbone, case_model
from tests.backbone.hyperplanes import exact_model, read_layers
from tests.tiny import (
    MAX_POSITIONS,
    N_LAYERS,
    WINDOW,
    pad,
    random_prompts,
    recorder_of,
    tiny_tokenizer,
)
from tests.watched import state_of

PROMPTS = random_prompts(1, 2, 5, WINDOW + 1, 14)
RULES = [DimensionRule(), DimensionRule(0.1, "absolute")]
WITH_DIMENSION = [name for name, case in CASES.items() if case.has_dimension]
WITHOUT_DIMENSION = [name for name, case in CASES.items() if not case.has_dimension]
MIXTURES = [name for name, case in CASES.items() if case.experts]
HALF_PRECISION = [
    "bert",
    "modernbert",
    "gemma2",
    "gpt2",
    "llama",
    "mixtral",
    "opt",
    "phi3",
    "qwen2_moe",
    "bloom",
]

pytestmark = pytest.mark.filterwarnings("ignore::splinellm.extraction.PrecisionWarning")


def features_of(name: str) -> str:
    return "paper,blocks" if CASES[name].has_dimension else "spline,blocks"


def read(name: str, features: str, rule: DimensionRule | None = None) -> np.ndarray:
    """Features of the prompts as one right-padded batch, (B, L, F)."""
    backbone = case_backbone(name)
    with torch.inference_mode(), recorder_of(backbone, features, rule=rule) as recorder:
        return recorder.read(*pad(PROMPTS, filler=9)).double().numpy()


def test_every_architecture_has_a_case() -> None:
    assert {case.kind for case in CASES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", CASES)
def test_features_equal_the_oracle(name: str) -> None:
    found = read(name, features_of(name))
    names = recorder_of(case_backbone(name), features_of(name))._reduction.schema.features
    model = exact_model(name)
    slow = []
    for prompt in PROMPTS:
        rows = []
        for h, norms, attention in read_layers(name, model, prompt):
            # The oracle divides by norms of rows; distances are all that it needs them for.
            row = oracle.features(oracle.LayerView(h, np.ones((h.shape[1], 1)), attention))
            scaled = oracle.LayerView(h / norms, np.ones((h.shape[1], 1)), attention)
            row.update({k: v for k, v in oracle.features(scaled).items() if "distance" in k})
            rows.append([row[feature] for feature in names])
        slow.append(rows)
    expected = np.array(slow)

    distances = [i for i, feature in enumerate(names) if feature.startswith("distance")]
    others = [i for i in range(len(names)) if i not in distances]
    # Signs and dimensions are counts: equal, or wrong. Distances are differences of large numbers.
    np.testing.assert_allclose(found[..., others], expected[..., others], atol=2e-6, rtol=0)
    np.testing.assert_allclose(
        found[..., distances], expected[..., distances], atol=4e-6, rtol=2e-3
    )
    assert len(np.unique(expected[2:, :, names.index("sign_mean")])) >= 8
    if CASES[name].has_dimension:
        dimensions = expected[2:, :, names.index("intrinsic_dimension")]
        assert len(np.unique(dimensions)) >= 5, "attention is uniform; the test proves nothing"


@pytest.mark.parametrize("name", sorted(CASES))
def test_complexity_equals_the_slow_one(name: str) -> None:
    features = "complexity:0.1,complexity:0.75"
    report = SplineExtractor(case_backbone(name), features=features).verify()
    assert report.passed
    # A hyperplane that is as far away as the radius, but for rounding, counts or not from processor
    # to processor: one of the thousand gates and more of a prompt, and no second.
    assert report.sign < 1e-3
    found = read(name, features)
    assert len(np.unique(found[2:, :, 2])) >= 6


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
@pytest.mark.parametrize("name", WITH_DIMENSION)
def test_dimension_equals_eager_attention(name: str, rule: DimensionRule) -> None:
    found = read(name, "intrinsic_dimension", rule)[..., 0]
    model = case_model(name)
    model.set_attn_implementation("eager")
    input_ids, lengths = pad(PROMPTS, filler=9)
    mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
    with torch.inference_mode():
        output = model(input_ids=input_ids, attention_mask=mask, output_attentions=True)
    expected = np.zeros((len(PROMPTS), N_LAYERS))
    for layer, attention in enumerate(output.attentions):  # (B, H, T, T)
        for prompt, length in enumerate(lengths.tolist()):
            token = 0 if CASES[name].encoder else length - 1
            for weights in attention[prompt, :, token, :length]:
                limit = rule.threshold * (weights.max() if rule.kind == "relative" else 1.0)
                expected[prompt, layer] += float((weights > limit).sum())
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected[2:])) >= 4


def test_soft_cap_and_windows_change_the_dimension() -> None:
    # Or the tests above would pass on a library that ignores them.
    capped = read("gemma2", "intrinsic_dimension")[-1, :, 0]
    uncapped = read("gemma2-uncapped", "intrinsic_dimension")[-1, :, 0]
    assert (capped != uncapped).all()
    assert capped[[0, 2]].max() <= 4 * WINDOW < capped[1]


@pytest.mark.parametrize("name", CASES)
def test_facts_of_a_backbone(name: str) -> None:
    backbone = case_backbone(name)
    assert backbone.n_hyperplanes == CASES[name].n_hyperplanes
    assert (backbone.n_layers, backbone.hidden_size) == (N_LAYERS, 32)
    has_alibi = name in ("bloom", "falcon-alibi")
    # Places 0 and 1 are those of padding and of what comes before it.
    is_of_roberta = name in ("roberta", "xlm-roberta", "mpnet")
    limit = MAX_POSITIONS - 2 if is_of_roberta else MAX_POSITIONS
    assert backbone.max_positions == (None if has_alibi else limit)


@pytest.mark.parametrize("name", WITHOUT_DIMENSION)
def test_hidden_attention_refuses_the_dimension_and_nothing_else(name: str) -> None:
    backbone = case_backbone(name)
    with pytest.raises(AttentionUnavailableError, match=r"interface.*'spline' or 'blocks'"):
        SplineExtractor(backbone)
    with pytest.raises(AttentionUnavailableError):
        recorder_of(backbone, "intrinsic_dimension").__enter__()
    assert SplineExtractor(backbone, features="spline,blocks").verify().passed


@pytest.mark.parametrize("name", CASES)
def test_watching_changes_nothing_and_leaves_nothing_behind(name: str) -> None:
    backbone = case_backbone(name)
    input_ids, lengths = pad(PROMPTS)
    seen: list[torch.Tensor] = []
    last = backbone.model.get_submodule(CASES[name].read.format(N_LAYERS - 1))
    last.register_forward_pre_hook(lambda _module, args: seen.append(args[0].clone()))
    before = state_of(backbone.model)
    mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
    with torch.inference_mode():
        backbone.model(
            input_ids=input_ids, **({"attention_mask": mask} if CASES[name].encoder else {})
        )
        with recorder_of(backbone, features_of(name)) as recorder:
            recorder.read(input_ids, lengths)
    assert state_of(backbone.model) == before
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("name", CASES)
def test_folder_loads_and_verifies(name: str, tmp_path: Path) -> None:
    case_model(name).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), device="cpu")
    extractor = SplineExtractor(backbone, features=features_of(name))
    report = extractor.verify()
    assert report.passed
    assert report.dimension == 0
    direct = SplineExtractor(case_backbone(name), features=features_of(name))
    prompts = ["The capital of France is", "Hi"]
    assert (extractor.extract(prompts).values == direct.extract(prompts).values).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", HALF_PRECISION)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    backbone = case_backbone(name, dtype=dtype)
    features = features_of(name)
    found = SplineExtractor(backbone, features=features).extract(PROMPTS)
    exact = SplineExtractor(case_backbone(name), features=features).extract(PROMPTS)
    sign = exact.schema.features.index("sign_mean")
    assert np.abs(found.array - exact.array)[..., sign].max() < 0.03
    assert SplineExtractor(backbone, features="sign_mean").verify().passed


def test_pruned_rows_of_experts_are_no_hyperplanes() -> None:
    backbone = case_backbone("qwen2_moe")
    with torch.no_grad():
        for layer in (0, 2):
            mlp = backbone.model.layers[layer].mlp
            mlp.experts.gate_up_proj[:, ::7] = 0
            mlp.shared_expert.gate_proj.weight[::5] = 0
    assert SplineExtractor(backbone, features="spline,blocks").verify().passed


def test_norms_made_while_extracting_do_not_spoil_training() -> None:
    # Tensors of inference mode must not reach a forward pass that records gradients.
    backbone = case_backbone("qwen2_moe")
    recorder = recorder_of(backbone, "spline")
    input_ids, lengths = pad(PROMPTS)
    with torch.inference_mode(), recorder:
        recorder.read(input_ids, lengths)
    seen: list[torch.Tensor] = []
    gate = backbone.architecture.gate_of(backbone.model.layers[2])
    remove = gate.watch(seen.append)
    backbone.model(input_ids=input_ids, use_cache=False).last_hidden_state.sum().backward()
    remove()
    assert seen[0].shape == (*input_ids.shape, gate.n_hyperplanes)
    assert backbone.model.layers[0].mlp.experts.gate_up_proj.grad is not None


def test_signed_distance_of_what_is_no_hyperplane() -> None:
    h = torch.tensor([2.0, -3.0, 0.0, 4.0, torch.nan, torch.nan])
    norms = torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0, 1.0])
    found = _signed_distance(h, norms)
    assert found[:4].tolist() == [1.0, -1.5, -torch.inf, torch.inf]
    assert found[4:].isnan().all()


def test_order_in_which_the_router_names_experts_is_of_no_account() -> None:
    backbone = case_backbone("mixtral")
    found = []
    for _ in range(2):
        with torch.inference_mode(), recorder_of(backbone, "spline,blocks", "0") as recorder:
            found.append(recorder.read(*pad(PROMPTS)))
        # From the second reading on, the router names the second choice first.
        backbone.model.layers[0].mlp.experts.register_forward_pre_hook(
            lambda _module, args: (args[0], args[1].flip(-1), args[2].flip(-1))
        )
    assert torch.equal(found[0], found[1])


def test_packed_experts_are_refused() -> None:
    backbone = case_backbone("mixtral")
    experts = backbone.model.layers[1].mlp.experts
    packed = experts.gate_up_proj.data.to(torch.float8_e4m3fn)
    experts.gate_up_proj = torch.nn.Parameter(packed, requires_grad=False)
    with pytest.raises(ModelLoadError, match="dequantised"):
        recorder_of(backbone, "sign_mean").__enter__()


def test_gemma3_of_text_and_images_reads_like_its_text_model() -> None:
    whole = case_backbone("gemma3").model
    text = case_backbone("gemma3_text")
    text.model.load_state_dict(whole.language_model.state_dict())
    with torch.inference_mode(), recorder_of(text) as recorder:
        expected = recorder.read(*pad(PROMPTS, filler=9)).double().numpy()
    assert np.array_equal(read("gemma3", "paper,blocks"), expected)


def test_encoders_are_known_without_torch() -> None:
    assert {name for name, one in ARCHITECTURES.items() if one.is_encoder} == ENCODERS
