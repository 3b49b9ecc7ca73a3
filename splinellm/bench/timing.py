"""Interleaved timing, peak memory, made-up prompts, and the machine in a line."""

from __future__ import annotations

import ctypes
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

_SENTENCES = (
    "The committee postponed its decision until the figures could be checked by someone else.",
    "Please send the parcel back if the zip does not close, and we will refund the postage.",
    "def area(width, height):\n    return width * height\n",
    "She had never liked the colour of that door, and she was not going to start now.",
    "Nobody who has read the report can believe that this was an accident, you absolute fool!",
    "If x + 3 = 2x - 1, then x = 4, since subtracting x from both sides leaves 3 = x - 1.",
)


def prompts_of(n_prompts: int, n_sentences: int) -> list[str]:
    """Make distinct prompts of about 18 tokens a sentence."""
    return [
        f"{number}. "
        + " ".join(_SENTENCES[(number + i) % len(_SENTENCES)] for i in range(n_sentences))
        for number in range(n_prompts)
    ]


def interleaved(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time tasks in turn, A B A B, so that a drifting machine slows all alike.

    Returns
    -------
    dict of str to float
        Median seconds of each, after one warm-up.
    """
    for task in tasks.values():
        task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak_megabytes(task: Callable[[], object]) -> float | None:
    """Most memory that a task has above what the process had before; None where nobody tells.

    Of the process' resident memory on Linux, or of the GPU if there is one.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        task()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    try:
        with suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak up to now
        before = _status_kilobytes("VmRSS")
        task()
        return (_status_kilobytes("VmHWM") - before) / 1e3
    except OSError:
        return None


def _status_kilobytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise OSError(f"the system does not tell {name}")


def machine() -> str:
    """Describe the machine in a line."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return (
        f"{where}, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    )
