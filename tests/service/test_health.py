from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import BatchReport
from service.lifespan import Load
from service.metrics import Metrics
from service.models import ModelCatalog
from service.settings import Settings, load_settings
from splinellm.errors import ModelNotFoundError
from tests.service.fakes import fake_catalog


def app_with(load: Load) -> tuple[FastAPI, TestClient]:
    app = create_app(Settings(), load=load)
    return app, TestClient(app, raise_server_exceptions=False)


def code_of(client: TestClient, path: str) -> tuple[int, str]:
    answer = client.get(path)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def test_while_the_model_loads_only_probes_and_documents_are_answered() -> None:
    may_load, loaded = threading.Event(), threading.Event()

    def load(*_: object) -> ModelCatalog:
        assert may_load.wait(30)
        loaded.set()
        return fake_catalog()

    app, client = app_with(load)
    with client:
        assert code_of(client, "/healthz") == (200, "")
        assert client.get("/docs").status_code == client.get("/metrics").status_code == 200
        for path in ("/readyz", "/v1/models"):
            assert code_of(client, path) == (503, "not_ready")
        refused = client.post("/v1/classify", json={"input": "x"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        may_load.set()
        while code_of(client, "/readyz") != (200, ""):
            assert app.state.lifecycle.failure is None
        assert code_of(client, "/v1/models") == (200, "")


def test_a_model_that_cannot_be_loaded_is_no_life() -> None:
    def load(*_: object) -> ModelCatalog:
        raise ModelNotFoundError("there is none")

    app, client = app_with(load)
    with client:
        while app.state.lifecycle.failure is None:
            pass
        assert code_of(client, "/healthz") == (503, "not_ready")
        assert code_of(client, "/readyz") == (503, "not_ready")


def test_while_it_drains_new_requests_are_refused_and_the_connection_ends(
    client: TestClient,
) -> None:
    client.app.state.lifecycle.drain()  # type: ignore[attr-defined]
    assert code_of(client, "/healthz") == (200, "")
    assert code_of(client, "/readyz") == (503, "shutting_down")
    refused = client.post("/v1/classify", json={"input": "x"})
    assert refused.json()["error"]["code"] == "shutting_down"
    assert refused.headers["connection"] == "close"
    assert refused.headers["retry-after"] == "5"


@pytest.fixture
def counted() -> Iterator[TestClient]:
    """A client whose engine reports to the app's metrics."""
    app, client = app_with(lambda _settings, listener: fake_catalog(listener=listener))
    with client:
        while not app.state.lifecycle.ready:
            assert app.state.lifecycle.failure is None
        yield client


def samples(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


def test_metrics_count_what_happened(counted: TestClient) -> None:
    counted.post("/v1/classify", json={"input": ["toxic a b", "toxic a b", "fine"]})
    counted.post("/features", json={"input": "x"})
    counted.post("/v1/features", json={"input": "POISON"})
    counted.post("/v1/features", json={"input": ""})
    counted.post("/v1/features", json={"input": ["x"] * 300})
    counted.get("/canary-in-a-path")
    found = samples(counted)
    count = "splinellm_requests_total"
    assert found[f'{count}{{code="ok",route="/classify",status="200"}}'] == 1
    assert found[f'{count}{{code="ok",route="/features",status="200"}}'] == 1
    assert found[f'{count}{{code="inference_failed",route="/features",status="500"}}'] == 1
    assert found[f'{count}{{code="not_found",route="unmatched",status="404"}}'] == 1
    assert found['splinellm_rejected_total{reason="batch_too_large"}'] == 1
    assert found['splinellm_failed_inputs_total{code="inference_failed",model="fake"}'] == 1
    assert found['splinellm_retried_batches_total{model="fake"}'] >= 1
    assert found['splinellm_inputs_total{model="fake"}'] == 5
    assert found['splinellm_duplicate_inputs_total{model="fake"}'] == 1
    assert found['splinellm_flagged_inputs_total{classifier="toxicity",label="toxic"}'] == 2
    assert found['splinellm_request_duration_seconds_count{route="/features"}'] == 4
    assert found["splinellm_ready"] == 1
    assert found["splinellm_requests_in_flight"] == 0
    assert any(name.startswith("splinellm_model_info{") for name in found)
    assert "canary" not in "".join(found)


def test_routes_of_requests_that_are_refused_early_are_named() -> None:
    """The router never sees them: while the model loads, and without a key."""
    may_load = threading.Event()

    def load(*_: object) -> ModelCatalog:
        assert may_load.wait(30)
        return fake_catalog()

    app = create_app(load_settings(api_keys="me:k"), load=load)
    with TestClient(app) as client:
        assert code_of(client, "/v1/models") == (503, "not_ready")
        may_load.set()
        while not app.state.lifecycle.ready:
            assert app.state.lifecycle.failure is None
        for path in ("/v1/classify", "/features", "/v1alpha1/comments:analyze", "/v1/canary"):
            assert client.post(path, json={}).status_code == 401
        assert client.get("/v1/models/canary/of/two").status_code == 401
        client.headers["authorization"] = "Bearer k"
        found = samples(client)
    count = "splinellm_requests_total"
    assert found[f'{count}{{code="not_ready",route="/models",status="503"}}'] == 1
    for route in (
        "/classify",
        "/features",
        "/v1alpha1/comments:analyze",
        "/models/{model_id:path}",
        "unmatched",
    ):
        assert found[f'{count}{{code="missing_api_key",route="{route}",status="401"}}'] == 1
    assert "canary" not in "".join(found)


def test_a_batch_becomes_numbers() -> None:
    metrics = Metrics()
    report = BatchReport(
        inputs=4,
        distinct_inputs=3,
        tokens=30,
        padded_tokens=40,
        inference_s=0.2,
        waits_s=(0.1, 0.1, 0.2, 0.2),
        error_codes=("non_finite_features",),
    )
    metrics.batch_done("m", report)
    metrics.dropped("m", 2)
    metrics.rejected("m", "tokens", 9)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"splinellm_{name}", {"model": "m", **labels})

    assert value("queue_wait_seconds_count") == 4
    assert value("queue_wait_seconds_sum") == pytest.approx(0.6)
    assert value("forward_seconds_sum") == pytest.approx(0.2)
    assert value("batch_inputs_sum") == 4
    assert value("batch_tokens_sum") == 40
    assert value("batch_padding_ratio_sum") == pytest.approx(0.25)
    assert value("tokens_total") == 30
    assert value("duplicate_inputs_total") == 1
    assert value("failed_inputs_total", code="non_finite_features") == 1
    assert value("dropped_inputs_total") == 2
    assert value("queue_refused_total", reason="tokens") == 1
