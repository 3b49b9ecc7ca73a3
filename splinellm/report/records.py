"""Evaluation figures as records, for CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from splinellm.errors import ConfigurationError
from splinellm.learn.evaluation import Score
from splinellm.learn.fairness import MEASURES, Subgroup
from splinellm.report.page import write_text


def report_records(
    scores: Sequence[Score], subgroups: Sequence[Subgroup] = ()
) -> list[dict[str, Any]]:
    """Make a record of each figure.

    All have section, item, class and ``roc_auc``: those of an evaluation its std and number of
    splits; those of groups, in sections such as ``BPSN AUC``, the numbers of rows, of positive ones
    and the 95 % interval, and None where rows are too few.
    """
    records: list[dict[str, Any]] = [
        {
            "section": s.section,
            "item": s.item,
            "class": s.label,
            "roc_auc": s.mean,
            "std": s.std,
            "splits": len(s.values),
        }
        for s in scores
    ]
    for measure in MEASURES if subgroups else ():
        for one in subgroups:
            area = one.areas[measure]
            told = (None, None, None) if area is None else (area.value, area.low, area.high)
            records.append(
                {
                    "section": f"{measure} AUC",
                    "item": one.group,
                    "class": one.label,
                    **dict(zip(("roc_auc", "low", "high"), told, strict=True)),
                    "rows": one.rows,
                    "positive": one.positives,
                }
            )
    return records


def write_records(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write records as ``.csv`` or ``.json``, by the file's suffix.

    Raises
    ------
    ConfigurationError
        Another suffix.
    OutputError
        The file cannot be written.
    """
    if path.suffix == ".csv":
        # As objects, whole numbers stay whole where other records have none.
        text = pd.DataFrame(records, dtype=object).to_csv(index=False)
    elif path.suffix == ".json":
        text = json.dumps(records, indent=1) + "\n"
    else:
        raise ConfigurationError(f"records are written as .csv or .json, not '{path.suffix}'")
    write_text(text, path)
