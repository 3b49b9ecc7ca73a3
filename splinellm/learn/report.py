"""Evaluation figures as CSV, JSON, or a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from splinellm.errors import ConfigurationError, OutputError
from splinellm.learn.evaluation import Score
from splinellm.learn.rendering import render


def scores_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """Tabulate scores: section, item, class, mean and std of ROC-AUC, and number of splits."""
    return pd.DataFrame(
        [(s.section, s.item, s.label, s.mean, s.std, len(s.values)) for s in scores],
        columns=["section", "item", "class", "roc_auc", "std", "splits"],
    )


def write_report(scores: Sequence[Score], path: Path, *, title: str) -> None:
    """Write scores as ``.html``, ``.csv`` or ``.json``, by the file's suffix.

    Raises
    ------
    ConfigurationError
        Another suffix.
    OutputError
        The file cannot be written.
    """
    frame = scores_frame(scores)
    if path.suffix == ".csv":
        text = frame.to_csv(index=False)
    elif path.suffix == ".json":
        text = json.dumps(frame.to_dict(orient="records"), indent=1) + "\n"
    elif path.suffix == ".html":
        text = _page(frame, title)
    else:
        raise ConfigurationError(f"a report is .html, .csv or .json, not '{path.suffix}'")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def _page(frame: pd.DataFrame, title: str) -> str:
    sections = [_section(str(name), rows) for name, rows in frame.groupby("section", sort=False)]
    return render("report.html.j2", title=title, sections=sections)


def _section(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """One line per item, one column per class, so that items can be compared at a glance."""
    lines: dict[str, dict[str, str]] = {}
    cells = rows[["item", "class", "roc_auc", "std"]].itertuples(index=False)
    for item, label, mean, std in cells:
        lines.setdefault(item, {})[label] = f"{100 * mean:.2f} ± {100 * std:.2f}"
    return {"name": name, "classes": list(dict.fromkeys(rows["class"])), "rows": lines}
