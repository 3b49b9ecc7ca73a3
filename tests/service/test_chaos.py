"""The model's thread raises, is slow, or ends: probes say so, and every caller hears it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.app import create_app
from service.engine import EngineLimits
from service.models import ModelCatalog
from service.settings import Settings
from tests.service.fakes import backbone_of, fake_catalog
from tests.service.live import serving

Ask = Callable[[str], httpx.Response]


@pytest.fixture
def catalog() -> Iterator[ModelCatalog]:
    catalog = fake_catalog()
    yield catalog
    backbone_of(catalog.default).gate.open()
    catalog.stop(30)


@pytest.fixture
def ask(catalog: ModelCatalog) -> Iterator[Ask]:
    """Ask a server over `catalog`: a path, or features of a text, each on its own connection."""
    app = create_app(Settings(), load=lambda _settings, _listener: catalog)

    def send(text: str) -> httpx.Response:
        if text.startswith("/"):
            return httpx.get(url + text, timeout=30)
        return httpx.post(f"{url}/v1/features", json={"input": text}, timeout=30)

    with serving(app) as url:
        send("a first text")  # as the warm-up of a real model
        yield send


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def probes(ask: Ask) -> tuple[int, int]:
    return ask("/healthz").status_code, ask("/readyz").status_code


def refused(ask: Ask) -> None:
    """A new request is told at once when to come again."""
    answer = ask("a new text")
    assert code_of(answer) == (503, "not_ready")
    assert int(answer.headers["retry-after"]) > 0
    assert "x-should-retry" not in answer.headers


def test_a_thread_that_ends_costs_one_prompt(ask: Ask) -> None:
    """Forty callers, three of them deadly: nobody else hears of it."""
    texts = [f"DIE {i}" if i % 16 == 5 else f"text {i}" for i in range(40)]
    with ThreadPoolExecutor(40) as pool:
        answers = dict(zip(texts, map(code_of, pool.map(ask, texts)), strict=True))
    for text, answer in answers.items():
        assert answer == ((500, "inference_failed") if text.startswith("DIE") else (200, ""))
    assert probes(ask) == (200, 200)


def test_a_thread_that_ends_for_good(
    ask: Ask, catalog: ModelCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.health.MAX_DEATHS", 1)
    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(ask, "BLOCK DIE")
        backbone_of(catalog.default).gate.wait_until_entered()
        waiting = [pool.submit(ask, f"text {i}") for i in range(7)]
        while catalog.default.engine.queued_inputs < 7:
            pass
        backbone_of(catalog.default).gate.open()
        for answer in (held, *waiting):
            assert code_of(answer.result()) == (503, "not_ready")
            assert answer.result().headers["retry-after"]
    assert probes(ask) == (503, 503)
    refused(ask)


def test_a_model_that_fails_on_everything_is_left_alone_until_it_answers(
    ask: Ask, catalog: ModelCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.worker.RETRY_S", 0.2)
    backbone_of(catalog.default).is_broken = True
    with ThreadPoolExecutor(8) as pool:
        codes = Counter(code_of(one) for one in pool.map(ask, [f"text {i}" for i in range(8)]))
    assert set(codes) <= {(500, "inference_failed"), (503, "not_ready")}
    assert probes(ask) == (200, 503)
    refused(ask)
    backbone_of(catalog.default).is_broken = False
    ends = time.monotonic() + 30
    while ask("/readyz").status_code != 200:
        assert time.monotonic() < ends
    assert ask("a new text").status_code == 200


def test_a_slow_model() -> None:
    """Callers hear of their deadline; new ones are refused, and taken once it is over."""
    catalog = fake_catalog(limits=EngineLimits(batch_wait_s=0, max_wait_s=0.5))
    backbone = backbone_of(catalog.default)
    app = create_app(Settings(request_timeout_s=3), load=lambda _settings, _listener: catalog)
    with serving(app) as url, ThreadPoolExecutor(4) as pool:

        def ask(text: str) -> httpx.Response:
            if text.startswith("/"):
                return httpx.get(url + text, timeout=30)
            return httpx.post(f"{url}/v1/features", json={"input": text}, timeout=30)

        held = pool.submit(ask, "BLOCK")
        backbone.gate.wait_until_entered()
        waiting = [pool.submit(ask, f"text {i}") for i in range(3)]
        ends = time.monotonic() + 30
        while ask("/readyz").status_code == 200:
            assert time.monotonic() < ends
        assert ask("/healthz").status_code == 200  # a new process would be as slow
        refused(ask)
        assert code_of(held.result()) == (504, "deadline_exceeded")
        for answer in waiting:  # some came when it was known already
            told = (504, "deadline_exceeded"), (503, "not_ready")
            assert code_of(answer.result()) in told
        backbone.gate.open()
        while ask("/readyz").status_code != 200:
            assert time.monotonic() < ends
        assert ask("a new text").status_code == 200
    catalog.stop(30)
