"""The service on Ray Serve: the routes, errors and keys of the plain one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.ray_proxy import CALLBACK, VARIABLE
from splinellm.cli import run
from tests.ray.clusters import cluster

pytest.importorskip("ray.serve", reason="needs ray[serve]", exc_type=ImportError)
KEY = {"authorization": "Bearer correct-horse"}
SERVE = [sys.executable, "-c", "from splinellm.cli import main; main()", "serve"]
START_S = 240


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def start(
    model: str, *options: str, port: int | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    port = port or free_port()
    told = ["--model", model, "--classifiers", "", "--port", str(port), *options]
    environment = {**os.environ, "SPLINELLM_API_KEYS": "alice:correct-horse"}
    server = subprocess.Popen([*SERVE, *told], env=environment)
    url, ends = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    while time.monotonic() < ends and server.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return server, url
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    server.kill()
    raise AssertionError("the service does not become ready")


@pytest.fixture(scope="module")
def urls(model: str) -> Iterator[tuple[str, str]]:
    """Of the plain service and of the one on Ray."""
    servers = [start(model, "--threads", "1")]
    try:
        servers.append(start(model, "--ray"))
        yield servers[0][1], servers[1][1]
    finally:
        for server, _ in servers:
            server.send_signal(signal.SIGTERM)
        codes = [server.wait(120) for server, _ in servers]
    assert codes == [0, 0]


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/v1/features", {"input": ["one two", "three"]}),
        ("POST", "/v1/embeddings", {"input": ["one two"]}),
        ("POST", "/v1/tokenize", {"input": ["one two"]}),
        ("GET", "/v1/models", None),
        ("GET", "/healthz", None),
        ("GET", "/openapi.json", None),
        ("POST", "/v1/features", {"input": []}),
        ("POST", "/v1/features", {"inputs": "one"}),
        ("POST", "/v1/features", {"input": "one", "model": "unknown"}),
        ("GET", "/v1/features", None),
        ("GET", "/nothing", None),
    ],
)
def test_both_answer_alike(
    urls: tuple[str, str], method: str, path: str, sent: dict[str, object] | None
) -> None:
    plain, on_ray = (
        httpx.request(method, url + path, json=sent, headers=KEY, timeout=60) for url in urls
    )
    assert on_ray.status_code == plain.status_code
    assert on_ray.headers["content-type"] == plain.headers["content-type"]
    first, second = plain.json(), on_ray.json()
    for one in (first, second):
        for each in [one, *one.get("data", [])]:
            each.pop("created", None)  # when each of them has loaded the model
    assert second == first


def test_keys_are_asked_for(urls: tuple[str, str]) -> None:
    for headers, code in (({}, "missing_api_key"), ({"x-api-key": "no"}, "invalid_api_key")):
        answers = [
            httpx.post(f"{url}/v1/features", json={"input": "one"}, headers=headers) for url in urls
        ]
        assert [answer.status_code for answer in answers] == [401, 401]
        assert [answer.json()["error"]["code"] for answer in answers] == [code, code]


def test_another_command_takes_over_and_nobody_is_left_without_an_answer(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, CALLBACK)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    heard: Counter[int | str] = Counter()
    done = threading.Event()

    def ask(url: str) -> None:
        while not done.is_set():
            try:
                sent = {"json": {"input": "one two"}, "headers": KEY, "timeout": 60}
                heard[httpx.post(f"{url}/v1/features", **sent).status_code] += 1
            except httpx.TransportError as error:
                heard[type(error).__name__] += 1
            time.sleep(0.02)

    with cluster() as address:
        first, url = start(model, "--ray", address)
        port = httpx.URL(url).port
        client = threading.Thread(target=ask, args=(url,))
        client.start()
        try:
            second = subprocess.Popen(
                [
                    *SERVE,
                    "--model",
                    model,
                    "--classifiers",
                    "",
                    "--port",
                    str(port),
                    "--ray",
                    address,
                ],
                env={**os.environ, "SPLINELLM_API_KEYS": "alice:correct-horse"},
                stderr=subprocess.PIPE,
                text=True,
            )
            assert first.wait(120) == 0  # it has been replaced, and takes nothing with it
            assert second.stderr is not None
            while '"ready"' not in second.stderr.readline():
                assert second.poll() is None
            assert set(heard) == {200}
            third = [*SERVE, "--model", model, "--port", "1", "--ray", address]
            refused = subprocess.run(third, capture_output=True, text=True, check=False)
            assert refused.returncode == 1
            assert f"listens on 127.0.0.1:{port} already, not on" in refused.stderr
            second.send_signal(signal.SIGTERM)
            second.communicate(timeout=120)
            assert second.returncode == 0
        finally:
            done.set()
            client.join()
    assert set(heard) == {200, 503}


def test_a_port_in_use_is_told_in_one_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["serve", "--model", model, "--port", port, "--ray"]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot listen on 127.0.0.1:{port}" in line


def test_an_unknown_cluster_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert run(["serve", "--ray", address]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"nothing answers at '{address}'" in line
