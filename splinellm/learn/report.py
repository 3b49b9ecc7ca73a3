"""Evaluation figures as CSV, JSON, or a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from splinellm.errors import ConfigurationError, OutputError
from splinellm.learn.evaluation import Score
from splinellm.learn.fairness import MEASURES, Subgroup
from splinellm.learn.rendering import render


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


def write_report(
    scores: Sequence[Score], path: Path, *, title: str, subgroups: Sequence[Subgroup] = ()
) -> None:
    """Write scores as ``.html``, ``.csv`` or ``.json``, by the file's suffix.

    Parameters
    ----------
    scores : sequence of Score
        Of :func:`splinellm.learn.evaluation.evaluate`.
    path : Path
        File.
    title : str
        Of the page.
    subgroups : sequence of Subgroup
        Of :func:`splinellm.learn.fairness.out_of_fold_subgroups`.

    Raises
    ------
    ConfigurationError
        Another suffix.
    OutputError
        The file cannot be written.
    """
    records = report_records(scores, subgroups)
    if path.suffix == ".csv":
        # As objects, whole numbers stay whole where other records have none.
        text = pd.DataFrame(records, dtype=object).to_csv(index=False)
    elif path.suffix == ".json":
        text = json.dumps(records, indent=1) + "\n"
    elif path.suffix == ".html":
        text = _page(records, title)
    else:
        raise ConfigurationError(f"a report is .html, .csv or .json, not '{path.suffix}'")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def _page(records: Sequence[dict[str, Any]], title: str) -> str:
    by_section: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_section.setdefault(record["section"], []).append(record)
    sections = [_section(name, rows) for name, rows in by_section.items()]
    return render("report.html.j2", title=title, sections=sections)


def _section(name: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line per item, one column per class, so that items can be compared at a glance."""
    lines: dict[str, dict[str, str]] = {}
    for record in records:
        lines.setdefault(record["item"], {})[record["class"]] = _cell(record)
    classes = list(dict.fromkeys(record["class"] for record in records))
    # Capitals stay: BPSN is no word.
    return {"name": name[:1].upper() + name[1:], "classes": classes, "rows": lines}


def _cell(record: dict[str, Any]) -> str:
    if "std" in record:
        return f"{100 * record['roc_auc']:.2f} ± {100 * record['std']:.2f}"
    rows = f"{record['positive']:,} of {record['rows']:,} rows"
    if record["roc_auc"] is None:
        return f"too few: {rows}"
    interval = f"[{100 * record['low']:.1f}, {100 * record['high']:.1f}]"
    return f"{100 * record['roc_auc']:.2f} {interval}, {rows}"
