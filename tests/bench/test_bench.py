"""The benchmark's sides do the same work, and its figures are what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from splinellm import SplineExtractor
from splinellm.bench.naive import NaiveExtractor
from splinellm.bench.run import Result
from splinellm.bench.sides import BARE, EXTRACT, NAIVE, PRODUCTS, sides
from splinellm.bench.timing import interleaved, peak_megabytes, prompts_of
from splinellm.cli import run
from tests.architectures import case_backbone
from tests.tiny import random_prompts, tiny_backbone


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_naive_extraction_gives_the_same_numbers(kind: str) -> None:
    prompts = random_prompts(1, 5, 14)
    backbone = tiny_backbone(kind)
    found = NaiveExtractor(backbone).extract(prompts).numpy()
    expected = SplineExtractor(backbone).extract(prompts).array
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert backbone.model.config._attn_implementation == "sdpa"


def test_naive_extraction_of_an_encoder_gives_the_same_numbers() -> None:
    prompts = random_prompts(1, 5, 14)
    backbone = case_backbone("electra")
    found = NaiveExtractor(backbone).extract(prompts).numpy()
    np.testing.assert_allclose(found, SplineExtractor(backbone).extract(prompts).array, atol=2e-6)


def test_the_bare_pass_of_an_encoder_masks_its_padding() -> None:
    extractor = SplineExtractor(case_backbone("bert"))
    masks: list[int] = []
    extractor.backbone.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: masks.append(int(kwargs["attention_mask"].sum())),
        with_kwargs=True,
    )
    prompts = prompts_of(3, 1)
    tasks = sides(extractor, prompts)
    masks.clear()
    tasks[BARE]()
    assert sum(masks) == int(extractor.extract(prompts).n_tokens.sum())


def n_products(layers: str) -> int:
    """Matrix products that the yardstick makes of five prompts."""
    made = []
    linear = torch.nn.functional.linear
    tasks = sides(SplineExtractor(tiny_backbone(), layers=layers), prompts_of(5, 2))
    assert set(tasks) == {NAIVE, BARE, PRODUCTS, EXTRACT}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("splinellm.bench.sides.F.linear", lambda *a: made.append(a) or linear(*a))
        tasks[PRODUCTS]()
    return len(made)


def test_products_are_those_of_the_layers_that_are_read() -> None:
    # 7 linear maps a layer, but the last one ends at its gate, its 5th; as many batches for both.
    assert n_products("all") * (7 + 5) == n_products("0-1") * (2 * 7 + 5)


def test_ratios_say_how_many_times_as_fast_extraction_is() -> None:
    result = Result("short", "float32", "all", "paper", 1, 9, {NAIVE: 6.0, EXTRACT: 2.0}, None)
    assert result.ratios == {NAIVE: 3.0}


def test_tasks_are_timed_in_turns() -> None:
    order: list[str] = []
    names = ["a", "b"]
    seconds = interleaved({n: lambda n=n: order.append(n) for n in names}, repeats=3)
    assert order == names * 4
    assert list(seconds) == names


def test_peak_memory_is_that_of_the_task() -> None:
    used = peak_megabytes(lambda: torch.ones(50_000_000))
    if used is not None:
        assert 150 < used < 350


@pytest.mark.parametrize(
    "arguments", [["--dtypes", "float31"], ["--lengths", "7"], ["--repeats", "0"]]
)
def test_impossible_options_are_bad_usage(arguments: list[str]) -> None:
    assert run(["bench", *arguments]) == 2


@pytest.mark.model
def test_bench_prints_a_line_per_length_and_layers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splinellm.bench.run.WORKLOADS", {"short": (2, 1, 16)})
    assert run(["bench", "--lengths", "short", "--repeats", "1", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["layers"] for record in records] == ["all", "0-2", "all"]
    assert set(records[0]["ratios"]) == {NAIVE, BARE, PRODUCTS}
    assert records[2]["features"] == "paper,complexity:0.05"
    assert set(records[2]["ratios"]) == {NAIVE, BARE, "without"}
    assert records[2]["seconds"]["without"] == records[0]["seconds"]["extract"]
    assert all(ratio > 0 for record in records for ratio in record["ratios"].values())
