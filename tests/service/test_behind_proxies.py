"""Below a path, and behind who says for whom it asks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from service.app import create_app
from service.models import ModelCatalog
from service.settings import Settings, load_settings
from splinellm.errors import ConfigurationError

NGINX = Path(__file__).parents[2] / "deploy" / "nginx.conf"
PREFIX = "/ai/spline-1.0"


def started(
    catalog: ModelCatalog, *, client: tuple[str, int] = ("192.0.2.7", 1), **options: Any
) -> Iterator[TestClient]:
    app = create_app(load_settings(**options), load=lambda _settings, _listener: catalog)
    with TestClient(app, raise_server_exceptions=False, client=client) as caller:
        while caller.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        yield caller


def links(text: str) -> list[str]:
    """Addresses that a browser would go to from /docs."""
    found = re.findall(r"""(?:src|href|url)(?:=|: )["']([^"']+)["']""", text)
    return [one for one in found if not one.startswith("data:")]


@pytest.mark.parametrize("by", ["setting", "header", "both", "two headers"])
@pytest.mark.parametrize("taken_off", [True, False])
def test_pages_work_below_a_prefix(catalog: ModelCatalog, by: str, taken_off: bool) -> None:
    root = {"root_path": PREFIX + "/"} if by in ("setting", "both") else {}
    given = {"header": PREFIX, "both": "/other", "two headers": "/ai, /spline-1.0/"}.get(by)
    headers = {} if given is None else {"x-forwarded-prefix": given}
    for client in started(catalog, **root):

        def get(address: str, client: TestClient = client) -> Any:
            """As the proxy passes on what a browser asks it for."""
            assert address.startswith(PREFIX)
            path = address.removeprefix(PREFIX) or "/"
            return client.get(path if taken_off else address, headers=headers)

        page = get(f"{PREFIX}/")
        assert f'<base href="{PREFIX}/">' in page.text
        assert "base-uri 'self'" in page.headers["content-security-policy"]
        assert get(PREFIX).text == page.text
        docs = get(f"{PREFIX}/docs")
        found = [urljoin(f"{PREFIX}/docs", one) for one in links(docs.text)]
        assert len(found) == 3
        for address in found:
            assert get(address).status_code == 200, address
        document = get(f"{PREFIX}/openapi.json").json()
        assert document["servers"] == [{"url": PREFIX}]
        assert get(f"{PREFIX}/v1/models").status_code == 200
        assert get(f"{PREFIX}/healthz").status_code == 200


def test_without_a_prefix_links_are_relative(client: TestClient) -> None:
    """So that they are right below one that nobody has told of."""
    docs = client.get("/docs").text
    assert {urljoin("/unknown/docs", one).split("?")[0] for one in links(docs)} == {
        "/unknown/openapi.json",
        "/unknown/static/swagger-ui-bundle.js",
        "/unknown/static/swagger-ui.css",
    }
    assert "servers" not in client.get("/openapi.json").json()
    assert "<base" not in client.get("/").text


@pytest.mark.parametrize(
    "given", ["//evil.example", "/a/../b", '/"><script>', "https://x", "a", "/a b", "/" + "a" * 65]
)
def test_a_prefix_that_is_none_is_no_prefix(client: TestClient, given: str) -> None:
    for path in ("/", "/docs"):
        answer = client.get(path, headers={"x-forwarded-prefix": given})
        assert answer.text == client.get(path).text
    assert (
        "servers" not in client.get("/openapi.json", headers={"x-forwarded-prefix": given}).json()
    )
    if given != "a":
        with pytest.raises(ConfigurationError, match="root_path: is not a path"):
            load_settings(root_path=given)


def test_the_setting_may_be_a_path_that_exists(catalog: ModelCatalog) -> None:
    for client in started(catalog, root_path="/v1"):
        assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/v1/models").status_code == 200
        assert client.get("/v12").status_code == 404


def test_it_can_be_mounted(catalog: ModelCatalog) -> None:
    app = create_app(Settings(), load=lambda _settings, _listener: catalog)
    outer = Starlette(routes=[Mount("/inner", app)])
    with TestClient(app) as own, TestClient(outer) as client:
        while own.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        assert client.get("/inner/v1/models").status_code == 200
        assert "/inner/openapi.json" in client.get("/inner/docs").text
        assert client.get("/inner/healthz").status_code == 200


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "logged"),
    [
        ("", "192.0.2.7", None, "192.0.2.7"),
        ("", "192.0.2.7", "203.0.113.9", "192.0.2.7"),
        ("10.0.0.0/8", "192.0.2.7", "203.0.113.9", "192.0.2.7"),
        ("10.0.0.0/8,127.0.0.1", "10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.1.2.3", "6.6.6.6, 203.0.113.9, 10.9.9.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.1.2.3", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.0/8", "10.1.2.3", "a secret, you idiot", None),
        ("*", "192.0.2.7", "203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_log_has_the_client_and_not_what_a_stranger_says(
    catalog: ModelCatalog,
    capsys: pytest.CaptureFixture[str],
    trusted: str,
    peer: str,
    forwarded: str | None,
    logged: str | None,
) -> None:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    for client in started(catalog, client=(peer, 5), trusted_proxies=trusted):
        capsys.readouterr()
        assert client.get("/v1/models", headers=headers).status_code == 200
    (line,) = [one for one in capsys.readouterr().err.splitlines() if '"request"' in one]
    assert json.loads(line).get("client") == logged
    assert "idiot" not in line


def test_what_is_no_address_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies: a proxy is neither"):
        load_settings(trusted_proxies="127.0.0.1,proxy.local")


def test_the_example_of_a_proxy_agrees_with_the_defaults() -> None:
    text, settings = NGINX.read_text(), Settings()
    ((size, unit),) = re.findall(r"client_max_body_size (\d+)(k|m);", text)
    assert int(size) * {"k": 1 << 10, "m": 1 << 20}[unit] >= settings.payload_limit
    (timeout_s,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(timeout_s) > settings.request_timeout_s
    (idle_s,) = re.findall(r"keepalive_timeout (\d+)s;  # upstream", text)
    assert int(idle_s) < 75  # who closes last never loses a request
    assert "proxy_buffering off;" in text
    assert "proxy_request_buffering off;" in text  # a stream sends and receives by turns
    for header in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Request-Id"):
        assert re.search(rf"proxy_set_header {header}\s", text, re.IGNORECASE), header
    (log,) = re.findall(r"log_format \w+ (.*?);\n", text, re.DOTALL)
    assert not re.search(r"\$(request|request_uri|args|query_string|http_\w+|arg_\w+)\b", log)
