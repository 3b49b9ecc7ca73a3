"""Nobody computes for who is no longer there, or has waited long enough."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from service.app import create_app
from service.models import ModelCatalog
from service.settings import Settings
from tests.service.fakes import backbone_of, fake_catalog, token_of
from tests.service.live import serving

TIMEOUT_S = 30
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/features", {"input": ["nobody waits", "for this"]}),
    ("/v1/features", {"input": "nobody waits", "granularity": "token"}),
    ("/v1/classify", {"input": "nobody waits"}),
    ("/v1/embeddings", {"input": "nobody waits"}),
    ("/v1/moderations", {"input": "nobody waits"}),
    (
        "/v1alpha1/comments:analyze",
        {"comment": {"text": "nobody waits"}, "requestedAttributes": {"TOXICITY": {}}},
    ),
]


class Blocked:
    """A service whose engine is held by a request, so that all others wait."""

    def __init__(self, url: str, catalog: ModelCatalog) -> None:
        self.url = url
        self.engine = catalog.default.engine
        self.backbone = backbone_of(catalog.default)

    def connect(self, path: str, body: dict[str, Any]) -> socket.socket:
        """Send a request and wait for nothing."""
        content = json.dumps(body).encode()
        address = urlsplit(self.url)
        assert address.hostname is not None
        assert address.port is not None
        connection = socket.create_connection((address.hostname, address.port), TIMEOUT_S)
        connection.sendall(
            b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (path.encode(), len(content), content)
        )
        return connection

    def metric(self, line: str) -> bool:
        return f"splinellm_{line}\n" in httpx2.get(f"{self.url}/metrics").text

    @property
    def read(self) -> set[int]:
        """Every token that the model has seen."""
        return {token for batch in self.backbone.seen for ids in batch for token in ids}


def until(is_so: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.005)


def blocked(**settings: Any) -> Iterator[Blocked]:
    catalogs: list[ModelCatalog] = []

    def load(_: Settings, listener: Any) -> ModelCatalog:
        catalogs.append(fake_catalog(listener=listener))
        return catalogs[0]

    with serving(create_app(Settings(**settings), load=load)) as url:
        service = Blocked(url, catalogs[0])
        with service.connect("/v1/features", {"input": "BLOCK"}):
            service.backbone.gate.wait_until_entered()
            try:
                yield service
            finally:
                service.backbone.gate.open()
    assert catalogs[0].stop(TIMEOUT_S)


@pytest.fixture
def patient() -> Iterator[Blocked]:
    yield from blocked()


@pytest.fixture
def hasty() -> Iterator[Blocked]:
    yield from blocked(request_timeout_s=0.2)


def check_that_others_are_answered(service: Blocked) -> None:
    """And that what was dropped has never come to the model."""
    service.backbone.gate.open()
    answer = httpx2.post(f"{service.url}/v1/features", json={"input": "fine"}, timeout=TIMEOUT_S)
    assert answer.status_code == 200
    assert service.read == {token_of("BLOCK"), token_of("fine")}


def test_who_closes_the_connection_is_not_computed_for(patient: Blocked) -> None:
    for n_gone, (path, body) in enumerate(ROUTES, 1):
        with patient.connect(path, body):
            until(lambda: patient.engine.queued_inputs > 0)
        until(lambda: patient.engine.queued_inputs == 0)
        assert patient.engine.queued_tokens == 0
        template = path.removeprefix("/v1") if path.startswith("/v1/") else path
        labels = f'code="client_closed_request",route="{template}",status="499"'
        n = sum(route == path for route, _ in ROUTES[:n_gone])
        until(lambda line=f"requests_total{{{labels}}} {n}.0": patient.metric(line))  # type: ignore[misc]
    n_inputs = 1 + len(ROUTES)
    until(lambda: patient.metric(f'dropped_inputs_total{{model="fake"}} {n_inputs}.0'))
    check_that_others_are_answered(patient)


def test_what_is_not_ready_in_time_is_not_computed(hasty: Blocked) -> None:
    for path, body in ROUTES:
        answer = httpx2.post(hasty.url + path, json=body, timeout=TIMEOUT_S)
        assert answer.status_code == 504
        assert "deadline_exceeded" in answer.text
        assert "x-should-retry" not in answer.headers
        until(lambda: hasty.engine.queued_inputs == 0)
    n_inputs = 1 + len(ROUTES)
    until(lambda: hasty.metric(f'dropped_inputs_total{{model="fake"}} {n_inputs}.0'))
    check_that_others_are_answered(hasty)
