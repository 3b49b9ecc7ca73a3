"""The OpenAPI document and the service agree, as schemathesis sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import N_LAYERS, N_VOCABULARY, fake_catalog
from tests.service.live import serving

ROOT = Path(__file__).parent.parent.parent
KEY = "a key"
MAX_CHARS = 200
MAX_INPUTS = 6
EXAMPLES = 8
"""Random requests for each route, besides those that cover the document's limits."""

CONFIGURATION = """
[checks.negative_data_rejection]
# 413: too many inputs in one request.
expected-statuses = ["400", "401", "404", "405", "413"]

[phases.coverage]
unexpected-methods = ["DELETE", "TRACE"]
"""
"""Narrower than the defaults, but for 413."""

V1_ROUTES = {
    ("POST", "/features"),
    ("POST", "/classify"),
    ("POST", "/embeddings"),
    ("POST", "/moderations"),
    ("POST", "/tokenize"),
    ("POST", "/inspect"),
    ("GET", "/models"),
    ("GET", "/models/fake"),
    ("GET", "/classifiers"),
    ("GET", "/classifiers/toxicity"),
}
OTHER_ROUTES = {
    ("POST", "/v1alpha1/comments:analyze"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A live service with small limits, so that the document's limits are reached."""
    catalog = fake_catalog()
    limits = Settings(
        api_keys={"tests": SecretStr(KEY)},
        max_input_chars=MAX_CHARS,
        max_client_batch_size=MAX_INPUTS,
    )
    with serving(create_app(limits, load=lambda *_: catalog)) as url:
        yield url
    assert catalog.stop(30)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def test_the_service_is_as_documented(url: str, tmp_path: Path) -> None:
    """All checks: no 5xx, nothing undocumented, valid requests accepted, all others refused."""
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
        *("run", f"{url}/openapi.json"),
        *("--checks", "all", "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(EXAMPLES), "--generation-deterministic"),
        *("--header", f"Authorization: Bearer {KEY}", "--no-color"),
    ]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.service.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
        "N_LAYERS": str(N_LAYERS),
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Tested: {len(V1_ROUTES) + 4}" in done.stdout


def test_all_routes_are_there_with_and_without_version(client: httpx2.Client) -> None:
    """A route that is there answers whatever it is sent with something else than 404 or 405."""
    paths = [(method, prefix + path) for method, path in V1_ROUTES for prefix in ("/v1", "")]
    for method, path in [*paths, *OTHER_ROUTES]:
        status = client.request(method, path).status_code
        assert status == (400 if method == "POST" else 200), (method, path)


def test_the_document_lists_each_route_once(client: httpx2.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    documented = {(m.upper(), path) for path, methods in paths.items() for m in methods}
    wanted = {
        (method, "/v1" + re.sub(r"/(model|classifier)s/\w+$", r"/\1s/{\1_id}", path))
        for method, path in V1_ROUTES
    }
    others = {route for route in OTHER_ROUTES if route[1] not in ("/", "/docs", "/openapi.json")}
    assert documented == wanted | others


def test_limits_are_in_the_document(client: httpx2.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    text, batch, ids, *_ = schemas["FeaturesRequest"]["properties"]["input"]["anyOf"]
    assert text["maxLength"] == MAX_CHARS
    assert batch["maxItems"] == MAX_INPUTS
    assert ids["items"]["maximum"] == N_VOCABULARY - 1
    vectors = schemas["EmbeddingsRequest"]["properties"]["input"]["anyOf"]
    assert vectors[1]["maxItems"] == 2048
    names = schemas["FeaturesRequest"]["properties"]["model"]["anyOf"][0]["enum"]
    assert names == ["fake"]


def test_the_document_can_be_had_before_the_model_is_loaded() -> None:
    app = create_app(Settings(), load=lambda *_: fake_catalog())
    with_limits = app.openapi()["components"]["schemas"]["FeaturesRequest"]
    assert app.openapi_schema is None  # else it would lack the model's limits for ever
    assert with_limits["properties"]["input"]["anyOf"][0]["maxLength"] == 65_536
