"""What it costs to watch vLLM's engine: tokens per second with and without, in turns; memory.

Run in the environment that ``make vllm`` makes:
``python benchmarks/vllm_overhead.py FOLDER [rounds] [requests for memory]``; FOLDER holds a model
as vLLM reads it, such as the default one saved by docs/vllm.md. Every round serves the same prompts
once on each side, in turn; what is said of a side is the median of its rounds' ratios to the plain
one's, of the clock and of the processor's time, which a busy machine disturbs less.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import psutil

from splinellm.bench.timing import machine, prompts_of
from splinellm.vllm import attach_vllm

N_PROMPTS, N_NEW = 4, 16
SIDES: dict[str, dict[str, Any]] = {
    "plain": {},
    "blocks of six layers": {"features": "blocks", "layers": "0-5"},
    "the seven of all layers": {"features": "spline"},
}


def main() -> None:
    from vllm import LLM, SamplingParams

    n_rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    n_requests = int(sys.argv[3]) if len(sys.argv) > 3 else 5000
    llm = LLM(
        sys.argv[1],
        dtype="float32",
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=256,
        disable_log_stats=True,
    )
    print(machine(), flush=True)
    if n_rounds:
        overhead(llm, SamplingParams(temperature=0, max_tokens=N_NEW, ignore_eos=True), n_rounds)
    memory(llm, SamplingParams(temperature=0, max_tokens=2), n_requests)


def overhead(llm: Any, params: Any, n_rounds: int) -> None:
    """Serve the same prompts on every side, in turn."""
    prompts = prompts_of(N_PROMPTS, 3)

    def turn(settings: dict[str, Any]) -> tuple[float, float]:
        """Seconds of the clock and of the processor; to attach is not part of them."""
        watched: AbstractContextManager[Any] = (
            attach_vllm(llm, **settings) if settings else nullcontext()
        )
        with watched as recorder:
            clock, processor = time.perf_counter(), time.process_time()
            outputs = llm.generate(prompts, params, use_tqdm=False)
            if recorder is not None:
                recorder.table_of(outputs)
            return time.perf_counter() - clock, time.process_time() - processor

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for number in range(n_rounds + 1):
        for name, settings in SIDES.items():
            found = turn(settings)
            print(f"{number}: {name}: {found[0]:.3f} s, {found[1]:.3f} s", file=sys.stderr)
            if number:  # the first one warms up
                seconds[name].append(found)
    for name, times in seconds.items():
        speed = N_PROMPTS * N_NEW / statistics.median(clock for clock, _ in times)
        more = []
        for kind in range(2):
            pairs = zip(times, seconds["plain"], strict=True)
            more.append(statistics.median(one[kind] / plain[kind] for one, plain in pairs) - 1)
        print(
            f"{name}: {speed:.1f} tokens/s, {more[0]:+.1%} of the clock, "
            f"{more[1]:+.1%} of the processor's time ({n_rounds} rounds)",
            flush=True,
        )


def memory(llm: Any, params: Any, n_requests: int) -> None:
    """Serve short requests, and say what is held."""
    process = psutil.Process()
    with attach_vllm(llm, features="spline", keep=500) as recorder:
        for start in range(0, n_requests, 500):
            llm.generate(["Hello"] * min(500, n_requests - start), params, use_tqdm=False)
            held = recorder.held
            print(
                f"{start + 500} requests: {process.memory_info().rss >> 20} MB resident, "
                f"{held['ended']} remembered, {held['bytes_per_request']} bytes each, "
                f"{held['bytes_of_slots']} bytes of slots",
                flush=True,
            )


if __name__ == "__main__":
    main()
