"""How far features in half precision are from float32: correlation and deviation by feature.

Usage: python benchmarks/precision.py [FILE.csv|FILE.jsonl|FILE.parquet ...]
Without files, the prompts are made up.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from splinellm import SplineExtractor
from splinellm.bench.timing import machine, prompts_of
from splinellm.extraction import PrecisionWarning

MAX_PROMPTS = 200


def texts_of(path: str) -> list[str]:
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    reader = readers.get(Path(path).suffix, lambda name: pd.read_json(name, lines=True))
    texts = reader(path)["text"].dropna().astype(str)
    return list(texts[texts != ""].head(MAX_PROMPTS))


def main() -> None:
    texts = [text for path in sys.argv[1:] for text in texts_of(path)] or prompts_of(100, 2)
    warnings.simplefilter("ignore", PrecisionWarning)
    arrays = {}
    for dtype in ("float32", "bfloat16"):
        extractor = SplineExtractor.from_pretrained(
            dtype=dtype, features="paper,blocks", max_tokens=128
        )
        arrays[dtype] = extractor.extract(texts).array.astype(np.float64)
    names = list(extractor.schema.features)
    print(f"{machine()}; {len(texts)} prompts, smollm2-135m, bfloat16 against float32")
    print(f"{'feature':<20} {'correlation':>11} {'mean |difference|':>18} {'largest':>10}")
    n_single = sum(not name.startswith("sign_block") for name in names)
    for position in range(n_single):
        report(names[position], *(a[..., position] for a in arrays.values()))
    report("sign blocks", *(a[..., n_single:] for a in arrays.values()))


def report(name: str, full: np.ndarray, half: np.ndarray) -> None:
    """Print one line; the correlation is over prompts, within a layer, averaged over layers."""
    flat = [array.reshape(len(array), -1) for array in (full, half)]
    columns = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(*(x.T for x in flat), strict=True) if a.std() > 0
    ]
    gap = np.abs(full - half)
    print(f"{name:<20} {np.nanmean(columns):>11.3f} {gap.mean():>18.2e} {gap.max():>10.2e}")


if __name__ == "__main__":
    main()
