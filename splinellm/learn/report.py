"""Evaluation figures as CSV, JSON, or a page."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from splinellm.errors import ConfigurationError, OutputError
from splinellm.learn.evaluation import Score

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2024; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .75rem; text-align: left }
th { border-bottom: 2px solid #8b9198 } tr + tr td { border-top: 1px solid #e3e6e8 }
th, td { white-space: nowrap }
th + th, td.number { text-align: right; font-variant-numeric: tabular-nums }
"""


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
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        "<p>ROC-AUC in percent, one class against the rest; mean and standard deviation.</p>",
    ]
    for section, rows in frame.groupby("section", sort=False):
        parts.append(f"<h2>{html.escape(str(section)).capitalize()}</h2>")
        parts.append(_table(rows))
    return "\n".join(parts) + "\n"


def _table(rows: pd.DataFrame) -> str:
    """One line per item, one column per class, so that items can be compared at a glance."""
    classes = list(dict.fromkeys(rows["class"]))
    cells = {
        (item, label): f"{100 * mean:.2f} ± {100 * std:.2f}"
        for item, label, mean, std in rows[["item", "class", "roc_auc", "std"]].itertuples(
            index=False
        )
    }
    head = "".join(f"<th>{html.escape(label)}</th>" for label in classes)
    lines = [f"<table><tr><th></th>{head}</tr>"]
    for item in dict.fromkeys(rows["item"]):
        values = "".join(
            f'<td class="number">{cells.get((item, label), "")}</td>' for label in classes
        )
        lines.append(f"<tr><td>{html.escape(item)}</td>{values}</tr>")
    return "\n".join([*lines, "</table>"])
