"""Keys, rates, ids, headers and limits, as a client sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import RateLimitError
from service.middleware.access import TokenBucket
from service.models import ModelCatalog
from service.settings import load_settings

KEYS = "alice:correct-horse,bob:pässword"
PERSPECTIVE = "/v1alpha1/comments:analyze"
COMMENT = {"comment": {"text": "x"}, "requestedAttributes": {"TOXICITY": {}}}


def started(catalog: ModelCatalog, **options: Any) -> Iterator[TestClient]:
    app = create_app(load_settings(**options), load=lambda _settings, _listener: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        yield client


@pytest.fixture
def guarded(catalog: ModelCatalog) -> Iterator[TestClient]:
    yield from started(catalog, api_keys=KEYS)


def authorization(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


PAGES = ["/", "/docs", "/openapi.json", "/static/swagger-ui.css", "/static/swagger-ui-bundle.js"]


@pytest.mark.parametrize("public_pages", [True, False])
def test_keys_are_asked_for_on_every_route_but_health_and_public_pages(
    catalog: ModelCatalog, public_pages: bool
) -> None:
    for client in started(catalog, api_keys=KEYS, public_pages=public_pages):
        for path in PAGES:
            assert client.get(path).status_code == (200 if public_pages else 401), path
            assert client.get(path, headers=authorization("pässword")).status_code == 200
        require_keys(client)


def require_keys(guarded: TestClient) -> None:
    paths = guarded.get("/openapi.json", headers=authorization("correct-horse")).json()["paths"]
    assert len(paths) > 10
    for path in [*paths, "/features", "/no-such-path", "/docs/", "/static", "/x/docs"]:
        answer = guarded.get(path)
        if path in ("/healthz", "/readyz"):
            assert answer.status_code == 200
            continue
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == 'Bearer realm="splinellm"'
        body = answer.json()["error"]
        reason = body["details"][0]["reason"] if path == PERSPECTIVE else body["code"]
        assert reason == "missing_api_key"
        assert ("?key=" in body["message"]) == (path == PERSPECTIVE)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (authorization("correct-horse"), 200),
        ({b"authorization": b"bearer   correct-horse "}, 200),
        (authorization("pässword"), 200),
        ({b"x-api-key": b"correct-horse"}, 200),
        (authorization("correct-horses"), 401),
        (authorization("correct-hors"), 401),
        (authorization(""), 401),
        ({b"authorization": b"Basic correct-horse"}, 401),
        ({b"authorization": b"Bearer \xff\xfe\x80"}, 401),
        ({b"authorization": b"\xe2\x98\x83"}, 401),
        ({b"x-api-key": b"\xff"}, 401),
    ],
)
def test_keys_are_compared_as_bytes(
    guarded: TestClient, headers: dict[bytes, bytes], status: int
) -> None:
    assert guarded.get("/v1/models", headers=headers).status_code == status
    assert guarded.get("/metrics", headers=headers).status_code == status


def test_a_key_in_the_query_is_for_perspective_only(guarded: TestClient) -> None:
    query = {"key": "pässword"}
    assert guarded.post(PERSPECTIVE, params=query, json=COMMENT).status_code == 200
    assert guarded.post(PERSPECTIVE, params={"key": "wrong"}, json=COMMENT).status_code == 401
    assert guarded.post(f"{PERSPECTIVE}?key=%ff%fe", json=COMMENT).status_code == 401
    assert guarded.get("/v1/models", params=query).status_code == 401


def test_each_key_has_its_own_rate(catalog: ModelCatalog) -> None:
    for client in started(catalog, api_keys=KEYS, rate_limit_per_minute=1):
        alice, bob = authorization("correct-horse"), authorization("pässword")
        assert client.get("/v1/models", headers=alice).status_code == 200
        refused = client.get("/v1/models", headers=alice)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert client.get("/v1/models", headers=bob).status_code == 200
        assert client.get("/healthz", headers=alice).status_code == 200


def test_a_bucket_fills_steadily_and_not_beyond_its_size() -> None:
    now = 0.0
    bucket = TokenBucket(2, lambda: now)
    for at_s, retry_after_s in [(0, None), (0, None), (10, 20), (31, None), (32, 28)]:
        now = at_s
        if retry_after_s is None:
            bucket.take()
        else:
            with pytest.raises(RateLimitError) as caught:
                bucket.take()
            assert caught.value.retry_after_s == pytest.approx(retry_after_s)
    now = 3600
    bucket.take()
    bucket.take()
    with pytest.raises(RateLimitError):
        bucket.take()


@pytest.mark.parametrize("given", ["abc-1.2_X", "a" * 64])
def test_a_harmless_request_id_comes_back(client: TestClient, given: str) -> None:
    for path in ("/v1/models", "/no-such-path"):
        answer = client.get(path, headers={"x-request-id": given})
        assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [b"", b"a" * 65, b"a b", b"a\xff", b'{"a":1}', "é".encode()])
def test_any_other_request_id_is_replaced(client: TestClient, given: bytes) -> None:
    answers = [client.get("/v1/models", headers={b"x-request-id": given}) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids[0] != ids[1]
    assert all(one.isalnum() and len(one) == 32 for one in ids)


def test_timing_headers(client: TestClient) -> None:
    headers = client.post("/v1/classify", json={"input": ["one two", "three"]}).headers
    assert headers["x-tokens"] == "3"
    parts = [float(headers[f"x-{name}-ms"]) for name in ("queue", "inference", "total")]
    assert parts[1] > 0
    assert parts[0] + parts[1] <= parts[2] + 0.2  # each is rounded


def test_security_headers_are_on_every_answer(client: TestClient) -> None:
    for path in ("/healthz", "/v1/models", "/no-such-path", "/", "/docs", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_other_origins_are_refused_by_default(client: TestClient) -> None:
    headers = {"origin": "https://example.org", "access-control-request-method": "POST"}
    assert client.options("/v1/features", headers=headers).status_code == 405
    answer = client.get("/v1/models", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


def test_an_allowed_origin_sees_errors_too(catalog: ModelCatalog) -> None:
    for client in started(catalog, cors_origins="https://example.org", api_keys="alice:k"):
        headers = {"origin": "https://example.org", "access-control-request-method": "POST"}
        assert client.options("/v1/features", headers=headers).status_code == 200  # has no key
        for path, key, status in (("/v1/models", "k", 200), ("/v1/models", "x", 401)):
            answer = client.get(path, headers=headers | {"x-api-key": key})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "https://example.org"
        elsewhere = client.get("/v1/models", headers={"origin": "https://other.org"})
        assert "access-control-allow-origin" not in elsewhere.headers


def test_the_body_limit_is_exact_with_and_without_a_length(client: TestClient) -> None:
    limit = client.app.state.settings.payload_limit  # type: ignore[attr-defined]
    content = json.dumps({"input": "x"}).encode()
    for size, status in ((limit, 200), (limit + 1, 413)):
        body = content + b" " * (size - len(content))
        for given in (body, iter([body[:1000], body[1000:]])):
            answer = client.post(
                "/v1/classify", content=given, headers={"content-type": "application/json"}
            )
            assert answer.status_code == status


@pytest.mark.parametrize("length", ["-1", "x", "1" * 5000, "²"])
def test_strange_lengths_do_no_harm(client: TestClient, length: str) -> None:
    headers = {"content-type": "application/json", "content-length": length.encode()}
    answer = client.post("/v1/classify", content=b"{}", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code in (400, 413)


def test_unknown_paths_and_methods_are_in_the_one_shape(client: TestClient) -> None:
    for method, path, status, code in [
        ("GET", "/secret", 404, "not_found"),
        ("GET", "/v1/features/", 404, "not_found"),
        ("DELETE", "/v1/features", 405, "method_not_allowed"),
        ("SECRET", "/v1/features", 405, "method_not_allowed"),
        ("GET", "/%ff%00", 404, "not_found"),
    ]:
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert "secret" not in answer.text.lower()
    assert client.delete("/v1/features").headers["allow"] == "POST"
