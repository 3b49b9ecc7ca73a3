"""Features of requests are those of the same token ids, whatever the engine does meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm import FeatureTable, SplineExtractor
from splinellm.errors import ConfigurationError, NothingRecordedError
from splinellm.vllm import attach_vllm
from tests.live.models import extractor_of
from tests.tiny import random_prompts
from tests.vllm.models import load_tiny

vllm = pytest.importorskip("vllm", reason="vllm is not installed: make vllm")

ALL = "spline,blocks:24,sign_entropy,complexity:0.4"
N_REQUESTS = 40


@pytest.fixture(scope="module")
def extractor(tiny_folder: Path) -> SplineExtractor:
    return extractor_of(load_tiny(tiny_folder), ALL)


def params(n_tokens: int) -> Any:
    return vllm.SamplingParams(temperature=0, max_tokens=n_tokens)


def ids_read(output: Any) -> list[int]:
    """What the model has read of a request."""
    return [*output.prompt_token_ids, *output.outputs[0].token_ids][:-1]


class Served:
    """Requests that come at random times, some of which are aborted."""

    def __init__(self, llm: Any, *, aborts: bool, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        engine = llm.llm_engine
        lengths = random.integers(1, 150, N_REQUESTS)
        self.prompts = random_prompts(*lengths.tolist(), seed=seed)
        self.n_new = random.integers(1, 60, N_REQUESTS).tolist()
        arrivals = np.sort(random.integers(0, 120, N_REQUESTS)).tolist()
        self.aborted = (
            set(random.choice(N_REQUESTS, 6, replace=False).tolist()) if aborts else set()
        )
        self.names = [f"{seed}-request-{number}" for number in range(N_REQUESTS)]
        self.outputs: dict[int, Any] = {}
        partial: dict[str, Any] = {}
        self.n_preempted = 0
        step = given = 0
        scheduler = engine.engine_core.engine_core.scheduler
        while given < N_REQUESTS or engine.has_unfinished_requests():
            while given < N_REQUESTS and arrivals[given] <= step:
                prompt = {"prompt_token_ids": self.prompts[given]}
                engine.add_request(self.names[given], prompt, params(self.n_new[given]))
                given += 1
            for output in engine.step():
                partial[output.request_id] = output
                if output.finished:
                    self.outputs[self.names.index(output.request_id)] = output
            for number in self.aborted:
                name = self.names[number]
                found = partial.get(name)
                if found is not None and not found.finished and len(found.outputs[0].token_ids) > 3:
                    engine.abort_request([name])
                    partial.pop(name)
            step += 1
            self.n_preempted = max(
                self.n_preempted, sum(it.num_preemptions for it in scheduler.requests.values())
            )
        self.finished = [self.outputs[number] for number in sorted(self.outputs)]


def test_requests_at_random_times(llm: Any, extractor: SplineExtractor) -> None:
    with attach_vllm(llm, features=ALL) as recorder:
        served = Served(llm, aborts=True)
        table = recorder.table_of(served.finished)
        answers = [it for it in served.finished if len(it.outputs[0].token_ids) > 1]
        of_answers = recorder.table_of(answers, count="answer")
        of_prompts = recorder.table_of(served.finished, count="prompt")
        held = recorder.held
    assert served.n_preempted > 0  # or the cache was not small
    assert len(served.finished) >= N_REQUESTS - len(served.aborted)
    check(table, extractor, [ids_read(it) for it in served.finished])
    check(of_prompts, extractor, [list(it.prompt_token_ids) for it in served.finished])
    check_answers(of_answers, extractor, answers)
    assert held["running"] <= 4
    assert held["ended"] >= len(served.finished) - 4


def check(table: FeatureTable, extractor: SplineExtractor, texts: list[list[int]]) -> None:
    """Compare with an extraction of the same token ids."""
    expected = extractor.extract(texts)
    assert table.names == expected.names
    assert table.n_tokens.tolist() == expected.n_tokens.tolist()
    for column, name in enumerate(table.names):
        compare(table.values[:, column], expected.values[:, column], name)


def compare(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """Within the golden values' tolerances or far closer; other kernels round otherwise."""
    is_distance = "distance" in name
    tight = {"atol": 1e-5, "rtol": 2e-2} if is_distance else {"atol": 2e-6, "rtol": 0}
    np.testing.assert_allclose(found, wanted, **tight, err_msg=name)


