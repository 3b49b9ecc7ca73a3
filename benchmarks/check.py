"""Compare this machine's speed ratios with the committed ones, and say what fell.

Usage: splinellm bench --json > new.jsonl; python benchmarks/check.py new.jsonl
       python benchmarks/check.py            (runs the benchmark itself)
Exit 1 if a ratio fell by more than 15 %. Ratios depend on the processor: commit a table of your own
machine with ``splinellm bench --json > benchmarks/ratios.jsonl`` before a change, and check after.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from splinellm.bench.run import WORKLOADS, measure

COMMITTED = Path(__file__).parent / "ratios.jsonl"
ALLOWED_FALL = 0.15

Record = dict[str, Any]


def read(lines: list[str]) -> dict[tuple[str, ...], dict[str, float]]:
    """Ratios by workload, dtype, layers and features."""
    records: list[Record] = [json.loads(line) for line in lines if line.strip()]
    keys = ("workload", "dtype", "layers", "features")
    return {tuple(record[key] for key in keys): record["ratios"] for record in records}


def run() -> list[str]:
    results = measure("smollm2-135m", dtypes=["float32"], workloads=[*WORKLOADS])
    return [json.dumps(asdict(result) | {"ratios": result.ratios}) for result in results]


def main() -> int:
    before = read(COMMITTED.read_text().splitlines())
    after = read(Path(sys.argv[1]).read_text().splitlines() if len(sys.argv) > 1 else run())
    n_fallen = 0
    for key, ratios in after.items():
        for side, ratio in ratios.items():
            if (old := before.get(key, {}).get(side)) is None:
                continue
            has_fallen = ratio < old * (1 - ALLOWED_FALL)
            n_fallen += has_fallen
            mark = "FELL" if has_fallen else "ok"
            print(f"{mark:<5} {' '.join(key)}: x {side} {old:.2f} -> {ratio:.2f}")
    return 1 if n_fallen else 0


if __name__ == "__main__":
    sys.exit(main())
