"""What ``predict FIRST --escalate SECOND`` saves, and what it costs in accuracy.

Run ``python benchmarks/cascade.py DATA [--first NAME --second NAME]``. DATA is the folder of the
sources that ``make classifiers`` reads. Both classifiers, and the cascade as the command runs it,
read the same rows in turns: rows that were kept aside from the training of the boxed classifiers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from peers import Rows, read

from splinellm.bench.timing import machine
from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.trials import kept_aside
from splinellm.io.rows import RecordChunk, Row
from splinellm.learn.annotation import TextClassification
from splinellm.learn.artifact import load_classifier
from splinellm.learn.cascade import Cascade, Step
from splinellm.learn.predictions import PREDICTED

SEED = 0
N_DRAWS = 2000


def chosen_rows(data: Path, per_source: int) -> Rows:
    """As many rows of each source; the clean texts of domains are one source."""
    rows = read(data)
    rows = rows.where(kept_aside(rows.texts))
    sources = np.array([name.split(":")[0] for name in rows.sources.tolist()])
    found = [
        Rows(part.texts, part.labels, np.full(len(part.texts), name))
        for name in sorted(set(sources.tolist()))
        for part in [rows.where(sources == name).sample(per_source, SEED)]
    ]
    return Rows(
        [text for part in found for text in part.texts],
        np.concatenate([part.labels for part in found]),
        np.concatenate([part.sources for part in found]),
    )


def seconds_and_labels(
    sides: dict[str, Callable[[], pa.Table]], turns: int
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Run all sides in turn; the first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    labels: dict[str, np.ndarray] = {}
    for turn in range(turns + 1):
        for name, side in sides.items():
            begin = time.perf_counter()
            table = side()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
            found = np.array(table[PREDICTED].to_pylist())
            if not set(found) <= {CLEAN, TOXIC}:
                raise SystemExit(f"{name} tells other classes apart: {sorted(set(found))}")
            labels[name] = found == TOXIC
    return seconds, labels


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Where the mean of row-wise differences may lie, 95 %, by bootstrap."""
    random = np.random.default_rng(SEED)
    n = len(differences)
    means = [differences[random.integers(n, size=n)].mean() for _ in range(N_DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the sources")
    parser.add_argument("--first", default="toxicity-fast", help="boxed name or folder")
    parser.add_argument("--second", default="toxicity")
    parser.add_argument("--per-source", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    rows = chosen_rows(options.data, options.per_source)
    chunk = RecordChunk("rows", [Row(i, {"text": t}) for i, t in enumerate(rows.texts)], "text")
    first, second = load_classifier(options.first), load_classifier(options.second)
    annotators = [TextClassification(one, one.default_extractor()) for one in (first, second)]
    cascades: list[Cascade] = []

    def cascade() -> pa.Table:
        cascades.append(Cascade(annotators[0], first.card, annotators[1], second.card.name))
        return cascades[-1].annotate(chunk)[0]

    sides = {
        first.card.name: lambda: annotators[0].annotate(chunk)[0],
        second.card.name: lambda: annotators[1].annotate(chunk)[0],
        "cascade": cascade,
    }
    seconds, labels = seconds_and_labels(sides, options.turns)
    slow = seconds[second.card.name]
    truth = rows.labels == 1
    names = sorted(set(rows.sources.tolist()))
    titles = ["seconds", f"x {second.card.name}", "accuracy", *names]
    print(machine())
    print(f"{len(truth)} rows kept aside, median of {options.turns} turns; accuracy in %")
    print("| | " + " | ".join(titles) + " |\n" + "|---" * (len(titles) + 1) + "|")
    for name, found in labels.items():
        right = found == truth
        ratio = statistics.median(a / b for a, b in zip(seconds[name], slow, strict=True))
        cells = [f"{statistics.median(seconds[name]):.1f}", f"{ratio:.2f}", f"{_share(right)}"]
        cells += [_share(right[rows.sources == source]) for source in names]
        print(f"| {name} | " + " | ".join(cells) + " |")
    difference = (labels["cascade"] == truth).astype(float) - (labels[second.card.name] == truth)
    low, high = interval(difference)
    print(
        f"cascade less {second.card.name}: {100 * difference.mean():+.2f} points of accuracy "
        f"(95 %: {100 * low:+.2f} to {100 * high:+.2f}); {_told(cascades[-1].steps)}"
    )


def _share(right: np.ndarray) -> str:
    return f"{100 * right.mean():.1f}"


def _told(steps: tuple[Step, Step]) -> str:
    first, second = steps
    return (
        f"{second.name} read {second.read} of {first.read} rows and "
        f"{second.tokens / first.tokens:.0%} of the tokens"
    )


if __name__ == "__main__":
    main()
