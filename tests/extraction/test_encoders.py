"""Models that attend both ways: no padding, batch mate or beginning enters a text's numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tokenizers import processors

from splinellm import FeatureTable, SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import PrefixUnavailableError
from splinellm.extraction.caching import CachedExtractor
from splinellm.extraction.hidden_states import mean_hidden_states
from splinellm.extraction.stores import MemoryStore
from tests import oracle
from tests.architectures import CASES, ENCODERS, case_backbone, case_model
from tests.tiny import random_prompts, recorder_of, tiny_tokenizer
from tests.watched import state_of

PROMPTS = random_prompts(1, 2, 3, 5, 9, 14, 14, 20, 33, seed=2)
CLS, SEP = "<s>", "</s>"
TEXT = "The capital of France is Paris. If it rains tomorrow, bring the washing in."


def features_of(name: str) -> str:
    return (
        "paper" if CASES[name].has_dimension else "spline"
    ) + ",blocks,sign_entropy,complexity:0.4"


def check_close(found: FeatureTable, expected: FeatureTable) -> None:
    """Compare within what another shape of a product may do."""
    names = found.schema.features
    distances = [i for i, name in enumerate(names) if "distance" in name]
    others = [i for i in range(len(names)) if i not in distances]
    a, b = found.array, expected.array
    np.testing.assert_allclose(a[..., others], b[..., others], rtol=0, atol=2e-6)
    np.testing.assert_allclose(a[..., distances], b[..., distances], rtol=2e-3, atol=5e-6)


def with_ends(name: str = "bert") -> Backbone:
    """A tiny encoder whose tokenizer puts every text between two special tokens."""
    tokenizer = tiny_tokenizer()
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (CLS, SEP)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=ids
    )
    return Backbone(case_model(name), tokenizer, f"tiny {name}")


@pytest.mark.parametrize("granularity", ["prompt", "token"])
@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_alone_in_any_batch_and_in_any_order(name: str, granularity: str) -> None:
    extractor = SplineExtractor(case_backbone(name), features=features_of(name))
    alone = FeatureTable.concatenate(
        [extractor.extract([prompt], granularity="prompt") for prompt in PROMPTS]
    )
    tokens = [extractor.extract([prompt], granularity="token") for prompt in PROMPTS]
    mates = random_prompts(40, 1, 60, seed=9)
    for budget in (7, 64, 4096):
        extractor.batch_tokens = budget
        given = [*mates, *PROMPTS[::-1], *mates]
        found = extractor.extract(given, granularity=granularity)  # type: ignore[arg-type]
        if granularity == "prompt":
            check_close(found[3 : 3 + len(PROMPTS)], alone[np.arange(len(PROMPTS))[::-1]])
            continue
        assert found.tokens is not None
        for row, expected in enumerate(reversed(tokens)):
            check_close(found[np.flatnonzero(found.tokens.row == 3 + row)], expected)
    assert len(np.unique(alone.array[..., 0])) > 10


@pytest.mark.parametrize("filler", [0, 1, 9, 300])
@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_what_pads_is_of_no_account(name: str, filler: int) -> None:
    backbone = case_backbone(name)
    short, lengths = PROMPTS[4], torch.tensor([9, 33])
    ids = torch.tensor([[*short, *[filler] * 24], PROMPTS[-1]])
    with torch.inference_mode(), recorder_of(backbone, features_of(name)) as recorder:
        padded = recorder.read(ids, lengths)[0]
        alone = recorder.read(torch.tensor([short]), torch.tensor([9]))[0]
    torch.testing.assert_close(padded, alone, atol=5e-6, rtol=2e-3)
    assert float((padded - alone).abs().max()) < 1e-4


def test_later_tokens_matter_to_earlier_ones() -> None:
    # Or the tests above would pass on a decoder.
    extractor = SplineExtractor(case_backbone("bert"), features="paper")
    rows = [
        extractor.extract([[*PROMPTS[4], last]], granularity="token").array[0] for last in (8, 9)
    ]
    assert (rows[0] != rows[1]).any(axis=-1).all()


@pytest.mark.parametrize("rule", ["relative", "absolute"])
def test_token_rows_equal_the_oracle(rule: str) -> None:
    backbone = case_backbone("bert")
    extractor = SplineExtractor(backbone, dimension_rule=rule)  # type: ignore[arg-type]
    prompts = [PROMPTS[i] for i in (0, 2, 4)]
    found = extractor.extract(prompts, granularity="token").array
    weights = {name: value.numpy() for name, value in backbone.model.state_dict().items()}
    slow = []
    for prompt in prompts:
        for t in range(len(prompt)):
            views = oracle.read_encoder(weights, backbone.model.config, prompt, token=t)
            rows = [
                oracle.features(oracle.LayerView(v.h[t : t + 1], v.gate, v.attention), rule=rule)
                for v in views
            ]
            names = ("sign_mean", "distance_min", "intrinsic_dimension")
            slow.append([[row[name] for name in names] for row in rows])
    expected = np.array(slow)
    np.testing.assert_allclose(found[..., [0, 2]], expected[..., [0, 2]], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found[..., 1], expected[..., 1], rtol=2e-3, atol=5e-6)
    assert len(np.unique(expected[..., 2])) > 8


def test_the_first_token_is_whose_dimension_the_prompt_has() -> None:
    extractor = SplineExtractor(case_backbone("bert"), features="intrinsic_dimension")
    prompts = extractor.extract(PROMPTS).array
    tokens = extractor.extract(PROMPTS, granularity="token")
    assert tokens.tokens is not None
    np.testing.assert_array_equal(tokens.array[tokens.tokens.position == 0], prompts)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_prefixes_are_refused_before_anything_is_read(name: str) -> None:
    extractor = SplineExtractor(case_backbone(name))
    cached = CachedExtractor(extractor, MemoryStore())
    for one in (extractor, cached):
        with pytest.raises(PrefixUnavailableError, match=rf"'{name}'.*granularity 'token'"):
            one.extract([TEXT], granularity="prefix")
        with pytest.raises(PrefixUnavailableError):
            one.provenance_at("prefix")
        tokenized, _ = one.tokenize([TEXT])
        with pytest.raises(PrefixUnavailableError):
            one.read(tokenized, granularity="prefix")
    assert CachedExtractor(SplineExtractor(case_backbone("llama")), MemoryStore()).provenance_at(
        "prefix"
    )


def test_mean_hidden_states_are_those_of_the_text_alone() -> None:
    extractor = SplineExtractor(case_backbone("bert"), batch_tokens=4096)
    alone = np.concatenate([mean_hidden_states(extractor, [prompt]) for prompt in PROMPTS])
    np.testing.assert_allclose(mean_hidden_states(extractor, PROMPTS), alone, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "mpnet", "deberta-v2"])
def test_a_text_that_is_cut_ends_as_texts_do(name: str) -> None:
    backbone = with_ends(name)
    cls, sep = backbone.tokenizer.convert_tokens_to_ids([CLS, SEP])
    whole = SplineExtractor(backbone, features="spline").tokenize([TEXT])[0][0].ids
    assert (whole[0], whole[-1]) == (cls, sep)
    cut = SplineExtractor(backbone, features="spline", max_tokens=8)
    expected = backbone.tokenizer(TEXT, truncation=True, max_length=8)["input_ids"]
    tokenized = cut.tokenize([TEXT, whole, whole[:-1], whole[:8]])[0]
    assert tokenized[0].ids == expected == [*whole[:7], sep]
    assert tokenized[1].ids == expected  # ids that are the text's are cut like it
    assert tokenized[2].ids == whole[:8]  # ids that end otherwise have no end to keep
    assert [one.truncated for one in tokenized.values()] == [True, True, True, False]
    shortest = SplineExtractor(backbone, features="spline", max_tokens=1).tokenize([TEXT])[0]
    assert shortest[0].ids == [cls]


def test_tokens_of_a_cut_text_are_where_they_were() -> None:
    extractor = SplineExtractor(with_ends(), features="spline", max_tokens=8)
    whole = SplineExtractor(with_ends(), features="spline").extract([TEXT], granularity="token")
    cut = extractor.extract([TEXT], granularity="token")
    assert cut.tokens is not None
    assert whole.tokens is not None
    assert cut.tokens.token == [*whole.tokens.token[:7], SEP]
    assert cut.tokens.begin.tolist() == [*whole.tokens.begin[:7], whole.tokens.begin[-1]]
    spans = list(zip(cut.tokens.begin[1:7], cut.tokens.end[1:7], strict=True))
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_decoders_are_cut_as_ever() -> None:
    backbone = with_ends()
    decoder = Backbone(case_model("llama"), backbone.tokenizer, "tiny llama")
    ids = SplineExtractor(decoder).tokenize([TEXT])[0][0].ids
    assert SplineExtractor(decoder, max_tokens=8).tokenize([TEXT])[0][0].ids == ids[:8]


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_pass_ends_after_the_last_wanted_layer(name: str) -> None:
    backbone = case_backbone(name)
    before = state_of(backbone.model)
    layers = backbone.architecture.decoder_layers(backbone.model)
    seen: list[int] = []
    for index, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, index=index: seen.append(index))
    extractor = SplineExtractor(backbone, features="spline", layers="0-1")
    extractor.extract(PROMPTS)
    assert set(seen) == {0}  # the last wanted layer is left half way
    for layer in layers:
        layer._forward_hooks.clear()
    assert state_of(backbone.model) == before
