"""`splinellm serve` as a process: its end, its exit codes, its one-line errors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service import server
from service.models import ModelCatalog
from splinellm.cli import run
from splinellm.errors import ModelLoadError
from tests.service.fakes import fake_catalog

FAKE_MAIN = """
import sys, threading
from service import server
from splinellm import cli
from tests.service.fakes import backbone_of, fake_catalog

def load(settings, listener):
    catalog = fake_catalog(listener=listener)
    # A line on standard input opens the gate that the word BLOCK waits at.
    def open_gate():
        sys.stdin.readline()
        backbone_of(catalog.default).gate.open()
    threading.Thread(target=open_gate, daemon=True).start()
    return catalog

server.load_models = load
cli.main()
"""
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


class Service:
    """A process that serves the fake model; `events` are the lines of its log."""

    def __init__(self, *options: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SPLINELLM_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", FAKE_MAIN, "serve", "--port", "0", *options],
            env=environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self.other_lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                if line.startswith("{"):
                    self.events.append(json.loads(line))
                else:
                    self.other_lines.append(line)
                self._changed.notify_all()

    def wait_for(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(is_it, self.events)), TIMEOUT_S)
            return next(filter(is_it, self.events))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.wait_for(lambda e: e['event'] == 'listening')['port']}"

    def wait_until_ready(self) -> None:
        self.wait_for(lambda e: e["event"] == "ready")

    def open_gate(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        code = self.process.wait(TIMEOUT_S)
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start_one(*options: str) -> Service:
        started.append(Service(*options))
        return started[-1]

    yield start_one
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
            service.end()


def ask(service: Service, text: str) -> httpx2.Response:
    return httpx2.post(f"{service.url}/v1/classify", json={"input": text}, timeout=TIMEOUT_S)


def send_what_is_no_http(service: Service) -> None:
    address = ("127.0.0.1", int(service.url.rsplit(":", 1)[1]))
    for garbage in (b"canary\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /canary HTTP/9.9\r\n\r\n"):
        with socket.create_connection(address, TIMEOUT_S) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


def until_in_flight(service: Service, n: int) -> None:
    wanted = f"splinellm_requests_in_flight {float(n)}"
    while wanted not in httpx2.get(f"{service.url}/metrics").text:
        pass


def until_draining(service: Service) -> None:
    """The signal has arrived; health is answered even now."""
    while (
        httpx2.get(f"{service.url}/readyz").json().get("error", {}).get("code") != "shutting_down"
    ):
        pass


def test_sigterm_answers_what_was_accepted_and_refuses_what_is_new(
    start: Callable[..., Service],
) -> None:
    service = start()
    service.wait_until_ready()
    send_what_is_no_http(service)
    with ThreadPoolExecutor(8) as pool:
        accepted = [pool.submit(ask, service, f"BLOCK {i}") for i in range(8)]
        until_in_flight(service, 8)
        service.signal(signal.SIGTERM)
        until_draining(service)
        for _ in range(3):  # each over a connection of its own: the listener still lives
            refused = ask(service, "new")
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "shutting_down"
        assert service.process.poll() is None
        service.open_gate()
        assert [one.result().status_code for one in accepted] == [200] * 8
    assert service.end() == 0
    assert service.other_lines == []
    assert service.events[-1]["event"] == "stopped"
    assert "canary" not in json.dumps(service.events)
    with pytest.raises(httpx2.ConnectError):
        ask(service, "late")


def test_at_the_drain_limit_those_who_wait_are_told(start: Callable[..., Service]) -> None:
    service = start("--drain-timeout-s", "0.5")
    service.wait_until_ready()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, service, "BLOCK") for _ in range(2)]
        until_in_flight(service, 2)
        service.signal(signal.SIGTERM)
        for one in waiting:
            answer = one.result()
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "shutting_down"
    assert service.end() == 0
    assert any(event["event"] == "drain_limit" for event in service.events)


def test_ctrl_c_is_graceful_too_and_twice_is_at_once(start: Callable[..., Service]) -> None:
    service = start()
    service.wait_until_ready()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, service, "BLOCK")
        until_in_flight(service, 1)
        service.signal(signal.SIGINT)
        until_draining(service)
        service.signal(signal.SIGINT)
        assert service.end() == 130
        assert waiting.exception() is not None or waiting.result().status_code >= 500
    assert not any("Traceback" in line for line in service.other_lines)


@pytest.fixture
def serve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str]]]:
    """Run the command in this process; gives its exit code and what it says beside its events."""

    def run_with(load: Callable[..., ModelCatalog], port: int = 0) -> tuple[int, list[str]]:
        monkeypatch.setattr(server, "load_models", load)
        code = run(["serve", "--port", str(port)])
        lines = capsys.readouterr().err.splitlines()
        return code, [line for line in lines if not line.startswith("{")]

    return run_with


def test_an_end_while_the_model_loads_does_not_wait_for_it(
    serve: Callable[..., tuple[int, list[str]]],
) -> None:
    def load(*_: object) -> ModelCatalog:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()  # for ever: nobody waits for this thread, a daemon
        raise AssertionError

    assert serve(load) == (0, [])


def test_a_model_that_cannot_be_loaded_ends_the_process(
    serve: Callable[..., tuple[int, list[str]]],
) -> None:
    def load(*_: object) -> ModelCatalog:
        raise ModelLoadError("the model\nis broken")

    assert serve(load) == (1, ["splinellm: error: the model is broken"])


def test_a_port_in_use_is_an_error_of_one_line(
    serve: Callable[..., tuple[int, list[str]]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, (line,) = serve(lambda *_: fake_catalog(), port)
    assert code == 1
    assert line == (
        f"splinellm: error: cannot listen on 127.0.0.1:{port}: Address already in use "
        "(another one with --port N; 0 takes any that is free)"
    )


def test_help_and_usage_errors_import_no_service() -> None:
    script = """
import sys
from splinellm.cli import run
assert run(["serve", "--help"]) == 0
slow = {"service", "fastapi", "uvicorn", "torch", "numpy"} & set(sys.modules)
assert not slow, slow
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
