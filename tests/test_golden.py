"""The default model's numbers, against an independent implementation (tests/golden).

24 prompts, float32, tolerances of DESIGN.md, section 2: alone, in batches with much padding, and
shuffled among others. A change here breaks every classifier that was trained before it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm import FeatureTable, SplineExtractor
from splinellm.backbone.builtin import pull
from splinellm.backbone.loading import load_backbone
from splinellm.backbone.recorder import Recorder
from splinellm.extraction import sharing
from tests import oracle

pytestmark = pytest.mark.model

GOLDEN = json.loads((Path(__file__).parent / "golden" / "smollm2_135m.json").read_text())
RECORDS: list[dict[str, Any]] = GOLDEN["prompts"]
TEXTS = [record["text"] for record in RECORDS]
LENGTHS = [len(record["token_ids"]) for record in RECORDS]

SEVEN = np.array([record["features"] for record in RECORDS], dtype=float)  # (N, L, 7)
SEVEN[np.isnan(SEVEN)] = 0.0  # the deviation of one token, which has none
DIMENSION = np.array([record["intrinsic_dimension"] for record in RECORDS])  # (N, L)

OTHERS = [f"{start}{end}" for start in ("Why", "No", "x =", "El", "{") for end in range(20)]


def check_golden(table: FeatureTable, rows: list[int]) -> None:
    """Compare a table of the golden prompts `rows`."""
    assert table.n_tokens.tolist() == [LENGTHS[row] for row in rows]
    assert not table.truncated.any()
    found = table.array[..., :7]
    deviation = np.abs(found - SEVEN[rows])
    assert deviation[..., :4].max() <= 1.5e-3
    distance, expected = deviation[..., 4:], np.abs(SEVEN[rows][..., 4:])
    beyond = (distance > 2e-2 * expected) & (distance > 2e-6)
    assert beyond.mean() <= 1 / 1000
    off = np.abs(table.array[..., 7] - DIMENSION[rows])
    assert off.max() <= 1
    assert (off > 0).mean() <= 1 / 200


@pytest.fixture(scope="module")
def alone(default_extractor: SplineExtractor) -> FeatureTable:
    return FeatureTable.concatenate([default_extractor.extract([text]) for text in TEXTS])


def test_golden_file_is_of_the_feature_order() -> None:
    assert GOLDEN["feature_names"] == [
        *("sign_mean", "sign_min", "sign_max", "sign_std"),
        *("distance_min", "distance_mean", "distance_std"),
    ]
    assert SEVEN.shape == (24, 30, 7)


def test_token_ids(default_extractor: SplineExtractor) -> None:
    tokenized, errors = default_extractor.tokenize(TEXTS)
    assert not errors
    assert [tokenized[i].ids for i in range(24)] == [r["token_ids"] for r in RECORDS]


def test_alone(alone: FeatureTable) -> None:
    check_golden(alone, list(range(24)))


@pytest.mark.parametrize(
    "rows",
    [
        [row for row in range(24) if LENGTHS[row] <= 64],
        [LENGTHS.index(1), LENGTHS.index(197), LENGTHS.index(5), LENGTHS.index(401)],
    ],
    ids=["21 prompts", "one token beside 401"],
)
def test_in_one_batch(
    default_extractor: SplineExtractor, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_extractor, "batch_tokens", 10_000)
    sizes: list[int] = []
    texts = [TEXTS[row] for row in rows]
    table = default_extractor.extract(texts, on_progress=lambda n, _tokens: sizes.append(n))
    assert sizes == [len(rows)]
    check_golden(table, rows)


def test_shuffled_among_a_hundred_others(
    default_extractor: SplineExtractor, alone: FeatureTable
) -> None:
    texts = [*TEXTS, *OTHERS]
    assert len(texts) == 124
    order = list(range(124))
    random.Random(0).shuffle(order)
    table = default_extractor.extract([texts[i] for i in order])
    found = table[np.array([order.index(row) for row in range(24)])]
    check_golden(found, list(range(24)))
    blocks = np.abs(found.array[..., 8:] - alone.array[..., 8:])
    assert blocks.mean() < 1e-4  # the signs of a few hyperplanes, each in one of 32 blocks
    assert (blocks > 0).mean() < 0.01


@pytest.mark.parametrize("row", [0, 1, 15])
def test_sign_blocks_equal_the_oracle(
    default_extractor: SplineExtractor, alone: FeatureTable, row: int
) -> None:
    model = default_extractor.backbone.model
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    views = oracle.read_prompt(weights, model.config, RECORDS[row]["token_ids"])
    slow = np.array([list(oracle.features(view).values()) for view in views])
    found = alone.array[row]
    one_sign = 1 / (48 * LENGTHS[row])  # of 1536 / 32 hyperplanes
    assert np.abs(found[:, 8:] - slow[:, 8:40]).max() < 1.5 * one_sign
    assert np.abs(found[:, 8:] - slow[:, 8:40]).mean() < 0.01 * one_sign
    np.testing.assert_array_equal(found[:, 7], slow[:, 7])
    # Of the golden values themselves, too: the oracle knows nothing of either implementation.
    assert np.abs(SEVEN[row] - slow[:, :7])[:, :4].max() <= 1.5e-3


def test_verify(default_extractor: SplineExtractor) -> None:
    assert default_extractor.verify().passed


def test_gguf_path_is_the_same_model(default_extractor: SplineExtractor) -> None:
    # Read from the file itself, always dequantised; the built-in name keeps an unpacked copy.
    path = pull("smollm2-135m")
    backbone = load_backbone(str(path), device="cpu")
    assert backbone.weights_sha256 == default_extractor.backbone.weights_sha256
    assert backbone.tokenizer_probe == default_extractor.backbone.tokenizer_probe
    assert backbone.n_layers == 30
    check_golden(SplineExtractor(backbone, features="paper").extract(TEXTS[:5]), list(range(5)))


def golden_prefixes() -> list[tuple[int, int]]:
    """(Prompt, length of a prefix) of the two shortest prompts of 64 tokens or more."""
    rows = sorted((n, row) for row, n in enumerate(LENGTHS) if n >= 64)[:2]
    return [(row, k) for n, row in rows for k in (1, 2, 17, 63, n)]


def test_prefixes_are_extractions_of_the_first_tokens(default_extractor: SplineExtractor) -> None:
    asked = golden_prefixes()
    rows = list(dict.fromkeys(row for row, _ in asked))
    table = default_extractor.extract([TEXTS[row] for row in rows], granularity="prefix")
    starts = np.cumsum([0, *(LENGTHS[row] for row in rows)])
    found = table[np.array([starts[rows.index(row)] + k - 1 for row, k in asked])]
    alone = FeatureTable.concatenate(
        [default_extractor.extract([RECORDS[row]["token_ids"][:k]]) for row, k in asked]
    )
    assert found.n_tokens.tolist() == alone.n_tokens.tolist() == [k for _, k in asked]
    check_close(found, alone)
    whole = [i for i, (row, k) in enumerate(asked) if k == LENGTHS[row]]
    check_golden(found[np.array(whole)], rows)


def test_prompts_of_one_beginning(
    default_extractor: SplineExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = max(RECORDS, key=lambda record: len(record["token_ids"]))
    beginning = longest["token_ids"][:200]
    prompts = [
        [*beginning, *record["token_ids"][: 3 + place]]
        for place, record in enumerate([*RECORDS, *RECORDS[:6]])
    ]
    assert len(prompts) == 30
    lengths: list[int] = []
    read = Recorder.read_beginning

    def noted(self: Recorder, input_ids: Any) -> Any:
        lengths.append(input_ids.shape[1])
        return read(self, input_ids)

    monkeypatch.setattr(Recorder, "read_beginning", noted)
    found = default_extractor.extract(prompts)
    assert lengths == [200]
    monkeypatch.setattr(sharing, "MIN_SAVING", 2.0)  # never worth while
    expected = default_extractor.extract(prompts)
    assert lengths == [200]
    check_close(found, expected)


def check_close(found: FeatureTable, expected: FeatureTable) -> None:
    """Compare with another reading of the same prompts, within the golden tolerances."""
    a, b = found.array, expected.array
    deviation = np.abs(a - b)
    assert deviation[..., :4].max() <= 1.5e-3
    distance = deviation[..., 4:7]
    assert ((distance > 2e-2 * np.abs(b[..., 4:7])) & (distance > 2e-6)).mean() <= 1 / 1000
    assert deviation[..., 7].max() <= 1
    assert (deviation[..., 7] > 0).mean() <= 1 / 200
    assert deviation[..., 8:].mean() < 1e-4
