"""HEAD, OPTIONS and Allow, as load balancers and people with curl expect them."""

from __future__ import annotations

import httpx2
import pytest
from starlette.testclient import TestClient

from service.logs import configure_logging
from tests.service.wire import wired

PATHS = [
    *("/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json"),
    *("/v1/models", "/models", "/v1/models/fake", "/v1/classifiers", "/v1/classifiers/toxicity"),
]
LENGTHS_DIFFER = ("/metrics",)
"""Their content is another every time."""


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_a_body(client: TestClient, path: str) -> None:
    got, asked = client.get(path), client.head(path)
    assert asked.status_code == got.status_code == 200
    assert asked.content == b""
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert asked.headers["x-request-id"]
    if path not in LENGTHS_DIFFER:
        assert asked.headers["content-length"] == str(len(got.content))


def test_over_the_wire_nothing_follows_the_headers() -> None:
    """So that the next answer on the connection is where it should be."""
    with wired() as wire, httpx2.Client(base_url=wire.url) as client:
        for path, status in [*((path, 200) for path in PATHS), ("/no", 404), ("/v1/features", 405)]:
            answer = client.head(path)
            assert (answer.status_code, answer.content) == (status, b"")
            assert client.get("/healthz").json() == {"status": "ok"}
        lines = client.get("/metrics").text
        assert 'code="ok",route="/models/{model_id:path}",status="200"' in lines


def test_head_says_that_the_service_is_not_ready(client: TestClient) -> None:
    client.app.state.lifecycle.drain()  # type: ignore[attr-defined]
    assert client.head("/readyz").status_code == 503
    assert client.head("/healthz").status_code == 200
    assert client.head("/v1/models").status_code == 503


def test_the_log_tells_head_from_get(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info")
    client.head("/v1/models")
    line = capsys.readouterr().err
    assert '"method":"HEAD","route":"/models","status":200' in line


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/models", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/v1/classify", "POST"),
        ("/v1alpha1/comments:analyze", "POST"),
    ],
)
def test_allow_lists_the_methods(client: TestClient, path: str, allowed: str) -> None:
    for method in ("OPTIONS", "PUT", "DELETE", "TRACE", "GET" if allowed == "POST" else "POST"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    if allowed == "POST":
        answer = client.head(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/v1/classify/", "//v1/classify", "/v1//classify", "//"])
def test_slashes_too_many_are_pointed_out(client: TestClient, path: str) -> None:
    answer = client.post(f"http://testserver{path}", json={"input": "x"})
    assert answer.status_code == 404
    assert "slashes" in answer.json()["error"]["message"]


def test_what_is_not_called_json_is_told_how_to_be(client: TestClient) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        answer = client.post(
            "/v1/classify", content=b'{"input": "x"}', headers={"content-type": kind}
        )
        assert answer.status_code == 400
        assert "content-type: application/json" in answer.json()["error"]["message"]
