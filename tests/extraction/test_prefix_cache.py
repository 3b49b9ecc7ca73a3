"""What a text begins with is read once, and that changes no number."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm import SplineExtractor
from splinellm.errors import ConfigurationError, NonFiniteFeaturesError
from splinellm.extraction.prefix_cache import BLOCK_TOKENS, TOKEN_BLOCK_TOKENS, PrefixCache
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.schema import DISTANCE_FEATURES, Granularity
from tests.architectures import CASES, case_backbone
from tests.tiny import random_prompts, tiny_backbone

pytestmark = pytest.mark.filterwarnings("ignore::splinellm.extraction.PrecisionWarning")
FEATURES = "paper,blocks:8"
PLENTY = 1 << 30


def pair(n_bytes: int, features: str = FEATURES) -> tuple[SplineExtractor, SplineExtractor]:
    """Extractors of one model, with and without a cache."""
    backbone = tiny_backbone()
    return (
        SplineExtractor(backbone, features=features, prefix_cache_bytes=n_bytes),
        SplineExtractor(backbone, features=features),
    )


def check(
    cached: SplineExtractor,
    plain: SplineExtractor,
    prompts: list[list[int]],
    granularity: Granularity = "prompt",
) -> None:
    found = cached.extract(prompts, granularity=granularity).array
    wanted = plain.extract(prompts, granularity=granularity).array
    for i, name in enumerate(plain.schema.at(granularity).features):
        if name == "intrinsic_dimension":  # an attention near the threshold may fall to either side
            off = np.abs(found[..., i] - wanted[..., i])
            assert off.max() <= 1
            assert (off > 0).mean() <= 0.1
        elif name in DISTANCE_FEATURES or name == "hyperplane_distance":
            np.testing.assert_allclose(found[..., i], wanted[..., i], rtol=2e-2, atol=2e-6)
        else:
            np.testing.assert_allclose(found[..., i], wanted[..., i], atol=1.5e-3)


def cache_of(extractor: SplineExtractor) -> PrefixCache:
    assert extractor.prefix_cache is not None
    return extractor.prefix_cache


def test_a_text_that_grows_costs_what_is_new() -> None:
    cached, plain = pair(PLENTY)
    (text,) = random_prompts(250)
    for length in range(3, 250, 7):
        before = cache_of(cached).n_read
        check(cached, plain, [text[:length]])
        read = cache_of(cached).n_read - before
        assert read < BLOCK_TOKENS + 7 + 1
    # All but a part of a block of each text was found.
    lengths = range(3, 250, 7)
    assert cache_of(cached).n_read + cache_of(cached).n_found == sum(lengths)


def test_rows_of_tokens_of_a_text_that_grows_are_read_once() -> None:
    cached, plain = pair(PLENTY)
    (text,) = random_prompts(250)
    for length in range(3, 250, 7):
        before = cache_of(cached).n_read
        check(cached, plain, [text[:length]], "token")
        read = cache_of(cached).n_read - before
        assert read < TOKEN_BLOCK_TOKENS + 7
    lengths = range(3, 250, 7)
    assert cache_of(cached).n_read + cache_of(cached).n_found == sum(lengths)
    # Of whole blocks nothing is read again, not even the last token.
    before = cache_of(cached).n_read
    check(cached, plain, [text[:240], text[:8]], "token")
    assert cache_of(cached).n_read == before
    # A row stands for its own token alone: what prompts know does not serve, nor the other way.
    check(cached, plain, [text[:240]])
    assert cache_of(cached).n_read == before + 240


def test_rows_of_prefixes_are_computed_anew() -> None:
    cached, plain = pair(PLENTY)
    for _ in range(2):
        check(cached, plain, random_prompts(50), "prefix")
    assert len(cache_of(cached)) == 0


@pytest.mark.parametrize("granularity", ["prompt", "token"])
@pytest.mark.parametrize("n_bytes", [1, 20_000, 60_000, PLENTY])
def test_batches_of_all_kinds_in_any_budget(n_bytes: int, granularity: Granularity) -> None:
    cached, plain = pair(n_bytes)
    (first, second) = random_prompts(100, 64, seed=1)
    ends = random_prompts(1, 3, 31, 32, 33, 65, 90, seed=2)
    prompts = [first + end for end in ends] + [second + ends[5], first, second, *ends, [7]]
    for order in (prompts, prompts[::-1], prompts[3:9]):
        check(cached, plain, order, granularity)
        assert cache_of(cached).n_bytes <= n_bytes


def test_what_prompts_of_one_call_share_is_read_once() -> None:
    cached, plain = pair(PLENTY)
    (shared,) = random_prompts(96, seed=1)
    prompts = [shared + end for end in random_prompts(*[5] * 10, seed=2)]
    check(cached, plain, prompts)
    assert cache_of(cached).n_read == 96 + 10 * 5
    tiny, _ = pair(1)  # which can hold nothing beyond the call
    check(tiny, plain, prompts)
    assert cache_of(tiny).n_read == 96 + 10 * 5


def test_memory_is_bounded_under_a_flood() -> None:
    limit = 200_000
    cached, _ = pair(limit, "sign_mean")
    for start in range(0, 300, 10):
        cached.extract(random_prompts(*[80] * 10, seed=start))
        assert cache_of(cached).n_bytes <= limit
    blocks = cache_of(cached)._blocks
    assert sum(block.n_bytes for block, _ in blocks.values()) == cache_of(cached).n_bytes > 0
    # No block holds more memory than its own: a view would keep a whole batch alive.
    for block, _ in blocks.values():
        for it in block.keys_and_values.tensors:
            assert it.untyped_storage().nbytes() == it.numel() * it.element_size()


def test_the_least_recently_used_go_first_and_ends_before_beginnings() -> None:
    cached, _ = pair(PLENTY, "sign_mean")
    one, other, third = random_prompts(70, 70, 70, seed=5)
    cached.extract([one])
    size = cache_of(cached).n_bytes
    cached, _ = pair(2 * size, "sign_mean")
    cached.extract([one])
    cached.extract([other])
    cached.extract([one])
    found = cache_of(cached).n_found
    assert found == 64
    cached.extract([third])  # for which the other one goes
    cached.extract([one])
    assert cache_of(cached).n_found == found + 64
    cached.extract([other])
    assert cache_of(cached).n_found == found + 64


def test_other_counted_tokens_or_other_features_are_another_beginning() -> None:
    backbone = tiny_backbone()
    cache = PrefixCache(PLENTY)
    (ids,) = random_prompts(70)
    for features in ("sign_mean", "blocks:8"):
        extractor = SplineExtractor(backbone, features=features, prefix_cache=cache)
        for counted in (None, tuple(i % 2 == 0 for i in range(70))):
            extractor.read({0: TokenizedPrompt(ids, False, counted)})
    assert cache.n_found == 0
    assert len(cache) == 8
    extractor.read({0: TokenizedPrompt(ids, False)})
    assert cache.n_found == 64
    cache.clear()
    assert (len(cache), cache.n_bytes) == (0, 0)


def test_no_ids_are_kept() -> None:
    cached, _ = pair(PLENTY, "sign_mean")
    other, _ = pair(PLENTY, "sign_mean")
    (ids,) = random_prompts(70)
    for extractor in (cached, other):
        extractor.extract([ids])
    # Under a key of its own each: who sees one cache cannot look a text up in it.
    assert not set(cache_of(cached)._blocks) & set(cache_of(other)._blocks)
    assert {len(key) for key in cache_of(cached)._blocks} == {32}


@pytest.mark.parametrize("granularity", ["prompt", "token"])
def test_hundreds_of_different_beginnings_stay_in_the_budget(granularity: Granularity) -> None:
    limit = 100_000
    cached, plain = pair(limit, "blocks:8")
    prompts = random_prompts(*[40] * 300, seed=3)
    for start in range(0, 300, 3):
        cached.extract(prompts[start : start + 3], granularity=granularity)
        assert cache_of(cached).n_bytes <= limit
    assert len(cache_of(cached)) > 2
    assert cache_of(cached).n_found == 0
    check(cached, plain, [*prompts[-2:], prompts[0]], granularity)
    assert cache_of(cached).n_found > 0


@pytest.mark.parametrize("name", sorted(CASES))
def test_architectures(name: str) -> None:
    backbone = case_backbone(name)
    features = "paper" if backbone.architecture.shows_attention else "spline"
    cached = SplineExtractor(backbone, features=features, prefix_cache_bytes=PLENTY)
    plain = SplineExtractor(backbone, features=features)
    limit = backbone.n_vocabulary
    (text,) = random_prompts(90)
    text = [token % limit for token in text]
    for length in (40, 75, 90):
        check(cached, plain, [text[:length], text[: length - 9]])
    for length in (20, 41, 90):
        check(cached, plain, [text[:length], text[: length - 9]], "token")


def test_an_overflow_is_no_number_whatever_is_known() -> None:
    backbone = tiny_backbone()
    cached = SplineExtractor(backbone, features="sign_mean", prefix_cache_bytes=PLENTY)
    (text,) = random_prompts(100)
    text = [token if token != 9 else 8 for token in text]
    text[50] = 9
    cached.extract([text[:40]])
    backbone.model.get_input_embeddings().weight.data[9] = float("nan")
    for granularity in ("prompt", "token"):
        for length in (60, 100, 45, 52, 48):
            _, errors = cached.extract_valid([text[:length]], granularity=granularity)
            assert (0 in errors) == (length > 50)
            assert all(isinstance(error, NonFiniteFeaturesError) for error in errors.values())


def test_an_overflow_does_not_spoil_what_stands_before_it() -> None:
    backbone = tiny_backbone()
    backbone.model.get_input_embeddings().weight.data[9] = float("nan")
    (text,) = random_prompts(100)
    text = [token if token != 9 else 8 for token in text]
    for granularity in ("prompt", "token"):
        cached = SplineExtractor(backbone, features="sign_mean", prefix_cache_bytes=PLENTY)
        _, errors = cached.extract_valid([[*text[:50], 9, *text[50:]]], granularity=granularity)
        assert list(errors) == [0]
        _, errors = cached.extract_valid([text[:45], text], granularity=granularity)
        assert not errors


def test_a_budget_must_be_possible() -> None:
    with pytest.raises(ConfigurationError, match="a prefix cache of -5 bytes"):
        SplineExtractor(tiny_backbone(), prefix_cache_bytes=-5)
    with pytest.raises(ConfigurationError, match="prefix_cache is of type int"):
        SplineExtractor(tiny_backbone(), prefix_cache=PLENTY)  # type: ignore[arg-type]
