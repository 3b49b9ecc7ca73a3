"""The extractor's front: what goes in, what comes out, what the table says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import ConfigurationError, PromptError, SchemaError
from splinellm.extraction import PrecisionWarning
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.provenance import library_versions
from splinellm.schema import PAPER_FEATURES
from tests.tiny import MAX_POSITIONS, N_HYPERPLANES, tiny_backbone, tiny_model, tiny_tokenizer

TEXTS = ["The capital of France is", "Hi", "a longer text than the others, by far"]


@pytest.fixture(scope="module")
def extractor(llama: Backbone) -> SplineExtractor:
    return SplineExtractor(llama)


def test_it_says_what_it_reads(extractor: SplineExtractor) -> None:
    assert repr(extractor) == (
        "SplineExtractor(3 layers x 8 features (sign_mean, sign_min, sign_max, sign_std and 4 "
        "more), tiny in float32)"
    )


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        iter,
        np.array,
        lambda texts: (text for text in texts),
        lambda texts: np.array(texts, dtype=object),
        lambda texts: pd.Series(texts, index=[7, 3, 5]),
        lambda texts: pd.Series(texts, dtype="string"),
    ],
    ids=["list", "tuple", "iterator", "array", "generator", "object", "series", "string"],
)
def test_any_iterable_of_texts(extractor: SplineExtractor, container: Any) -> None:
    expected = extractor.extract(TEXTS)
    found = extractor.extract(container(TEXTS))
    assert (found.values == expected.values).all()


def test_one_text_is_one_prompt(extractor: SplineExtractor) -> None:
    expected = extractor.extract(TEXTS[:1])
    assert (extractor.extract(TEXTS[0]).values == expected.values).all()
    (table,) = extractor.iter_extract(TEXTS[0])
    assert (table.values == expected.values).all()


def test_missing_value_of_a_series_is_named(extractor: SplineExtractor) -> None:
    with pytest.raises(PromptError, match="prompt 1: the text is missing"):
        extractor.extract(pd.Series(["a", None, "b"]))


def test_no_prompts_make_an_empty_table(extractor: SplineExtractor) -> None:
    table = extractor.extract([])
    assert (len(table), table.values.shape, table.array.shape) == (0, (0, 24), (0, 3, 8))
    assert table.names == extractor.extract(TEXTS).names
    assert list(extractor.iter_extract([])) == []


def test_shape_and_names(llama: Backbone) -> None:
    extractor = SplineExtractor(llama, layers=[-1, 0], features="blocks:8,sign_std")
    table = extractor.extract(TEXTS)
    assert table.values.shape == (3, 2 * 9)
    assert table.values.dtype == np.float32
    assert table.names[:2] == ("layer_00.sign_std", "layer_00.sign_block_00")
    assert table.names[-1] == "layer_02.sign_block_07"
    assert table.n_tokens.dtype == np.int64
    assert table.truncated.dtype == np.bool_


def test_first_bad_prompt_is_reported(extractor: SplineExtractor) -> None:
    with pytest.raises(PromptError, match="prompt 2"):
        extractor.extract(["a", "b", "", "c", None])  # type: ignore[list-item]


def test_bad_prompts_are_left_out_and_the_rest_keeps_its_order(extractor: SplineExtractor) -> None:
    mixed: list[Any] = ["", TEXTS[0], None, TEXTS[1], [9999], TEXTS[2], 3]
    table, errors = extractor.extract_valid(mixed)
    assert sorted(errors) == [0, 2, 4, 6]
    assert all(error.index == position for position, error in errors.items())
    assert (table.values == extractor.extract(TEXTS).values).all()


def test_all_bad(extractor: SplineExtractor) -> None:
    table, errors = extractor.extract_valid(["", ""])
    assert (len(table), sorted(errors)) == (0, [0, 1])


def test_stream_is_lazy_and_in_order(extractor: SplineExtractor) -> None:
    drawn: list[int] = []

    def source() -> Iterator[str]:
        for number in range(100):
            drawn.append(number)
            yield "a" * (1 + number % 5)

    stream = extractor.iter_extract(source(), window=4)
    assert drawn == []
    first = next(stream)
    assert drawn == [0, 1, 2, 3]
    second = next(stream)
    assert len(drawn) == 8
    expected = extractor.extract(["a" * (1 + n % 5) for n in range(8)])
    found = np.concatenate([first.values, second.values])
    np.testing.assert_allclose(found, expected.values, atol=2e-6)


def test_error_in_a_stream_has_its_place_in_the_whole(extractor: SplineExtractor) -> None:
    stream = extractor.iter_extract(["a"] * 7 + [""] + ["a"] * 4, window=3)
    assert [len(next(stream)), len(next(stream))] == [3, 3]
    with pytest.raises(PromptError, match="prompt 7: the text is empty") as caught:
        next(stream)
    assert caught.value.index == 7


@pytest.mark.parametrize("window", [0, -1, 1.5, "3", True, None])
def test_impossible_window(extractor: SplineExtractor, window: Any) -> None:
    with pytest.raises(ConfigurationError, match="window"):
        next(extractor.iter_extract(TEXTS, window=window))


def test_progress_counts_prompts_and_tokens(extractor: SplineExtractor) -> None:
    seen: list[tuple[int, int]] = []
    table = extractor.extract([*TEXTS, *TEXTS], on_progress=lambda *counts: seen.append(counts))
    prompts, tokens = (sum(column) for column in zip(*seen, strict=True))
    assert (prompts, tokens) == (6, table.n_tokens.sum())


def test_provenance(llama: Backbone) -> None:
    extractor = SplineExtractor(
        llama,
        layers="1-2",
        features="blocks:4,distance_min",
        max_tokens=50,
        dimension_rule="absolute",
        dimension_threshold=0.2,
        allow_special_tokens=True,
    )
    provenance = extractor.extract(["a"]).provenance
    assert dataclasses.asdict(provenance) == {
        "model": "tiny",
        "weights_sha256": llama.weights_sha256,
        "architecture": "llama",
        "n_layers": 3,
        "dtype": "float32",
        "attention": "sdpa",
        "layers": (1, 2),
        "features": ("distance_min", *(f"sign_block_0{i}" for i in range(4))),
        "n_blocks": 4,
        "max_tokens": 50,
        "dimension_rule": "absolute",
        "dimension_threshold": 0.2,
        "allow_special_tokens": True,
        "tokenizer_probe": llama.tokenizer_probe,
        "distance_precision": "full",
        "granularity": "prompt",
        "schema_version": 1,
        "libraries": library_versions(),
        "count": "all",
        "chat_template_sha256": "",
        "precision": "float32",
    }


def test_defaults(extractor: SplineExtractor) -> None:
    assert extractor.schema.features == PAPER_FEATURES
    assert extractor.schema.layers == (0, 1, 2)
    assert extractor.provenance.max_tokens == MAX_POSITIONS  # the model's, which is below 1024
    assert extractor.provenance.allow_special_tokens is False


def test_probe_tells_tokenizers_apart(llama: Backbone) -> None:
    other = Backbone(tiny_model(), tiny_tokenizer(adds_bos=True), "tiny")
    assert other.tokenizer_probe != llama.tokenizer_probe


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_tokens": 0}, ConfigurationError, "max_tokens is 0"),
        ({"max_tokens": MAX_POSITIONS + 1}, ConfigurationError, f"{MAX_POSITIONS} positions"),
        ({"batch_tokens": 0}, ConfigurationError, "batch_tokens is 0"),
        ({"max_tokens": "5"}, ConfigurationError, "max_tokens is of type str"),
        ({"max_tokens": 1.5}, ConfigurationError, "max_tokens is of type float"),
        ({"max_tokens": True}, ConfigurationError, "max_tokens is of type bool"),
        ({"batch_tokens": "5"}, ConfigurationError, "batch_tokens is of type str"),
        ({"batch_tokens": 1.5}, ConfigurationError, "batch_tokens is of type float"),
        ({"prefix_cache_bytes": "5"}, ConfigurationError, "prefix_cache_bytes is of type str"),
        ({"dimension_threshold": "0.1"}, ConfigurationError, "dimension_threshold is of type str"),
        ({"dimension_threshold": None}, ConfigurationError, "of type NoneType, not a number"),
        ({"allow_special_tokens": "no"}, ConfigurationError, "allow_special_tokens is of type str"),
        ({"chat_template": Path("x.jinja")}, ConfigurationError, "chat_template .*read_text"),
        ({"layers": slice(2)}, SchemaError, "layers is of type slice"),
        ({"layers": [True, False]}, SchemaError, "layer True is not a whole number"),
        ({"layers": b"01"}, SchemaError, "layers is of type bytes"),
        ({"layers": np.array(1.5)}, SchemaError, "layers is of type float"),
        ({"features": 5}, SchemaError, "features is of type int"),
        ({"features": np.array(5)}, SchemaError, "features is of type int"),
        ({"features": ["spline", 5]}, SchemaError, "a feature is of type int"),
        ({"layers": "3"}, SchemaError, "layer 3 does not exist"),
        ({"layers": ""}, SchemaError, "layer"),
        ({"features": "mean"}, SchemaError, "unknown feature 'mean'"),
        ({"features": f"blocks:{N_HYPERPLANES + 1}"}, SchemaError, "72 hyperplanes"),
        ({"dimension_threshold": 1.5}, ConfigurationError, "between 0 and 1"),
        ({"dimension_rule": "median"}, ConfigurationError, "median"),
        ({"dimension_rule": np.array(["relative"])}, ConfigurationError, "dimension_rule is of"),
        ({"count": np.array(["all", "last"])}, ConfigurationError, "count is of type ndarray"),
        ({"chat_template": np.array(["a", "b"])}, ConfigurationError, "chat_template is of type"),
        ({"prefix_cache_bytes": np.ones(2)}, ConfigurationError, "prefix_cache_bytes is of type"),
    ],
    ids=str,
)
def test_impossible_option(
    llama: Backbone, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SplineExtractor(llama, **options)


def test_numbers_of_other_libraries_are_read(llama: Backbone) -> None:
    extractor = SplineExtractor(
        llama,
        layers=np.int64(1),
        max_tokens=np.int64(4),
        batch_tokens=np.int32(9),
        dimension_threshold=np.float32(0.25),
    )
    assert extractor.schema.layers == (1,)
    found = extractor.provenance
    assert (found.max_tokens, found.dimension_threshold) == (4, 0.25)
    assert {type(found.max_tokens), type(found.dimension_threshold)} == {int, float}


def test_as_many_blocks_as_hyperplanes(llama: Backbone) -> None:
    features = SplineExtractor(llama, features=f"blocks:{N_HYPERPLANES}").extract(["ab"])
    assert set(np.unique(features.values)) == {0.0, 0.5, 1.0}  # two tokens, one sign a block


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_distances_in_half_precision_warn_once_and_are_marked(dtype: torch.dtype) -> None:
    backbone = tiny_backbone(dtype=dtype)
    with pytest.warns(PrecisionWarning, match="float32") as caught:
        extractor = SplineExtractor(backbone)
    assert [warning.filename for warning in caught] == [__file__]
    extractor.extract(TEXTS)  # warnings are errors here: it does not warn again
    assert extractor.provenance.distance_precision == "reduced"


@pytest.mark.parametrize("features", ["blocks", "intrinsic_dimension,sign_max"])
def test_signs_and_dimensions_in_half_precision_do_not_warn(features: str) -> None:
    extractor = SplineExtractor(tiny_backbone(dtype=torch.bfloat16), features=features)
    assert extractor.provenance.distance_precision == "none"
    assert extractor.extract(TEXTS).provenance.dtype == "bfloat16"


def test_extraction_leaves_no_grad_mode_behind(extractor: SplineExtractor) -> None:
    extractor.extract(TEXTS)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_reading_takes_any_keys_and_keeps_their_order(extractor: SplineExtractor) -> None:
    tokenized, _ = extractor.tokenize(TEXTS)
    table = extractor.extract(TEXTS)
    names = {"last": tokenized[2], b"first": tokenized[0], (1, 2): tokenized[2]}
    found = extractor.read(names)
    assert list(found) == list(names)
    for key, position in (("last", 2), (b"first", 0), ((1, 2), 2)):
        np.testing.assert_allclose(found[key], table.values[position][None], atol=2e-6)


@pytest.mark.parametrize("n_tokens", [0, 5])
def test_what_was_not_cut_is_not_read(llama: Backbone, n_tokens: int) -> None:
    extractor = SplineExtractor(llama, max_tokens=4)
    with pytest.raises(ValueError, match=f"{n_tokens} tokens"):
        extractor.read({0: TokenizedPrompt([7] * n_tokens, truncated=False)})


def test_an_unknown_granularity_is_refused(extractor: SplineExtractor) -> None:
    with pytest.raises(SchemaError, match="unknown granularity 'word'"):
        extractor.extract(TEXTS, granularity="word")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="unknown granularity"):
        extractor.provenance_at("word")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="unknown granularity"):
        extractor.extract(TEXTS, granularity=np.array(["prompt", "token"]))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [np.array, torch.tensor])
def test_an_array_without_dimensions_is_its_value(
    llama: Backbone, wrap: Callable[[int], Any]
) -> None:
    extractor = SplineExtractor(llama, layers=wrap(1), max_tokens=wrap(5), batch_tokens=wrap(7))
    assert extractor.plan.layers == (1,)
    assert extractor.plan.max_tokens == 5
    table = SplineExtractor(llama).extract(TEXTS)
    assert table.select(layers=wrap(-1)).names == table.select(layers=[2]).names