def check_answers(table: FeatureTable, extractor: SplineExtractor, outputs: list[Any]) -> None:
    """Compare with the tokens' own numbers, of which only the answer's are counted."""
    expected = []
    for output in outputs:
        tokens = extractor.extract([ids_read(output)], granularity="token")
        expected.append(masked(tokens, len(output.prompt_token_ids)))
    n_tokens = [len(it.outputs[0].token_ids) - 1 for it in outputs]
    assert table.n_tokens.tolist() == n_tokens
    assert table.provenance.count == "assistant"
    for column, name in enumerate(table.names):
        wanted = np.array([row[name] for row in expected])
        compare(table.values[:, column], wanted, name)


def masked(tokens: FeatureTable, first: int) -> dict[str, float]:
    """Statistics over tokens from one on, written out; from numbers of single tokens."""
    row = {}
    values = dict(zip(tokens.names, tokens.values[first:].astype(np.float64).T, strict=True))
    for name, numbers in values.items():
        layer, feature = name.split(".", 1)
        short = {"sign_fraction": "sign", "hyperplane_distance": "distance"}.get(feature, feature)
        std = numbers.std(ddof=1) if len(numbers) > 1 else 0.0
        if feature.startswith("sign_block"):
            row[name] = numbers.mean()
            continue
        row |= {
            f"{layer}.{short}_mean": numbers.mean(),
            f"{layer}.{short}_min": numbers.min(),
            f"{layer}.{short}_max": numbers.max(),
            f"{layer}.{short}_std": std,
        }
    return row


def test_hooks_change_no_token(llm: Any) -> None:
    plain = Served(llm, aborts=False, seed=1)
    with attach_vllm(llm, features="paper,blocks"):
        watched = Served(llm, aborts=False, seed=1)
    assert len(plain.finished) == len(watched.finished) == N_REQUESTS
    for one, other in zip(plain.finished, watched.finished, strict=True):
        assert one.outputs[0].token_ids == other.outputs[0].token_ids


def test_layers_and_single_features(llm: Any, extractor: SplineExtractor) -> None:
    prompts = random_prompts(5, 90, 33, seed=3)
    with attach_vllm(llm, layers=[0, 2], features="sign_max,blocks:24") as recorder:
        outputs = llm.generate([{"prompt_token_ids": it} for it in prompts], params(5))
        table = recorder.table_of(outputs)
    wanted = extractor.extract([ids_read(it) for it in outputs])
    wanted = wanted.select([0, 2], table.provenance.features)
    np.testing.assert_allclose(table.values, wanted.values, atol=2e-6)
    assert table.provenance.layers == (0, 2)


def test_the_dimension_of_prompts_that_one_step_reads(llm: Any, tiny_folder: Path) -> None:
    prompts = random_prompts(40, 7, 1, seed=4)
    long = random_prompts(100, seed=5)
    with attach_vllm(llm, features="paper") as recorder:
        one = llm.generate([{"prompt_token_ids": it} for it in prompts], params(1))
        several = llm.generate([{"prompt_token_ids": it} for it in prompts + long], params(4))
        table = recorder.table_of(one)
        again = recorder.table_of(several[:2], count="prompt")
        for count in ("all", "answer"):
            with pytest.raises(NothingRecordedError, match="intrinsic_dimension needs all keys"):
                recorder.table_of(several, count=count)
        with pytest.raises(NothingRecordedError, match=r"request '.*' has no features.*all keys"):
            recorder.table_of(several[3:], count="prompt")
    expected = extractor_of(load_tiny(tiny_folder), "paper")
    check(table, expected, prompts)
    check(again, expected, prompts[:2])
    assert np.ptp(table.array[:, :, -1]) > 0


def test_what_is_refused(llm: Any) -> None:
    with attach_vllm(llm, features="blocks:8") as recorder:
        (output,) = llm.generate([{"prompt_token_ids": [5, 6, 7]}], params(1))
        with pytest.raises(NothingRecordedError, match="none of these tokens was read"):
            recorder.table_of([output], count="answer")
        with pytest.raises(ConfigurationError, match="unknown count"):
            recorder.table_of([output], count="user")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="watched already"), attach_vllm(llm):
            pass
        recorder.table_of(output)
        recorder.forget([output])
        with pytest.raises(NothingRecordedError, match="not known here"):
            recorder.table_of(output)
    with pytest.raises(NothingRecordedError, match="not watched"):
        recorder.table_of(output)


def test_memory_is_flat(llm: Any) -> None:
    with attach_vllm(llm, features="spline", keep=20) as recorder:
        before = None
        for number in range(6):
            prompts = random_prompts(*[3 + number % 4] * 25, seed=number)
            llm.generate([{"prompt_token_ids": it} for it in prompts], params(2))
            held = recorder.held
            assert held["ended"] <= 20 + 4
            assert before in (None, held["bytes_of_slots"])
            before = held["bytes_of_slots"]
    assert 0 < held["bytes_per_request"] < 10_000  # whatever the length of the text
