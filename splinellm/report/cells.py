"""Figures of a card as cells: the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIGURES = {
    "ROC-AUC": ("roc_auc", ".2%"),
    "avg. precision": ("average_precision", ".2%"),
    "Brier": ("brier", ".4f"),
    "precision": ("precision", ".2%"),
    "recall": ("recall", ".2%"),
    "false positives": ("fpr", ".2%"),
}
"""Headings of held-out figures, where a card has each, and how it is written."""


NO_THRESHOLD = (
    "no threshold decides: the most probable class is chosen; precision, recall and false "
    "positives below are of each class alone, from the threshold beside them on"
)
"""What is said with the figures of exclusive classes."""


def figure_cell(row: Mapping[str, Any], key: str, form: str) -> str:
    """A figure and its interval, in one cell; nothing where a card has none."""
    if key not in row:
        return ""
    interval = row.get("intervals", {}).get(key)
    if interval is None:
        return format(row[key], form)
    low, high = (format(value, form) for value in interval)
    return f"{row[key]:{form}} [{low}, {high}]"


GROUP_FIGURES = {
    "rows": "rows",
    "positive": "positive",
    "subgroup AUC": "subgroup_auc",
    "BPSN AUC": "BPSN_auc",
    "BNSP AUC": "BNSP_auc",
    "FPR": "fpr",
}
"""Headings of a card's figures of groups of people, and where it has each."""


def plain_cell(value: float | None) -> str:
    """A count, or a share; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"
