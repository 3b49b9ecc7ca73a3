"""Bytes that a row of features takes in Parquet, exact and rounded, and what rounding costs.

Usage: python benchmarks/row_bytes.py TABLE.parquet [TABLE.parquet ...] [--label COLUMN]
Tables are what ``splinellm extract`` wrote; of each, the paper's features and the sign blocks are
told apart. With the column of a label of two values, a logistic regression that was trained on
exact features is tried on rounded ones, in five folds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from splinellm import FeatureTable
from splinellm.io.feature_files import write_features
from splinellm.precision import PRECISIONS
from splinellm.schema import is_sign_block


def groups_of(table: FeatureTable) -> dict[str, FeatureTable]:
    blocks = [name for name in table.provenance.features if is_sign_block(name)]
    others = [name for name in table.provenance.features if not is_sign_block(name)]
    n_blocks = table.provenance.n_blocks
    named = {"single features": others, f"blocks:{n_blocks}": blocks}
    return {name: table.select(features=some) for name, some in named.items() if some}


def auc(exact: np.ndarray, tried: np.ndarray, labels: np.ndarray) -> float:
    scores = np.empty(len(labels))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(exact, labels):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        scores[test] = model.fit(exact[train], labels[train]).predict_proba(tried[test])[:, 1]
    return float(roc_auc_score(labels, scores))


def report(name: str, table: FeatureTable, labels: np.ndarray | None, folder: Path) -> None:
    plain = folder / "plain.parquet"
    pq.write_table(table.to_arrow(), plain, compression="zstd")
    n_rows, n_layers = len(table), len(table.provenance.layers)
    print(f"{name} of {n_layers} layers: {table.values.shape[1]} columns, {n_rows} rows")
    print(f"  without a choice of encodings {plain.stat().st_size / n_rows:>8.0f} bytes a row")
    for precision in PRECISIONS:
        rounded = table.rounded(precision)
        write_features(rounded, folder / "t.parquet")
        size = (folder / "t.parquet").stat().st_size / n_rows
        gap = np.abs(rounded.values - table.values).max()
        told = f"  {precision:<29} {size:>8.0f} bytes a row, largest error {gap:.2g}"
        if labels is not None:
            told += f", ROC-AUC {auc(table.values, rounded.values, labels):.5f}"
        print(told, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--label")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for path in options.tables:
            labels = None
            if options.label:
                column = pq.read_table(path, columns=[options.label])[options.label]
                values, labels = np.unique(column.to_numpy(), return_inverse=True)
                if len(values) != 2:
                    raise SystemExit(f"--label {options.label}: {len(values)} values, not two")
            for name, table in groups_of(FeatureTable.from_parquet(path)).items():
                report(name, table, labels, Path(folder))


if __name__ == "__main__":
    main()
