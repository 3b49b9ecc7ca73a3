from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

from splinellm import SplineExtractor
from splinellm.errors import ConfigurationError, NonFiniteFeaturesError, PromptError
from splinellm.extraction import caching as cache_module
from splinellm.extraction.caching import shared_store
from splinellm.learn import CachedExtractor, DiskStore, MemoryStore
from tests.counted import counted
from tests.learn.counting import count_reads
from tests.tiny import tiny_backbone

TEXTS = ["The capital of France", "is Paris", "If it rains", "The capital of France", "x"]


@pytest.fixture
def reads(monkeypatch):
    return count_reads(monkeypatch)


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else DiskStore(tmp_path / "f.sqlite")


def equal(one, other):
    # A row that was computed among other batch mates may differ in the last bits.
    np.testing.assert_allclose(one.values, other.values, rtol=2e-2, atol=1e-5)
    np.testing.assert_array_equal(one.n_tokens, other.n_tokens)
    np.testing.assert_array_equal(one.truncated, other.truncated)
    assert one.provenance == other.provenance


def test_second_extraction_equals_the_first_without_a_forward_pass(llama, store, reads):
    plain = SplineExtractor(llama)
    cached = CachedExtractor(plain, store)
    expected = plain.extract(TEXTS)
    reads.clear()
    first = cached.extract(TEXTS)
    assert len(reads) == 4  # the repeated text once
    equal(first, expected)
    again = cached.extract(TEXTS[::-1])
    assert len(reads) == 4
    np.testing.assert_array_equal(again.values, first.values[::-1])
    assert cached.schema.names == expected.names


def test_only_what_is_missing_is_read_and_order_is_kept(llama, store, reads):
    cached = CachedExtractor(SplineExtractor(llama), store)
    cached.extract(TEXTS[1:3])
    reads.clear()
    table = cached.extract(TEXTS)
    assert len(reads) == 2
    equal(table, SplineExtractor(llama).extract(TEXTS))


def test_text_and_its_token_ids_are_one_prompt(llama, store, reads):
    cached = CachedExtractor(SplineExtractor(llama), store)
    ids = cached.extractor.tokenize(TEXTS[:1])[0][0].ids
    table = cached.extract([TEXTS[0], ids])
    assert len(reads) == 1
    np.testing.assert_array_equal(table.values[0], table.values[1])
    assert len(cached.extract(TEXTS[0])) == 1  # a bare string is one prompt


def test_every_text_is_tokenised_once(llama, store):
    backbone, tokenizer = counted(llama)
    cached = CachedExtractor(SplineExtractor(backbone), store)
    for _ in range(2):  # computed, then found
        cached.extract(TEXTS)
        assert tokenizer.texts == TEXTS
        tokenizer.texts.clear()
    plain = SplineExtractor(backbone)
    plain.extract(TEXTS)
    assert tokenizer.texts == TEXTS
    tokenizer.texts.clear()
    plain.verify(TEXTS[:2])
    assert tokenizer.texts == TEXTS[:2]


@pytest.mark.parametrize("granularity", ["prefix", "token"])
def test_rows_of_tokens_pass_through(llama, store, granularity):
    plain = SplineExtractor(llama)
    table = CachedExtractor(plain, store).extract(TEXTS, granularity=granularity)
    expected = plain.extract(TEXTS, granularity=granularity)
    equal(table, expected)
    assert table.tokens.to_arrow().equals(expected.tokens.to_arrow())
    assert len(store) == 0


def test_windows_of_a_cached_extractor(llama, store, reads):
    cached = CachedExtractor(SplineExtractor(llama), store)
    tables = list(cached.iter_extract(iter(TEXTS), window=2))
    assert [len(table) for table in tables] == [2, 2, 1]
    assert len(reads) == 4
    with pytest.raises(PromptError, match="prompt 3"):
        list(cached.iter_extract(["a", "b", "c", ""], window=2))


def test_truncated_is_each_texts_own(llama, store):
    cached = CachedExtractor(SplineExtractor(llama, max_tokens=4), store)
    ids = list(range(10, 20))
    for _ in range(2):
        table = cached.extract([ids, ids[:4], ids[:5]])
        assert table.truncated.tolist() == [True, False, True]
        assert table.n_tokens.tolist() == [4, 4, 4]
        np.testing.assert_array_equal(table.values[0], table.values[1])


def test_errors_keep_their_place_and_are_not_kept(llama, store):
    cached = CachedExtractor(SplineExtractor(llama), store)
    for _ in range(2):
        table, errors = cached.extract_valid(["", "fine", None, "fine", [999_999]])
        assert len(table) == 2
        assert {position: error.index for position, error in errors.items()} == {0: 0, 2: 2, 4: 4}
    with pytest.raises(PromptError, match="prompt 1"):
        cached.extract(["fine", ""])


def test_failed_reading_fails_each_copy_of_the_prompt_alone(store):
    backbone = tiny_backbone()
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight[300] = torch.inf
    cached = CachedExtractor(SplineExtractor(backbone), store)
    for _ in range(2):  # and is tried again
        table, errors = cached.extract_valid([[5], [300], [6, 7], [300]])
        assert len(table) == 2
        assert sorted(errors) == [1, 3]
        assert all(isinstance(error, NonFiniteFeaturesError) for error in errors.values())
        assert [errors[position].index for position in (1, 3)] == [1, 3]


