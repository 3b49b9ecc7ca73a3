"""Two replicas on Ray under load, one killed in the middle: what clients hear.

    python benchmarks/serve_kill.py MODEL [--requests 300] [--clients 4] [--seconds 120]

Starts `splinellm serve --ray` on a loopback port. Half of the clients send bare requests and count
each status; the others are the stock openai client with its default retries. Ends with 1 if a
request had no answer and no retriable error, or the openai client raised one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import psutil
from openai import OpenAI

RETRIABLE = {"503", "429", "connection error"}
START_S = 240


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120)
    told = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = [
        "--model",
        told.model,
        "--classifiers",
        "",
        "--ray-replicas",
        "2",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(
        [sys.executable, "-c", "from splinellm.cli import main; main()", "serve", *options, "--ray"]
    )
    try:
        wait_until_ready(server, url)
        bare, stock, killed = load_and_kill(server, url, told)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(120)
    others = {kind: n for kind, n in bare.items() if kind != "200" and kind not in RETRIABLE}
    raised = {kind: n for kind, n in stock.items() if kind != "200"}
    figures = {"killed": killed, "bare": bare, "openai": stock, "exit": server.returncode}
    print(json.dumps(figures))
    return int(bool(others or raised) or killed is None)


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit("the server is not ready")


def load_and_kill(
    server: subprocess.Popen[bytes], url: str, told: argparse.Namespace
) -> tuple[Counter[str], Counter[str], int | None]:
    bare: Counter[str] = Counter()
    stock: Counter[str] = Counter()
    lock, ends = threading.Lock(), time.monotonic() + told.seconds
    left = iter(range(told.requests))
    model = httpx.get(f"{url}/v1/models", timeout=30).json()["data"][0]["id"]

    def body(number: int) -> dict[str, object]:
        return {"model": model, "input": [f"text {number} of many, as long as a sentence is"]}

    def clients_work(is_stock: bool) -> None:
        client = OpenAI(base_url=f"{url}/v1", api_key="none")
        while time.monotonic() < ends:
            with lock:
                number = next(left, None)
            if number is None:
                return
            try:
                if is_stock:
                    client.embeddings.create(**body(number))
                    kind = "200"
                else:
                    answer = httpx.post(f"{url}/v1/embeddings", json=body(number), timeout=30)
                    kind = str(answer.status_code)
            except httpx.TransportError:
                kind = "connection error"
            except Exception as error:  # noqa: BLE001 - counted, and makes the run fail
                kind = type(error).__name__
            with lock:
                (stock if is_stock else bare)[kind] += 1

    threads = [
        threading.Thread(target=clients_work, args=(i % 2 == 1,)) for i in range(told.clients)
    ]
    for thread in threads:
        thread.start()
    killed = None
    while any(thread.is_alive() for thread in threads):
        if killed is None and sum(bare.values()) + sum(stock.values()) >= told.requests // 3:
            killed = kill_replica(server)
        time.sleep(0.01)
    return bare, stock, killed


def kill_replica(server: subprocess.Popen[bytes]) -> int | None:
    """Kill one of the server's own replicas, found among its descendants."""
    for process in psutil.Process(server.pid).children(recursive=True):
        try:
            if "ServeReplica" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                return process.pid
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return None


if __name__ == "__main__":
    raise SystemExit(main())
