"""Hours in minutes: the service at twice its capacity, and many rows through ``predict``.

Usage: python benchmarks/soak.py [--parts service,predict] [--minutes 10] [--rows 200000] [...]
Both parts run the program in a process of its own, and end by themselves. What is lost, or of
another row, ends the run with an error; memory is told at 10 % and at 100 % of the run.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow.parquet as pq

# benchmarks/service.py, not the package: this file's folder comes first.
from service import ROOT, TINY, line, require_ok, send_all, server_of, texts_of, timed, watch_of
from service import options_of as service_options
from splinellm.bench.timing import machine

PARTS = ("service", "predict")
TOLERANCE = 2e-2
"""How far the features of a text may be from those it had alone: no other text is so near."""
CHUNK_ROWS = 1024


class Answer(NamedTuple):
    """One answer under load."""

    status: int
    is_own: bool
    seconds: float
    says_when: bool


class Clients:
    """Sends texts at a rate, whether or not those before are answered, and checks the answers.

    Parameters
    ----------
    port : int
        Of the service.
    texts : sequence of str
        Sent in turn.
    """

    def __init__(self, port: int, texts: Sequence[str]) -> None:
        self._port = port
        self._texts = texts
        self._local = threading.local()
        self._expected = [self._ask(text)[1] for text in texts]

    def _ask(self, text: str) -> tuple[int, Any, bool]:
        if not hasattr(self._local, "connection"):
            self._local.connection = HTTPConnection("127.0.0.1", self._port, timeout=300)
        body = json.dumps({"input": text, "features": "sign_mean,sign_max"}).encode()
        self._local.connection.request(
            "POST", "/v1/features", body, {"content-type": "application/json"}
        )
        response = self._local.connection.getresponse()
        found = json.loads(response.read())
        row = None
        if response.status == 200:
            (data,) = found["data"]
            row = data["n_tokens"], np.ravel(data["values"])
        return response.status, row, response.getheader("retry-after") is not None

    def send(self, number: int, at_s: float) -> Answer:
        """Send a text at its time."""
        time.sleep(max(0.0, at_s - time.perf_counter()))
        place = number % len(self._texts)
        start = time.perf_counter()
        try:
            status, row, says_when = self._ask(self._texts[place])
        except OSError:
            del self._local.connection
            return Answer(0, False, time.perf_counter() - start, False)
        n_tokens, values = self._expected[place]
        is_own = row is None or (
            row[0] == n_tokens and bool(np.abs(row[1] - values).max() < TOLERANCE)
        )
        return Answer(status, is_own, time.perf_counter() - start, says_when)


def soak_service(options: argparse.Namespace) -> None:
    """Send twice what the service can do for some minutes."""
    texts = texts_of(options.data, 128)
    limits = {
        "max_queue_inputs": options.queue,
        "max_client_batch_size": min(16, options.queue),
    }
    with server_of(options, options.model, **limits) as port:
        require_ok(send_all(port, texts, options.clients))
        seconds = timed(lambda: require_ok(send_all(port, texts, options.clients)))
        per_s = 2 * len(texts) / seconds
        clients = Clients(port, texts)
        memory: list[tuple[float, float]] = []
        start, length_s = time.perf_counter(), 60 * options.minutes
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(min(5.0, length_s / 50)):
                memory.append((time.perf_counter() - start, watch_of(port)["rss_mb"]))

        watching = threading.Thread(target=watch)
        watching.start()
        n_requests = int(per_s * length_s)
        with ThreadPoolExecutor(4 * options.queue) as pool:
            answers = list(
                pool.map(
                    lambda number: clients.send(number, start + number / per_s), range(n_requests)
                )
            )
        ended_s = time.perf_counter() - start
        is_over.set()
        watching.join()
        memory.append((ended_s, watch_of(port)["rss_mb"]))
    early = next(rss for at_s, rss in memory if at_s >= ended_s / 10)
    counts = Counter(answer.status for answer in answers)
    refused = [answer for answer in answers if answer.status == 429]
    accepted = sorted(answer.seconds for answer in answers if answer.status == 200)
    line("capacity, prompts/s", f"{per_s / 2:.1f}")
    line("offered, prompts/s", f"{n_requests / ended_s:.1f}", f"for {ended_s / 60:.1f} minutes")
    line("sent, answered", f"{n_requests} {sum(counts.values())}", "equal")
    line("answers by status", str(dict(sorted(counts.items()))), "200 and 429 only")
    line("answers that are another text's", str(sum(not a.is_own for a in answers)), "0")
    line("429 with Retry-After", f"{sum(a.says_when for a in refused)}/{len(refused)}", "all")
    line("99 % of accepted within, s", f"{accepted[int(0.99 * len(accepted))]:.1f}")
    line("memory at 10 % and 100 %, MB", f"{early:.0f} {memory[-1][1]:.0f}")
    if set(counts) - {200, 429} or not all(answer.is_own for answer in answers):
        raise SystemExit("an answer was lost, or another text's")


def words_of(n_rows: int) -> Iterator[dict[str, Any]]:
    """Generated rows, all different."""
    source = random.Random(0)
    words = Path(ROOT / "README.md").read_text(encoding="utf-8").split()
    for number in range(n_rows):
        text = " ".join(source.choices(words, k=source.randint(3, 12)))
        yield {"id": number, "text": f"{number} {text}"}


def tiny_classifier(folder: Path) -> str:
    """Train a classifier on a random model of three layers."""
    sys.path.append(str(ROOT))
    from tests.tiny import tiny_model, tiny_tokenizer

    tiny_model().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    with (folder / "train.jsonl").open("w") as file:
        for row in words_of(400):
            file.write(json.dumps(row | {"label": "long" if len(row["text"]) > 50 else "short"}))
            file.write("\n")
    command = ["train", "train.jsonl", "--label", "label", "-o", "classifier", "--model", "model"]
    subprocess.run(splinellm(*command, "--features", "blocks:8", "--quiet"), cwd=folder, check=True)
    return "classifier"


def splinellm(*arguments: str) -> list[str]:
    program = "import sys; from splinellm.cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, *arguments]


def soak_predict(options: argparse.Namespace) -> None:
    """Send many rows through ``predict``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "in.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in words_of(options.rows))
        tiny = options.classifier == TINY
        classifier = tiny_classifier(folder) if tiny else options.classifier
        start = time.perf_counter()
        command = splinellm("predict", classifier, "in.jsonl", "-o", "out.parquet", "--quiet")
        process = psutil.Popen(command, cwd=folder)
        early = last = peak = 0
        while process.poll() is None:
            try:
                last = process.memory_info().rss or last  # 0 of one that has just ended
            except psutil.NoSuchProcess:
                break
            peak = max(peak, last)
            n_parts = len(list((folder / "out.parquet.partial").glob("part-*")))
            if not early and n_parts * CHUNK_ROWS >= options.rows / 10:
                early = last
            time.sleep(0.1)
        if process.wait():
            raise SystemExit(f"predict ended with code {process.returncode}")
        seconds = time.perf_counter() - start
        found = pq.read_table(folder / "out.parquet", columns=["id", "n_tokens", "predicted"])
    line("rows in, rows out", f"{options.rows} {len(found)}", "equal")
    line("rows/s, loading included", f"{options.rows / seconds:.0f}", f"{seconds:.0f} s")
    megabytes = " ".join(f"{size / 2**20:.0f}" for size in (early, last, peak))
    line("memory at 10 %, at 100 % and at most, MB", megabytes)
    if found["id"].to_pylist() != list(range(options.rows)) or found["predicted"].null_count:
        raise SystemExit("a row was lost")


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--parts", default=",".join(PARTS), help="comma separated")
    add("--minutes", type=float, default=10, help="of the service's load")
    add("--rows", type=int, default=200_000, help="through predict")
    add("--model", default="smollm2-135m", help=f"of the service; or {TINY}: random, three layers")
    add("--classifier", default="toxicity-fast", help=f"of predict; or {TINY}")
    add("--queue", type=int, default=32, help="prompts that may wait")
    add("--clients", type=int, default=16, help="that measure the capacity")
    add("--port", type=int, default=8766)
    options = parser.parse_args()
    sys.argv[1:] = []  # what the service's benchmark has besides
    return argparse.Namespace(**{**vars(service_options()), "threads": 1, **vars(options)})


def main() -> None:
    options = options_of()
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"unknown parts: {unknown}")
    print(machine())
    if "service" in parts:
        print(f"service: {options.model}, a queue of {options.queue}")
        soak_service(options)
    if "predict" in parts:
        print(f"predict: {options.classifier}, {options.rows} generated rows")
        soak_predict(options)


if __name__ == "__main__":
    main()
