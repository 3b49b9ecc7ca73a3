"""What HTTP and batching cost or save, and what happens under too much load.

Usage: python benchmarks/service.py [--data FILE.jsonl] [--parts throughput,latency,...] [...]
The server runs in a process of its own; whatever is compared runs in turn, never at once.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import torch

from splinellm import SplineExtractor
from splinellm.backbone.loading import load_backbone
from splinellm.bench.timing import machine

ROOT = Path(__file__).parent.parent
HARD_CASES = ROOT / "splinellm" / "classifiers" / "hard_cases.jsonl"
PARTS = ("throughput", "latency", "overload", "memory")
TINY = "tiny"
START_S = 300


@dataclass(frozen=True)
class Answer:
    """Status of an answer, how long it took, and whether it says when to try again."""

    status: int
    seconds: float
    says_when: bool


class Client:
    """One connection; what costs time in it would count as the server's."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def features(self, text: str) -> Answer:
        """Ask for the default features of a text."""
        body = json.dumps({"input": text}).encode()
        start = time.perf_counter()
        self._connection.request("POST", "/v1/features", body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        response.read()
        seconds = time.perf_counter() - start
        return Answer(response.status, seconds, response.getheader("retry-after") is not None)

    def get(self, path: str) -> tuple[int, Any]:
        """Ask for JSON; the status, and what it is."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@contextmanager
def server_of(options: argparse.Namespace, model: str, **settings: Any) -> Iterator[int]:
    """Run the service and give its port."""
    port = options.port
    settings |= {"model": [model], "port": port, "log_level": "error"}
    command = [sys.executable, "-P", str(Path(__file__).parent / "monitored_server.py")]
    command += ["--settings", json.dumps(settings)]
    if options.threads:
        command += ["--threads", str(options.threads)]
    if options.switch_interval_s:
        command += ["--switch-interval-s", str(options.switch_interval_s)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with code {process.returncode}")
        client = Client(port)
        try:
            if client.get("/readyz")[0] == 200:
                return
        except OSError:
            pass
        finally:
            client.close()
        time.sleep(0.2)
    raise SystemExit("the server did not become ready")


def watch_of(port: int) -> dict[str, float]:
    """Lateness of the event loop since the last call, and memory now."""
    client = Client(port)
    try:
        report: dict[str, float] = client.get("/benchmark")[1]
    finally:
        client.close()
    return report


def send_all(port: int, texts: Sequence[str], n_clients: int) -> list[Answer]:
    """Let clients send texts, each its next one when it has the answer to the last."""
    todo = iter(texts)
    lock = threading.Lock()

    def run(_: int) -> list[Answer]:
        client, answers = Client(port), []
        while True:
            with lock:
                text = next(todo, None)
            if text is None:
                client.close()
                return answers
            answers.append(client.features(text))

    with ThreadPoolExecutor(n_clients) as pool:
        return [answer for part in pool.map(run, range(n_clients)) for answer in part]


def send_at_rate(port: int, texts: Sequence[str], per_s: float, n_threads: int) -> list[Answer]:
    """Send each text at its time, whether or not those before are answered."""
    start = time.perf_counter()
    local = threading.local()

    def send(number: int) -> Answer:
        if not hasattr(local, "client"):
            local.client = Client(port)
        time.sleep(max(0.0, start + number / per_s - time.perf_counter()))
        answer: Answer = local.client.features(texts[number % len(texts)])
        return answer

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(send, range(len(texts))))


def timed(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def require_ok(answers: Sequence[Answer]) -> None:
    bad = Counter(answer.status for answer in answers if answer.status != 200)
    if bad:
        raise SystemExit(f"answers that were not 200: {dict(bad)}")


def line(name: str, value: str, goal: str = "") -> None:
    print(f"{name:<52} {value:>16}  {goal}")


def throughput(
    options: argparse.Namespace, port: int, extractor: SplineExtractor, texts: Sequence[str]
) -> float:
    """Compare prompts per second; returns those over HTTP."""
    texts = texts[: options.prompts]
    extractor.extract(texts[:32])
    require_ok(send_all(port, texts[:32], options.clients))
    watch_of(port)
    inside, outside = [], []
    for _ in range(options.rounds):
        inside.append(timed(lambda: extractor.extract(texts)))
        outside.append(timed(lambda: require_ok(send_all(port, texts, options.clients))))
    rates = [len(texts) / statistics.median(seconds) for seconds in (inside, outside)]
    ratios = [a / b for a, b in zip(inside, outside, strict=True)]
    line("prompts/s in process", f"{rates[0]:.1f}")
    line(f"prompts/s over HTTP, {options.clients} clients", f"{rates[1]:.1f}")
    line(
        "ratio HTTP / in process",
        f"{statistics.median(ratios):.2f}",
        f"at least 0.85; rounds {min(ratios):.2f} to {max(ratios):.2f}",
    )
    block = watch_of(port)
    line("longest block of the event loop, ms", f"{block['longest_block_ms']:.1f}", "at most 50")
    return rates[1]


def latency(
    options: argparse.Namespace, port: int, extractor: SplineExtractor, texts: Sequence[str]
) -> None:
    """Compare single prompts, one client, in turn."""
    client = Client(port)
    inside, outside = [], []
    for number, text in enumerate(texts[: options.singles + 3]):
        mine = timed(lambda text=text: extractor.extract([text]))
        answer = client.features(text)
        require_ok([answer])
        if number >= 3:  # the first ones warm up
            inside.append(mine)
            outside.append(answer.seconds)
    client.close()
    medians = [statistics.median(seconds) for seconds in (inside, outside)]
    line("single prompt in process, median ms", f"{1000 * medians[0]:.1f}")
    line("single prompt over HTTP, median ms", f"{1000 * medians[1]:.1f}")
    line("ratio HTTP / in process", f"{medians[1] / medians[0]:.2f}", "at most 1.25")


def overload(options: argparse.Namespace, texts: Sequence[str]) -> None:
    """Send three times what a server with a short queue can take."""
    queue = options.queue
    with server_of(
        options, options.model, max_queue_inputs=queue, max_client_batch_size=min(queue, 16)
    ) as port:
        sample = texts[: options.prompts]
        require_ok(send_all(port, sample[: options.clients], options.clients))
        capacity = len(sample) / timed(lambda: require_ok(send_all(port, sample, options.clients)))
        before = watch_of(port)
        n_requests = int(3 * capacity * options.overload_s)
        many = [texts[i % len(texts)] for i in range(n_requests)]
        start = time.perf_counter()
        answers = send_at_rate(port, many, 3 * capacity, n_threads=4 * queue)
        seconds = time.perf_counter() - start
        after = watch_of(port)
    accepted = sorted(a.seconds for a in answers if a.status == 200)
    refused = [a for a in answers if a.status == 429]
    line("capacity, prompts/s", f"{capacity:.1f}")
    line("offered, prompts/s", f"{n_requests / seconds:.1f}", "three times as many, and the rest")
    counts = Counter(answer.status for answer in answers)
    line("answers by status", str(dict(sorted(counts.items()))), "200 and 429 only")
    line("429 with Retry-After", f"{sum(a.says_when for a in refused)}/{len(refused)}", "all")
    if accepted:
        p99 = accepted[math.ceil(0.99 * len(accepted)) - 1]
        bound = (queue + options.clients) / capacity
        line("p99 of accepted, s", f"{p99:.2f}", f"queue and a batch take {bound:.2f}")
    line("longest block of the event loop, ms", f"{after['longest_block_ms']:.1f}", "at most 50")
    line("99 % of blocks are shorter than, ms", f"{after['p99_block_ms']:.1f}")
    line("memory before and after, MB", f"{before['rss_mb']:.0f} {after['rss_mb']:.0f}")


def memory(options: argparse.Namespace, texts: Sequence[str]) -> None:
    """Watch the memory of a server over many requests."""
    with server_of(options, options.memory_model) as port:
        step = max(1, options.memory_requests // 5)
        for done in range(0, 6 * step, step):
            report = watch_of(port)
            line(f"memory after {done} requests, MB", f"{report['rss_mb']:.1f}")
            if done < 5 * step:
                many = [f"{done + i} {texts[i % len(texts)]}" for i in range(step)]
                require_ok(send_all(port, many, options.clients))


def texts_of(path: Path, n_texts: int) -> list[str]:
    """Read the column `text`; short of texts, make more by a number before each."""
    with path.open(encoding="utf-8") as file:
        found = [text for row in file if (text := json.loads(row).get("text"))]
    rounds = range(math.ceil(n_texts / len(found)))
    return [f"{i}. {text}" if i else text for i in rounds for text in found][:n_texts]


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=HARD_CASES, help="column text")
    add("--model", default="smollm2-135m", help=f"or {TINY}: random, three layers")
    add("--parts", default=",".join(PARTS), help="comma separated")
    add("--clients", type=int, default=32)
    add("--prompts", type=int, default=320, help="of a round")
    add("--rounds", type=int, default=5)
    add("--singles", type=int, default=50, help="prompts sent one by one")
    add("--queue", type=int, default=64, help="length of the queue that is overloaded")
    add("--overload-s", type=float, default=30)
    add("--memory-model", default=TINY)
    add("--memory-requests", type=int, default=10_000)
    add("--threads", type=int, help="of torch, on both sides")
    add("--switch-interval-s", type=float, help="of the server's interpreter lock")
    add("--port", type=int, default=8765)
    return parser.parse_args()


def main() -> None:
    options = options_of()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"unknown parts: {unknown}")
    if options.threads:
        torch.set_num_threads(options.threads)
    texts = texts_of(options.data, max(options.prompts, options.singles + 3))
    print(f"{machine()}; {options.model}; {len(texts)} texts of {options.data.name}")
    if {"throughput", "latency"} & set(parts):
        extractor = SplineExtractor(backbone_of(options.model))
        with server_of(options, options.model) as port:
            if "throughput" in parts:
                throughput(options, port, extractor, texts)
            if "latency" in parts:
                latency(options, port, extractor, texts)
    if "overload" in parts:
        overload(options, texts)
    if "memory" in parts:
        memory(options, texts)


def backbone_of(model: str) -> Any:
    if model != TINY:
        return load_backbone(model)
    sys.path.insert(0, str(ROOT))
    from tests.tiny import tiny_backbone

    return tiny_backbone()


if __name__ == "__main__":
    main()
