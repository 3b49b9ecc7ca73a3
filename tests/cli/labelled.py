"""Labelled texts whose labels the fake extractor's features tell."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

_WORDS = [f"w{i}" for i in range(60)]


def labelled_rows(n_rows: int = 120) -> list[dict[str, Any]]:
    """Rows with a binary label, two flags, a source, and texts that share few words."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(n_rows):
        toxic, rude = i % 2, i // 2 % 2
        words = [*random.choice(_WORDS, 8), *["toxic"] * toxic, *["rude"] * rude]
        rows.append(
            {
                "id": i,
                "text": " ".join(random.permutation(words)),
                "label": "toxic" if toxic else "clean",
                "a": toxic,
                "b": rude,
                "source": f"s{i % 3}",
            }
        )
    return rows


def write_rows(path: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write CSV or JSON lines into the working folder."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        if path.endswith(".csv"):
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return rows
