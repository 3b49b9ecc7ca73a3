"""A Ray cluster of a process of its own, which wants a token, as Ray makes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PROGRAM = """
import ray, sys
one = ray.init("local", num_cpus=4, object_store_memory=100 << 20, include_dashboard=False)
print(one["gcs_address"], flush=True)
sys.stdin.read()
"""


@contextmanager
def cluster() -> Iterator[str]:
    """Give its address while the block runs; its token is in the home of the environment."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate()  # closes its input, which is its end
