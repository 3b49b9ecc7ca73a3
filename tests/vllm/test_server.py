"""Verdicts and features of what vLLM's server answers, asked by the stock client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm import SplineExtractor
from splinellm.learn.classifier import Classifier
from tests.live.models import extractor_of
from tests.tiny import random_prompts
from tests.vllm.models import guarded_in_transformers, load_tiny, made_up_classifier

pytest.importorskip("vllm", reason="vllm is not installed: make vllm")

from tests.vllm.server import Server, serving

N_REQUESTS, N_CLIENTS = 200, 16


@pytest.fixture(scope="module")
def extractor(tiny_folder: Path) -> SplineExtractor:
    return extractor_of(load_tiny(tiny_folder), "blocks:24")


@pytest.fixture(scope="module")
def classifier(extractor: SplineExtractor) -> Classifier:
    return made_up_classifier(extractor)


@pytest.fixture(scope="module")
def server(
    tiny_folder: Path, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("server")
    classifier.save(scratch / "made-up")
    settings = {
        "classifier": str(scratch / "made-up"),
        "guard": True,
        "threshold": 0.6,
        "label": "bad",
        "every": 3,
    }
    with serving(tiny_folder, scratch, settings) as server:
        yield server


class Answer:
    """What a client was told of one request, however it asked."""

    def __init__(self, server: Server, number: int) -> None:
        random = np.random.default_rng(number)
        client = server.client()
        self.is_chat, self.is_streamed = bool(number % 2), bool(number // 2 % 2)
        settings: dict[str, Any] = {
            "model": "tiny",
            "max_tokens": int(random.integers(1, 24)),
            "temperature": 0,
            "stream": self.is_streamed,
            "extra_body": {"return_token_ids": True},
        }
        if self.is_chat:
            text = " ".join(map(str, random.integers(0, 1000, random.integers(1, 30)).tolist()))
            messages: Any = [{"role": "user", "content": text}]
            raw: Any = client.chat.completions.with_raw_response
            response = raw.create(messages=messages, **settings)
        else:
            (prompt,) = random_prompts(int(random.integers(1, 120)), seed=number)
            raw = client.completions.with_raw_response
            response = raw.create(prompt=prompt, **settings)
        self.header = response.headers.get("x-splinellm-verdict")
        answer = response.parse()
        self.prompt: list[int] = []
        self.written: list[int] = []
        self.verdicts: list[dict[str, Any]] = []
        self.stop_reason: Any = None
        for part in answer if self.is_streamed else [answer]:
            self.id = part.id
            self._read(part)
        (self.verdict,) = self.verdicts

    def _read(self, part: Any) -> None:
        for choice in part.choices:
            prompt = getattr(choice, "prompt_token_ids", None)
            self.prompt = prompt or getattr(part, "prompt_token_ids", None) or self.prompt
            self.written += getattr(choice, "token_ids", None) or []
            if choice.finish_reason is not None:
                self.verdicts.append(choice.splinellm)
                self.stop_reason = choice.stop_reason

    @property
    def ids_read(self) -> list[int]:
        """All but the last, which no model reads."""
        return [*self.prompt, *self.written][:-1]


def test_two_hundred_requests_by_sixteen_clients(
    server: Server, extractor: SplineExtractor, classifier: Classifier
) -> None:
    with ThreadPoolExecutor(N_CLIENTS) as clients:
        answers = list(clients.map(lambda it: Answer(server, it), range(N_REQUESTS)))
    expected = extractor.extract([it.ids_read for it in answers])
    probabilities = classifier.probabilities(expected.values)[:, 1]
    assert np.ptp(probabilities) > 0.5  # or anybody's numbers would do
    assert 0 < sum(it.verdict["stopped"] is not None for it in answers) < N_REQUESTS
    for row, (answer, probability) in enumerate(zip(answers, probabilities, strict=True)):
        verdict = answer.verdict
        assert verdict["n_tokens"] == len(answer.ids_read)
        assert verdict["n_prompt_tokens"] == len(answer.prompt)
        assert verdict["probabilities"]["bad"] == pytest.approx(probability, abs=1e-5)
        assert verdict["label"] == ("bad" if verdict["probabilities"]["bad"] >= 0.6 else "ok")
        label = verdict["label"]
        if answer.is_streamed:
            assert answer.header is None
        else:
            assert answer.header == f'"{label}";p={verdict["probabilities"][label]:.3f}'
        if verdict["stopped"] is not None:
            assert answer.stop_reason.startswith("splinellm guard: probability 0.")
        (found,) = server.geometry(answer.id).json()["data"]
        np.testing.assert_allclose(np.ravel(found["values"]), expected.values[row], atol=2e-6)
        assert found["verdict"] == verdict
        assert found["n_tokens"] == len(answer.ids_read)


def test_the_features_of_prompt_and_answer(server: Server, extractor: SplineExtractor) -> None:
    answer = next(it for it in (Answer(server, n) for n in (4, 8, 12)) if len(it.written) > 3)
    told = server.geometry(answer.id, "prompt").json()
    np.testing.assert_allclose(
        np.ravel(told["data"][0]["values"]), extractor.extract([answer.prompt]).values[0], atol=2e-6
    )
    assert told["layers"] == [0, 1, 2]
    assert len(told["feature_names"]) == 24
    assert told["id"] == answer.id
    assert told["data"][0]["n_tokens"] == len(answer.prompt)
    (of_answer,) = server.geometry(answer.id, "answer").json()["data"]
    tokens = extractor.extract([answer.ids_read], granularity="token").values[len(answer.prompt) :]
    np.testing.assert_allclose(np.ravel(of_answer["values"]), tokens.mean(axis=0), atol=2e-6)


def test_each_choice_has_its_own(
    server: Server, extractor: SplineExtractor, classifier: Classifier
) -> None:
    prompts = random_prompts(20, 7, 40, seed=3)
    settings: dict[str, Any] = {
        "model": "tiny",
        "prompt": prompts,
        "n": 2,
        "max_tokens": 9,
        "temperature": 1.0,
        "extra_body": {"return_token_ids": True},
    }
    client = server.client()
    answer: Any = client.completions.create(**settings)
    written: dict[int, list[int]] = {it.index: it.token_ids for it in answer.choices}
    verdicts = {it.index: it.splinellm for it in answer.choices}
    check_choices(prompts, written, verdicts, extractor, classifier)
    written, verdicts = {}, {}
    for part in client.completions.create(**settings, stream=True):
        for choice in part.choices:
            extra: Any = choice
            written.setdefault(choice.index, []).extend(extra.token_ids)
            if choice.finish_reason is not None:
                verdicts[choice.index] = extra.splinellm
    check_choices(prompts, written, verdicts, extractor, classifier)
    rows = server.geometry(part.id).json()["data"]
    places = [(it["prompt"], it["choice"]) for it in rows]
    assert places == [(prompt, choice) for prompt in range(3) for choice in range(2)]
    assert [it["verdict"] for it in rows] == [verdicts[index] for index in range(6)]


def check_choices(
    prompts: list[list[int]],
    written: dict[int, list[int]],
    verdicts: dict[int, dict[str, Any]],
    extractor: SplineExtractor,
    classifier: Classifier,
) -> None:
    """Two choices of every prompt, each with what is said of its own tokens."""
    texts = [[*prompts[index // 2], *written[index]][:-1] for index in range(6)]
    assert len({*map(tuple, texts)}) >= 4  # the guard may end both at once
    wanted = classifier.probabilities(extractor.extract(texts).values)[:, 1]
    found = [verdicts[index]["probabilities"]["bad"] for index in range(6)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_requests_of_the_same_name_are_not_mixed_up(
    server: Server, extractor: SplineExtractor, classifier: Classifier
) -> None:
    prompts = random_prompts(9, 30, 61, 17, seed=8)

    def ask(prompt: list[int]) -> Any:
        return server.client().completions.create(
            model="tiny",
            prompt=prompt,
            max_tokens=6,
            temperature=0,
            extra_headers={"X-Request-Id": "not-unique"},
            extra_body={"return_token_ids": True},
        )

    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(ask, prompts))
    choices = [it.choices[0] for it in answers]
    texts = [[*one, *it.token_ids][:-1] for one, it in zip(prompts, choices, strict=True)]
    wanted = classifier.probabilities(extractor.extract(texts).values)[:, 1]
    found = [it.splinellm["probabilities"]["bad"] for it in choices]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    refused = server.geometry("cmpl-not-unique")
    assert refused.status_code == 422
    assert "4 requests have the id" in refused.json()["error"]["message"]


def test_a_guard_ends_where_the_one_for_transformers_does(
    server: Server, tiny_folder: Path, classifier: Classifier
) -> None:
    prompts = random_prompts(*range(3, 15), seed=11)
    expected = guarded_in_transformers(tiny_folder, classifier, prompts, 40)
    stops = expected["stops"]
    assert 0 < sum(it is not None for it in stops) < len(prompts)
    answer: Any = server.client().completions.create(
        model="tiny",
        prompt=prompts,
        max_tokens=40,
        temperature=0,
        extra_body={"return_token_ids": True},
    )
    for choice, stop, written in zip(answer.choices, stops, expected["tokens"], strict=True):
        if stop is None:
            assert choice.splinellm["stopped"] is None
            assert choice.token_ids == written
            continue
        assert len(choice.token_ids) == len(written)
        assert choice.token_ids[:-1] == written[:-1]  # in place of the last stands the end
        assert choice.splinellm["stopped"]["n_generated"] == stop.n_generated
        assert choice.finish_reason == "stop"
        assert choice.stop_reason.startswith("splinellm guard: probability 0.")


def test_what_is_refused(server: Server) -> None:
    unknown = server.geometry("cmpl-nobody")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "nothing_recorded"
    answer = Answer(server, 0)
    assert server.geometry(answer.id, key="wrong").status_code == 401
    refused = server.geometry(answer.id, "user")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_configuration"
    short = server.client().completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=1)
    refused = server.geometry(short.id, "answer")
    assert refused.status_code == 422
    assert "none of these tokens was read" in refused.json()["error"]["message"]
