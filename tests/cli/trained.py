"""Classifiers that are trained on labelled rows, and what predict writes of such."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from splinellm.schema import FeatureSelection
from tests.cli.labelled import labelled_rows
from tests.fakes import LearnableExtractor, fake_provenance

ROWS = labelled_rows()
TEXTS = [row["text"] for row in ROWS]
PROVENANCE = fake_provenance(
    features=FeatureSelection.parse("sign_mean,blocks:4").names, n_blocks=4, dimension_threshold=0.2
)
ADDED = ["n_tokens", "truncated", "predicted", "probability.clean", "probability.toxic"]


@cache
def trained(kind: str) -> Classifier:
    columns = ["label"] if kind == "binary" else ["a", "b"]
    labels = Labels.from_columns({name: [row[name] for row in ROWS] for name in columns})
    return train(LearnableExtractor(PROVENANCE).table(TEXTS), labels, name=kind)


def read(path: str) -> dict[str, list[Any]]:
    """Read a table, with the types of its columns."""
    if path.endswith(".parquet"):
        columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
        return columns
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file)) if path.endswith(".csv") else list(map(json.loads, file))
    return {name: [row[name] for row in rows] for name in rows[0]}
