"""A guard ends a request at the token at which the one for transformers does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm.errors import ConfigurationError
from splinellm.learn.classifier import Classifier
from splinellm.vllm import attach_vllm
from tests.live.models import extractor_of
from tests.tiny import random_prompts
from tests.vllm.models import guarded_in_transformers, load_tiny, made_up_classifier

vllm = pytest.importorskip("vllm", reason="vllm is not installed: make vllm")

PROMPTS = random_prompts(*range(3, 15), seed=11)
N_NEW = 40


@pytest.fixture(scope="module")
def classifier(tiny_folder: Path) -> Classifier:
    return made_up_classifier(extractor_of(load_tiny(tiny_folder), "blocks:24"))


@pytest.fixture(scope="module")
def in_transformers(tiny_folder: Path, classifier: Classifier) -> dict[str, Any]:
    return guarded_in_transformers(tiny_folder, classifier, PROMPTS, N_NEW)


@pytest.fixture
def guarded(llm: Any) -> Iterator[Any]:
    yield llm
    assert "step" not in vars(llm.llm_engine)


def test_requests_end_where_rows_do(
    guarded: Any, classifier: Classifier, in_transformers: dict[str, Any]
) -> None:
    settings = {"threshold": 0.6, "label": "bad", "every": 3}
    params = vllm.SamplingParams(temperature=0, max_tokens=N_NEW)
    with attach_vllm(guarded, classifier=classifier, guard=True, **settings) as recorder:
        outputs = guarded.generate([{"prompt_token_ids": it} for it in PROMPTS], params)
        stops, verdicts = recorder.stops_of(outputs), recorder.verdicts_of(outputs)
    wanted = in_transformers["stops"]
    assert 0 < sum(it is not None for it in wanted) < len(PROMPTS)
    for output, stop, verdict, expected, written in zip(
        outputs, stops, verdicts, wanted, in_transformers["tokens"], strict=True
    ):
        answer = output.outputs[0]
        if expected is None:
            assert stop is None
            assert answer.stop_reason is None
            assert list(answer.token_ids) == written
            assert verdict["stopped"] is None
            continue
        assert stop is not None
        assert (stop.n_tokens, stop.n_generated) == (expected.n_tokens, expected.n_generated)
        assert stop.probability == pytest.approx(expected.probability, abs=1e-4)
        # As long as there; in place of the unread last token stands the one that ends it.
        assert len(answer.token_ids) == len(written)
        assert list(answer.token_ids[:-1]) == written[:-1]
        assert answer.finish_reason == "stop"
        assert answer.stop_reason.startswith("splinellm guard: probability 0.")
        assert verdict["stopped"]["n_generated"] == stop.n_generated
        assert verdict["label"] == "bad"


def test_without_a_guard_it_is_judged_alone(llm: Any, classifier: Classifier) -> None:
    params = vllm.SamplingParams(temperature=0, max_tokens=4)
    with attach_vllm(llm, classifier=classifier, label="bad") as recorder:
        outputs = llm.generate([{"prompt_token_ids": it} for it in PROMPTS], params)
        verdicts, table = recorder.verdicts_of(outputs), recorder.table_of(outputs)
    found = [it["probabilities"]["bad"] for it in verdicts]
    np.testing.assert_allclose(found, classifier.probabilities(table.values)[:, 1], atol=1e-6)
    assert all(it["stopped"] is None for it in verdicts)


def test_what_is_refused(llm: Any, classifier: Classifier) -> None:
    with pytest.raises(ConfigurationError, match="a guard needs a classifier"):
        attach_vllm(llm, guard=True)
    with pytest.raises(ConfigurationError, match="no class 'worse'"):
        attach_vllm(llm, classifier=classifier, label="worse").__enter__()
    with pytest.raises(ConfigurationError, match="a classifier says which layers"):
        attach_vllm(llm, classifier=classifier, features="blocks")
    with attach_vllm(llm, classifier=classifier):
        pass  # the refused one has left nothing behind