def test_no_prompts_make_an_empty_table(llama, store):
    table, errors = CachedExtractor(SplineExtractor(llama), store).extract_valid([])
    assert table.values.shape == (0, 24)
    assert not errors


@pytest.mark.parametrize(
    "change",
    [
        {"layers": "0-1"},
        {"features": "spline"},
        {"features": "blocks:8"},
        {"max_tokens": 100},
        {"dimension_rule": "absolute"},
        {"dimension_threshold": 0.2},
        {"allow_special_tokens": True},
    ],
    ids=str,
)
def test_other_settings_never_hit(llama, store, reads, change):
    CachedExtractor(SplineExtractor(llama), store).extract(TEXTS)
    reads.clear()
    equal(
        CachedExtractor(SplineExtractor(llama, **change), store).extract(TEXTS),
        SplineExtractor(llama, **change).extract(TEXTS),
    )
    assert len(reads) == 4 + 4  # by the cached and the plain one; the repeated text once each


def test_other_blocks_of_the_same_count_never_hit(llama, store):
    for features in ("blocks:8", "blocks:4,sign_mean,sign_min,sign_max,sign_std"):
        extractor = SplineExtractor(llama, features=features)
        equal(CachedExtractor(extractor, store).extract(TEXTS), extractor.extract(TEXTS))


def test_other_weights_or_dtype_never_hit(llama, store, reads):
    CachedExtractor(SplineExtractor(llama, features="blocks"), store).extract(TEXTS)
    for other in (tiny_backbone(seed=1), tiny_backbone(dtype=torch.bfloat16)):
        reads.clear()
        CachedExtractor(SplineExtractor(other, features="blocks"), store).extract(TEXTS)
        assert len(reads) == 4


def test_other_library_versions_never_hit(llama, store, reads, monkeypatch):
    CachedExtractor(SplineExtractor(llama), store).extract(TEXTS)
    monkeypatch.setattr("splinellm.provenance._library_versions", lambda: {"splinellm": "99"})
    CachedExtractor(SplineExtractor(llama), store).extract(TEXTS)
    assert len(reads) == 8


def test_same_weights_under_another_name_do_hit(llama, store, reads):
    CachedExtractor(SplineExtractor(llama), store).extract(TEXTS)
    twin = tiny_backbone()
    twin.spec = "/elsewhere"
    table = CachedExtractor(SplineExtractor(twin), store).extract(TEXTS)
    assert len(reads) == 4
    assert table.provenance.model == "/elsewhere"


def test_interrupted_extraction_keeps_what_it_read(llama, store, reads, monkeypatch):
    monkeypatch.setattr(cache_module, "_WINDOW", 2)
    cached = CachedExtractor(SplineExtractor(llama), store)

    def interrupt(n_prompts, n_tokens):
        if len(reads) > 2:
            raise KeyboardInterrupt

    prompts = [[n] for n in range(6)]
    with pytest.raises(KeyboardInterrupt):
        cached.extract(prompts, on_progress=interrupt)
    reads.clear()
    cached.extract(prompts)
    assert sorted(reads) == [[2], [3], [4], [5]]


def test_progress_adds_up(llama, store):
    cached = CachedExtractor(SplineExtractor(llama), store)
    cached.extract([[1, 2], [3]])
    calls = []
    cached.extract([[1, 2], [4, 5, 6], [3], [4, 5, 6]], on_progress=lambda *n: calls.append(n))
    assert calls == [(3, 6), (1, 3)]


def test_disk_store_survives_the_process(llama, tmp_path, reads):
    code = f"""
from splinellm import SplineExtractor
from splinellm.learn import CachedExtractor, DiskStore
from tests.tiny import tiny_backbone
store = DiskStore({str(tmp_path / "f.sqlite")!r})
CachedExtractor(SplineExtractor(tiny_backbone()), store).extract({TEXTS!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    CachedExtractor(SplineExtractor(llama), DiskStore(tmp_path / "f.sqlite")).extract(TEXTS)
    assert not reads


def test_store_that_breaks_does_not_fail_the_extraction(llama, tmp_path, caplog):
    cached = CachedExtractor(SplineExtractor(llama), DiskStore(tmp_path / "sub" / "f.sqlite"))
    for file in (tmp_path / "sub").iterdir():
        file.unlink()
    (tmp_path / "sub").rmdir()
    (tmp_path / "sub").touch()
    with caplog.at_level(logging.WARNING):
        assert len(cached.extract(TEXTS)) == len(TEXTS)
    assert "of no use" in caplog.text


def test_no_text_reaches_the_disk(llama, tmp_path):
    CachedExtractor(SplineExtractor(llama), DiskStore(tmp_path / "f.sqlite")).extract(TEXTS)
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"France" not in content
    ids = SplineExtractor(llama).tokenize(TEXTS)[0][0].ids
    assert np.array(ids, "<i8").tobytes() not in content


def test_shared_stores(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLINELLM_CACHE", str(tmp_path))
    assert shared_store("memory") is shared_store("memory")
    assert shared_store("disk").path == tmp_path / "features" / "features.sqlite"
    with pytest.raises(ConfigurationError, match="'memory', 'disk' or None"):
        shared_store("ram")
