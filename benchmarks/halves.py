"""How often `compare` finds a difference where there is none, and what it finds where there is.

    python benchmarks/halves.py TABLE [TABLE] [--splits 100]

TABLE is what ``splinellm extract`` wrote. Each is cut in two at random, as often as told, and the
halves are compared: a p-value below 0.05 is due once in twenty times. Two tables are compared with
each other, too.
"""

from __future__ import annotations

import argparse

import numpy as np

from splinellm.io.table_columns import read_table
from splinellm.learn.comparing import compare
from splinellm.table import FeatureTable

LEVEL = 0.05


def p_values(table: FeatureTable, n_splits: int) -> np.ndarray:
    """Compare halves of a table; each split is another one, and so are the halves of the test."""
    found = []
    for seed in range(n_splits):
        order = np.random.default_rng(seed).permutation(len(table))
        middle = len(table) // 2
        halves = table[np.sort(order[:middle])], table[np.sort(order[middle:])]
        found.append(compare(*halves, seed=seed).p_value)
    return np.array(found)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tables", nargs="+", metavar="TABLE")
    parser.add_argument("--splits", type=int, default=100)
    arguments = parser.parse_args()
    tables = [read_table(path) for path in arguments.tables]
    for path, table in zip(arguments.tables, tables, strict=True):
        found = p_values(table, arguments.splits)
        calm = int((found > LEVEL).sum())
        quartiles = ", ".join(f"{p:.2f}" for p in np.quantile(found, [0.25, 0.5, 0.75]))
        print(
            f"{path}: {len(table):,} rows in halves, p > {LEVEL} in {calm} of {len(found)} splits "
            f"(quartiles of p: {quartiles})",
            flush=True,
        )
    if len(tables) == 2:
        both = compare(*tables)
        print(
            f"{arguments.tables[0]} against {arguments.tables[1]}: AUC {100 * both.roc_auc:.1f}, "
            f"p = {both.p_value:.1g}"
        )


if __name__ == "__main__":
    main()
