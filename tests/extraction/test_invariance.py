"""A prompt's features do not depend on what it was read with."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch

from splinellm import FeatureTable, SplineExtractor
from splinellm.schema import DISTANCE_FEATURES, INTRINSIC_DIMENSION, SIGN_FEATURES
from tests.tiny import N_HYPERPLANES, random_prompts, tiny_backbone

PROMPTS = [
    *random_prompts(1, 1, 2, 3, 6, 7, 8, 20, 33, 34, 60),
    *["Hi", "The capital of France is", "def add(a, b):\n    return a + b", " ", "\U0001f600"],
]

pytestmark = pytest.mark.filterwarnings("ignore::splinellm.extraction.PrecisionWarning")


def check_close(found: FeatureTable, expected: FeatureTable) -> None:
    """Compare within what rounding may do in the tables' dtype."""
    assert found.provenance == expected.provenance
    assert found.n_tokens.tolist() == expected.n_tokens.tolist()
    names = found.schema.features
    columns = {
        "distance": [i for i, name in enumerate(names) if name in DISTANCE_FEATURES],
        "dimension": [names.index(INTRINSIC_DIMENSION)],
        "sign": [names.index(name) for name in SIGN_FEATURES],
        "block": [i for i, name in enumerate(names) if name.startswith("sign_block")],
    }
    deviation = {kind: np.abs(found.array - expected.array)[..., columns[kind]] for kind in columns}
    if found.provenance.dtype == "float32":
        assert deviation["sign"].max() < 1e-6
        assert deviation["block"].max() < 1e-6
        assert deviation["dimension"].max() == 0
        assert deviation["distance"].max() < 2e-6
    else:
        # Half precision: a matrix product of another shape rounds otherwise, and a sign near its
        # hyperplane flips. Up to two of 72 in a token, and few of all. Distances are noise.
        assert deviation["sign"].max() <= 2.01 / N_HYPERPLANES
        assert deviation["block"].mean() < 1e-3
        assert (deviation["dimension"] > 0).mean() < 0.1
        assert deviation["dimension"].max() <= 4  # of 100 and more


@pytest.fixture(
    scope="module",
    params=[
        ("llama", torch.float32),
        ("mistral", torch.float32),
        ("llama", torch.bfloat16),
        ("mistral", torch.float16),
    ],
    ids=lambda param: f"{param[0]}-{str(param[1])[6:]}",
)
def extractor(request: pytest.FixtureRequest) -> SplineExtractor:
    kind, dtype = request.param
    return SplineExtractor(tiny_backbone(kind, dtype=dtype), features="paper,blocks")


@pytest.fixture(scope="module")
def alone(extractor: SplineExtractor) -> FeatureTable:
    """Every prompt in an extraction of its own."""
    table = FeatureTable.concatenate([extractor.extract([prompt]) for prompt in PROMPTS])
    assert len(np.unique(table.array[..., 7])) > 10, "the dimension hardly varies"
    return table


@pytest.mark.parametrize("budget", [1, 7, 64, 4096])
def test_any_token_budget(extractor: SplineExtractor, alone: FeatureTable, budget: int) -> None:
    sizes: list[int] = []
    extractor.batch_tokens = budget
    found = extractor.extract(PROMPTS, on_progress=lambda n, _tokens: sizes.append(n))
    check_close(found, alone)
    assert sum(sizes) == len(PROMPTS)
    assert (len(sizes) == len(PROMPTS)) == (budget == 1)
    assert (len(sizes) == 1) == (budget == 4096)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_order(extractor: SplineExtractor, alone: FeatureTable, seed: int) -> None:
    order = list(range(len(PROMPTS)))
    random.Random(seed).shuffle(order)
    extractor.batch_tokens = 100
    found = extractor.extract([PROMPTS[i] for i in order])
    check_close(found, alone[np.array(order)])


@pytest.mark.parametrize("n_mates", [1, 30])
def test_any_batch_mates(extractor: SplineExtractor, alone: FeatureTable, n_mates: int) -> None:
    mates = random_prompts(*[5, 70] * n_mates, seed=9)[:n_mates]
    extractor.batch_tokens = 4096
    found = extractor.extract([*mates, *PROMPTS, *mates])
    check_close(found[n_mates : n_mates + len(PROMPTS)], alone)


def test_windows_of_a_stream(extractor: SplineExtractor, alone: FeatureTable) -> None:
    tables = list(extractor.iter_extract(iter(PROMPTS), window=5))
    assert [len(table) for table in tables] == [5, 5, 5, 1]
    check_close(FeatureTable.concatenate(tables), alone)


def test_text_equals_its_token_ids(extractor: SplineExtractor) -> None:
    texts = [prompt for prompt in PROMPTS if isinstance(prompt, str)]
    tokenized, _ = extractor.tokenize(texts)
    ids = [prompt.ids for prompt in tokenized.values()]
    assert (extractor.extract(texts).values == extractor.extract(ids).values).all()


def test_truncated_prompt_equals_its_beginning(extractor: SplineExtractor) -> None:
    long = PROMPTS[10]
    cut = SplineExtractor(extractor.backbone, features="paper,blocks", max_tokens=20)
    found, expected = cut.extract([long]), extractor.extract([long[:20]])
    assert (found.values == expected.values).all()
    assert (found.truncated.tolist(), found.n_tokens.tolist()) == ([True], [20])


def test_threads_share_a_model(extractor: SplineExtractor, alone: FeatureTable) -> None:
    # Two extractors that watch different things, each in two threads.
    other = SplineExtractor(extractor.backbone, features="blocks", layers="1")
    expected = other.extract(PROMPTS)
    extractor.batch_tokens = other.batch_tokens = 64
    found: list[tuple[FeatureTable, FeatureTable]] = []

    def work(reader: SplineExtractor, reference: FeatureTable) -> None:
        found.append((reader.extract(PROMPTS), reference))

    jobs = [(extractor, alone), (other, expected)] * 2
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for table, reference in found:
        if table.schema.features == reference.schema.features == expected.schema.features:
            assert np.abs(table.values - reference.values).mean() < 1e-3
        else:
            check_close(table, reference)
