"""A text that grows, judged again and again, with and without the cache of beginnings.

Usage: python -P benchmarks/growing.py [--parts decoder,encoder,flood] [--tokens N] [--requests N]

With and without run in turn at every step, in one process. ``flood`` sends requests that all begin
otherwise to the service, with a small random model, and watches its memory.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the tiny model is one of the tests'

from splinellm import SplineExtractor  # noqa: E402
from splinellm.backbone.loading import load_backbone  # noqa: E402
from splinellm.bench.timing import machine, prompts_of  # noqa: E402
from splinellm.learn.artifact import load_classifier  # noqa: E402
from splinellm.plan import Plan  # noqa: E402

CLASSIFIERS = {"decoder": "toxicity-smollm2", "encoder": "toxicity"}
STEP = 10
BUDGET = 4 << 20
"""Of the flood, in bytes: full after some hundred requests."""


class Side:
    """One way of judging: what it has cost up to now.

    Parameters
    ----------
    extractor : SplineExtractor
        With or without a cache.
    """

    def __init__(self, extractor: SplineExtractor) -> None:
        self.extractor = extractor
        self.n_given, self.wall_s, self.cpu_s, self.last_s = 0, 0.0, 0.0, 0.0
        read = extractor.read

        def counted(prompts: Any, **options: Any) -> Any:
            self.n_given += sum(len(prompt.ids) for prompt in prompts.values())
            return read(prompts, **options)

        extractor.read = counted  # type: ignore[method-assign]

    @property
    def n_read(self) -> int:
        """Tokens that the model has read."""
        cache = self.extractor.prefix_cache
        is_used = cache is not None and not self.extractor.backbone.architecture.is_encoder
        return cache.n_read if cache is not None and is_used else self.n_given

    def judge(self, task: Callable[[SplineExtractor], np.ndarray]) -> np.ndarray:
        """Do it, and note the time."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = task(self.extractor)
        self.last_s = time.perf_counter() - wall
        self.wall_s += self.last_s
        self.cpu_s += time.process_time() - cpu
        return found


def answer(kind: str, n_tokens: int) -> None:
    """Judge an answer after every ten tokens."""
    classifier = load_classifier(CLASSIFIERS[kind])
    provenance = classifier.card.provenance
    backbone = load_backbone(provenance.model, dtype=provenance.dtype)
    settings = Plan.of(provenance).settings()
    sides = {
        "with": Side(SplineExtractor(backbone, **settings, prefix_cache_bytes=1 << 28)),
        "without": Side(SplineExtractor(backbone, **settings)),
    }
    (long,) = prompts_of(1, n_tokens // 10)
    ids = backbone.tokenizer(long, add_special_tokens=False)["input_ids"][:n_tokens]
    parts = [backbone.tokenizer.decode(ids[:end]) for end in range(STEP, n_tokens + 1, STEP)]
    worst = 0.0
    for extractor in (side.extractor for side in sides.values()):
        classifier.verdicts(["a warm-up"], extractor)
    for side in sides.values():
        side.n_given = 0
    for i, part in enumerate(parts):
        found = {}
        for name in [*sides] if i % 2 else [*sides][::-1]:
            found[name] = sides[name].judge(
                lambda extractor, text=part: (
                    classifier.verdicts([text], extractor).predictions.probabilities
                )
            )
        worst = max(worst, float(np.abs(found["with"] - found["without"]).max()))
    print(f"{kind} ({classifier.card.name} on {provenance.model}), {n_tokens} tokens, ", end="")
    print(f"judged every {STEP}: largest difference of a probability {worst:.1e}")
    for name, side in sides.items():
        print(f"  {name:8} {side.n_read:7} tokens read, ", end="")
        print(f"{side.cpu_s:6.1f} s of processor time, {side.wall_s:6.1f} s, ", end="")
        print(f"the last verdict {1000 * side.last_s:.0f} ms")
    of, by = sides["without"], sides["with"]
    print(
        f"  without / with: tokens {of.n_read / by.n_read:.1f}, "
        f"processor time {of.cpu_s / by.cpu_s:.1f}, time {of.wall_s / by.wall_s:.1f}"
    )
    if (cache := by.extractor.prefix_cache) is not None and cache.n_bytes:
        print(f"  the cache holds {cache.n_bytes / 2**20:.1f} MiB in {len(cache)} blocks")


def flood(n_requests: int) -> None:
    """Send requests that begin otherwise each; print memory on the way."""
    from starlette.testclient import TestClient

    from service.app import create_app
    from service.engine import EngineLimits, SilentListener
    from service.models import ModelCatalog, ServedModel, warm_up
    from service.settings import Settings
    from tests.tiny import random_prompts, tiny_backbone

    model = ServedModel(
        "tiny",
        tiny_backbone(),
        limits=EngineLimits(batch_wait_s=0),
        listener=SilentListener(),
        max_tokens=256,
        prefix_cache_bytes=BUDGET,
    )
    catalog = ModelCatalog([model], [])
    warm_up(catalog)
    cache, process = model.prefix_cache, psutil.Process()
    assert cache is not None
    app = create_app(Settings(log_level="error"), load=lambda *_: catalog)
    print(f"{n_requests} requests of 40 to 80 tokens, a budget of {BUDGET / 2**20:.0f} MiB")
    random = np.random.default_rng(0)
    most = 0
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.1)
        for done in range(n_requests + 1):
            if done % (n_requests // 10) == 0:
                gc.collect()
                rss = process.memory_info().rss / 2**20
                print(f"  {done:6} requests: {rss:6.1f} MiB resident, ", end="")
                print(f"{cache.n_bytes / 2**20:.2f} MiB in {len(cache)} blocks")
            (ids,) = random_prompts(int(random.integers(40, 80)), seed=done)
            body = {"input": ids, "features": "sign_mean"}
            body["granularity"] = "token" if done % 2 else "prompt"
            answer = client.post("/v1/features", json=body)
            assert answer.status_code == 200, answer.text
            most = max(most, cache.n_bytes)
    print(f"  most that the cache held: {most} bytes of {BUDGET}")
    catalog.stop(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="decoder,encoder,flood")
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for part in options.parts.split(","):
        if part == "flood":
            flood(options.requests)
        else:
            answer(part, options.tokens)


if __name__ == "__main__":
    main()
