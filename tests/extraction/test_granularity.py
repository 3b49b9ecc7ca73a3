"""Rows per prefix and per token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from splinellm import FeatureTable, SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import NonFiniteFeaturesError, OutOfMemoryError, PromptError, SchemaError
from tests import oracle
from tests.architectures import CASES, ENCODERS, PREFIX_CASES, case_backbone
from tests.extraction.test_failures import limit_memory
from tests.learn.counting import count_reads
from tests.tiny import N_LAYERS, WINDOW, random_prompts, tiny_backbone

PROMPTS = random_prompts(1, 14, 2, WINDOW + 1, 9, seed=1)
LENGTHS = [len(prompt) for prompt in PROMPTS]
PREFIXES = [prompt[:k] for prompt in PROMPTS for k in range(1, len(prompt) + 1)]
PER_TOKEN = ("sign_fraction", "hyperplane_distance", "intrinsic_dimension")

pytestmark = pytest.mark.filterwarnings("ignore::splinellm.extraction.PrecisionWarning")


def features_of(name: str) -> str:
    return (
        "paper" if CASES[name].has_dimension else "spline"
    ) + ",blocks,sign_entropy,complexity:0.4"


def check_close(found: FeatureTable, expected: FeatureTable) -> None:
    """Compare tables of the same features within what other shapes of products may do."""
    names = found.schema.features
    assert names == expected.schema.features
    distances = [i for i, name in enumerate(names) if "distance" in name]
    others = [i for i in range(len(names)) if i not in distances]
    a, b = found.array, expected.array
    np.testing.assert_allclose(a[..., others], b[..., others], rtol=0, atol=2e-6)
    np.testing.assert_allclose(a[..., distances], b[..., distances], rtol=2e-3, atol=5e-6)


@pytest.mark.parametrize("name", sorted(PREFIX_CASES))
def test_prefix_is_an_extraction_of_the_first_tokens(name: str) -> None:
    extractor = SplineExtractor(case_backbone(name), features=features_of(name), batch_tokens=40)
    found = extractor.extract(PROMPTS, granularity="prefix")
    expected = extractor.extract(PREFIXES)
    check_close(found, expected)
    assert found.n_tokens.tolist() == [len(prefix) for prefix in PREFIXES]
    assert found.names == expected.names
    if CASES[name].has_dimension:
        dimension = found.array[..., found.schema.features.index("intrinsic_dimension")]
        assert len(np.unique(dimension)) > 8


def test_every_case_has_prefixes() -> None:
    assert set(CASES) == PREFIX_CASES | ENCODERS


@pytest.mark.parametrize("kind", ["llama", "mistral"])
@pytest.mark.parametrize("rule", ["relative", "absolute"])
def test_token_rows_equal_the_oracle(kind: str, rule: Any) -> None:
    backbone = tiny_backbone(kind)
    features = "paper,blocks:5,sign_entropy,complexity:0.75"
    extractor = SplineExtractor(backbone, features=features, dimension_rule=rule)
    found = extractor.extract(PROMPTS, granularity="token")
    blocks = tuple(f"sign_block_{i:02d}" for i in range(5))
    assert found.schema.features == (*PER_TOKEN, *blocks, "sign_entropy", "complexity_0.75")
    weights = {name: value.numpy() for name, value in backbone.model.state_dict().items()}
    slow = []
    for prompt in PROMPTS:
        views = oracle.read_prompt(weights, backbone.model.config, prompt)
        for t in range(len(prompt)):
            # What attends is causal: the last row of the first t + 1 tokens is that of token t.
            upto = oracle.read_prompt(weights, backbone.model.config, prompt[: t + 1])
            slow.append([_token_row(view, upto[i], t, rule) for i, view in enumerate(views)])
    expected = np.array(slow)  # (N, L, 10)
    others = [0, 2, *range(3, 10)]
    np.testing.assert_allclose(found.array[..., others], expected[..., others], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.array[..., 1], expected[..., 1], rtol=2e-3, atol=5e-6)
    assert len(np.unique(expected[..., 2])) > 8


def _token_row(view: oracle.LayerView, upto: oracle.LayerView, t: int, rule: str) -> list[float]:
    assert view.x is not None
    alone = oracle.LayerView(view.h[t : t + 1], view.gate, upto.attention, view.x[t : t + 1])
    row = oracle.features(alone, rule=rule, n_blocks=5)
    names = ["sign_mean", "distance_min", "intrinsic_dimension"]
    blocks = (f"sign_block_{i:02d}" for i in range(5))
    return [row[name] for name in (*names, *blocks, "sign_entropy_mean", "complexity_0.75_mean")]


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "qwen2_moe", "phi3", "bloom", "llama"])
def test_prompt_features_are_statistics_of_its_token_rows(name: str) -> None:
    extractor = SplineExtractor(case_backbone(name), features=features_of(name))
    prompts, tokens = (extractor.extract(PROMPTS, granularity=g) for g in ("prompt", "token"))
    index = tokens.tokens
    assert index is not None
    features = tokens.schema.features
    for row in range(len(PROMPTS)):
        mine = tokens.array[index.row == row]  # (T, L, F)
        by_name = dict(zip(prompts.schema.features, prompts.array[row].T, strict=True))
        signs, distances = mine[..., 0], mine[..., 1]
        np.testing.assert_allclose(by_name["sign_mean"], signs.mean(0), atol=1e-6)
        np.testing.assert_allclose(by_name["sign_max"], signs.max(0), atol=1e-6)
        np.testing.assert_allclose(by_name["distance_min"], distances.min(0), rtol=2e-3, atol=5e-6)
        first = features.index("sign_block_00")
        blocks, entropy = mine[..., first : first + 32].mean(0), mine[..., -2]
        np.testing.assert_allclose(prompts.array[row][:, -36:-4], blocks, atol=1e-6)
        near = mine[..., -1].mean(0)
        np.testing.assert_allclose(by_name["complexity_0.4_mean"], near, atol=1e-6)
        np.testing.assert_allclose(by_name["sign_entropy_mean"], entropy.mean(0), atol=1e-6)
        if CASES[name].has_dimension:
            np.testing.assert_array_equal(by_name["intrinsic_dimension"], mine[-1, :, 2])


@pytest.mark.parametrize("granularity", ["prefix", "token"])
@pytest.mark.parametrize("batch_tokens", [1, 17, 4096])
def test_rows_do_not_depend_on_the_batch(granularity: Any, batch_tokens: int) -> None:
    backbone = tiny_backbone("mistral")
    extractor = SplineExtractor(backbone, features="paper,blocks", batch_tokens=batch_tokens)
    found = extractor.extract(PROMPTS, granularity=granularity)
    alone = [extractor.extract([prompt], granularity=granularity) for prompt in PROMPTS]
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(
        found.values, np.concatenate([table.values for table in alone]), rtol=2e-3, atol=5e-6
    )
    assert found.tokens is not None
    assert found.tokens.row.tolist() == [i for i, n in enumerate(LENGTHS) for _ in range(n)]
    assert found.tokens.position.tolist() == [t for n in LENGTHS for t in range(n)]


@pytest.mark.parametrize("granularity", ["prefix", "token"])
@pytest.mark.parametrize(
    "features",
    [
        *("sign_std", "distance_min", "blocks:3", "intrinsic_dimension", "spline", "sign_entropy"),
        "complexity:0.4",
    ],
)
def test_a_feature_alone_is_what_it_is_among_all(features: str, granularity: Any) -> None:
    backbone = tiny_backbone()
    found = SplineExtractor(backbone, features=features, layers="1").extract(
        PROMPTS, granularity=granularity
    )
    every = ["paper", "blocks:3", "sign_entropy", "complexity:0.4"]
    everything = SplineExtractor(backbone, features=every).extract(PROMPTS, granularity=granularity)
    expected = everything.select([1], found.schema.features)
    assert found.names == expected.names
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=2e-6)
    assert found.provenance.features == found.schema.features


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    extractor = SplineExtractor(tiny_backbone(dtype=dtype), features="paper,blocks")
    exact = SplineExtractor(tiny_backbone(), features="paper,blocks")
    found = extractor.extract(PROMPTS, granularity="prefix")
    expected = exact.extract(PROMPTS, granularity="prefix")
    assert np.abs(found.array - expected.array)[..., 0].max() < 0.03
    assert found.provenance.distance_precision == "reduced"


def test_truncated_prompt_has_rows_for_what_was_read() -> None:
    extractor = SplineExtractor(tiny_backbone(), max_tokens=5)
    for granularity in ("prefix", "token"):
        table = extractor.extract(PROMPTS[:3], granularity=granularity)  # type: ignore[arg-type]
        assert table.truncated.tolist() == [False] + [True] * 5 + [False] * 2
        whole = granularity == "token"
        assert table.n_tokens.tolist() == [
            1,
            *([5] * 5 if whole else range(1, 6)),
            *([2, 2] if whole else [1, 2]),
        ]


@pytest.mark.parametrize("granularity", ["prompt", "prefix", "token"])
def test_equal_prompts_are_read_once(
    granularity: Any, monkeypatch: pytest.MonkeyPatch, llama: Backbone
) -> None:
    extractor = SplineExtractor(llama, max_tokens=6)
    texts = ["The capital", "of France", "The capital"]
    ids = extractor.tokenize(texts)[0][1].ids
    # Cut to the same six tokens, only one of the last two is truncated.
    prompts = [*texts, ids, list(range(10, 20)), list(range(10, 16))]
    alone = [extractor.extract([prompt], granularity=granularity) for prompt in prompts]
    reads = count_reads(monkeypatch)
    done: list[tuple[int, int]] = []
    found = extractor.extract(
        prompts, granularity=granularity, on_progress=lambda *counts: done.append(counts)
    )
    assert len(reads) == 3
    for name in ("values", "n_tokens", "truncated"):
        expected = np.concatenate([getattr(table, name) for table in alone])
        np.testing.assert_allclose(getattr(found, name), expected, atol=2e-6)
    n_tokens = [len(p.ids) for p in extractor.tokenize(prompts)[0].values()]
    assert [sum(column) for column in zip(*done, strict=True)] == [6, sum(n_tokens)]
    if found.tokens is not None:
        assert sorted(set(found.tokens.row.tolist())) == [*range(6)]
        assert (found.tokens.begin < 0).sum() == sum(n_tokens[3:])  # ids have no place in a text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("granularity", ["prompt", "prefix", "token"])
@pytest.mark.parametrize(
    "features", ["paper", "blocks", "sign_mean", "intrinsic_dimension", "distance_min"]
)
def test_overflow_fails_its_prompt_alone(features: str, granularity: Any, value: float) -> None:
    poison = 3
    backbone = tiny_backbone()
    extractor = SplineExtractor(backbone, features=features, batch_tokens=4096)
    expected = extractor.extract(PROMPTS, granularity=granularity)
    with torch.no_grad():
        backbone.model.embed_tokens.weight[poison] = value
    prompts = [PROMPTS[0], [*PROMPTS[1][:9], poison, 8], *PROMPTS[1:], [poison], [poison]]
    table, errors = extractor.extract_valid(prompts, granularity=granularity)
    assert sorted(errors) == [1, 6, 7]
    assert all(isinstance(error, NonFiniteFeaturesError) for error in errors.values())
    assert [errors[i].index for i in (1, 6, 7)] == [1, 6, 7]
    np.testing.assert_allclose(table.values, expected.values, atol=2e-6)
    if table.tokens is not None:
        assert sorted(set(table.tokens.row.tolist())) == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("granularity", ["prompt", "token"])
def test_queries_that_overflow_are_refused_where_only_attention_is_watched(
    granularity: Any,
) -> None:
    # Infinite scores: no NaN, but a count of none.
    backbone = tiny_backbone()
    extractor = SplineExtractor(backbone, features="intrinsic_dimension", layers="0")
    backbone.model.layers[0].self_attn.q_proj.register_forward_hook(
        lambda _module, _args, output: torch.full_like(output, torch.inf)
    )
    _, errors = extractor.extract_valid(PROMPTS, granularity=granularity)
    assert len(errors) == len(PROMPTS)


@pytest.mark.parametrize("granularity", ["prefix", "token"])
def test_memory_that_runs_out(granularity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = SplineExtractor(tiny_backbone(), batch_tokens=4096)
    expected = extractor.extract(PROMPTS, granularity=granularity)
    limit_memory(monkeypatch, 13, torch.OutOfMemoryError())
    table, errors = extractor.extract_valid(PROMPTS, granularity=granularity)
    assert [type(error) for error in errors.values()] == [OutOfMemoryError]
    assert expected.tokens is not None
    others = expected[expected.tokens.row != 1]
    np.testing.assert_allclose(table.values, others.values, atol=2e-6)
    assert table.tokens is not None
    assert others.tokens is not None
    assert table.tokens.row.tolist() == others.tokens.row.tolist()


@pytest.mark.parametrize("granularity", ["prefix", "token"])
def test_stream_counts_prompts_through_all_windows(granularity: Any, llama: Backbone) -> None:
    extractor = SplineExtractor(llama)
    tables = list(extractor.iter_extract(iter(PROMPTS), granularity=granularity, window=2))
    assert len(tables) == 3
    whole, found = (
        extractor.extract(PROMPTS, granularity=granularity),
        FeatureTable.concatenate(tables),
    )
    np.testing.assert_allclose(found.values, whole.values, atol=2e-6)
    assert found.tokens is not None
    assert whole.tokens is not None
    assert found.tokens.row.tolist() == whole.tokens.row.tolist()
    assert found.tokens.position.tolist() == whole.tokens.position.tolist()
    stream = extractor.iter_extract([*PROMPTS[:3], ""], granularity=granularity, window=2)
    next(stream)
    with pytest.raises(PromptError, match="prompt 3"):
        next(stream)


@pytest.mark.parametrize("granularity", ["prefix", "token"])
def test_no_prompts(granularity: Any, llama: Backbone) -> None:
    table = SplineExtractor(llama).extract([], granularity=granularity)
    assert len(table) == 0
    assert table.tokens is not None
    assert len(table.tokens) == 0
    assert table.array.shape[1] == N_LAYERS


def test_unknown_granularity_is_refused(llama: Backbone) -> None:
    extractor = SplineExtractor(llama)
    with pytest.raises(SchemaError, match="prompt, prefix, token"):
        extractor.extract(["a"], granularity="word")  # type: ignore[arg-type]
    assert not llama.lock.locked()


def test_provenance_tells_tables_apart(llama: Backbone) -> None:
    extractor = SplineExtractor(llama)
    by_kind = {
        kind: extractor.extract(["Hi there"], granularity=kind).provenance  # type: ignore[arg-type]
        for kind in ("prompt", "prefix", "token")
    }
    assert by_kind["prompt"] == extractor.provenance
    for kind, provenance in by_kind.items():
        difference = by_kind["prompt"].first_difference(provenance)
        expected = None if kind == "prompt" else f"granularity is {kind}, not prompt"
        assert difference == expected
