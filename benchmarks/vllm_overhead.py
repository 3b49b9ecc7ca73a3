"""What it costs to watch vLLM's engine: tokens per second with and without, in turns; memory.

Run in the environment that ``make vllm`` makes:
``python benchmarks/vllm_overhead.py FOLDER [repeats] [requests for memory]``; FOLDER holds a model
as vLLM reads it, such as the default one saved by docs/vllm.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import psutil

from splinellm.bench.timing import interleaved, machine, prompts_of
from splinellm.vllm import attach_vllm

N_PROMPTS, N_NEW = 8, 32
SIDES: dict[str, dict[str, Any]] = {
    "blocks of six layers": {"features": "blocks", "layers": "0-5"},
    "the seven of all layers": {"features": "spline"},
}


def main() -> None:
    from vllm import LLM, SamplingParams

    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    n_requests = int(sys.argv[3]) if len(sys.argv) > 3 else 5000
    llm = LLM(
        sys.argv[1],
        dtype="float32",
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=512,
        disable_log_stats=True,
    )
    prompts = prompts_of(N_PROMPTS, 3)
    params = SamplingParams(temperature=0, max_tokens=N_NEW, ignore_eos=True)

    def plain() -> None:
        llm.generate(prompts, params, use_tqdm=False)

    def watched(settings: dict[str, Any]) -> Callable[[], None]:
        def run() -> None:
            with attach_vllm(llm, **settings) as recorder:
                recorder.table_of(llm.generate(prompts, params, use_tqdm=False))

        return run

    tasks = {"plain": plain} | {name: watched(it) for name, it in SIDES.items()}
    seconds = interleaved(tasks, repeats)
    print(machine())
    n_tokens = N_PROMPTS * N_NEW
    for name, time in seconds.items():
        print(f"{name}: {n_tokens / time:.1f} tokens/s, {time / seconds['plain'] - 1:+.1%}")
    memory(llm, SamplingParams(temperature=0, max_tokens=2), n_requests)


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
                f"{held['bytes_of_slots']} bytes of slots"
            )


if __name__ == "__main__":
    main()
