"""Figures of a card as cells: the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from splinellm.learn.metrics import ACCURACY, ACCURACY_INTERVAL
from splinellm.learn.predictions import CHOICE

FIGURES = {
    "ROC-AUC": ("roc_auc", ".2%"),
    "avg. precision": ("average_precision", ".2%"),
    "Brier": ("brier", ".4f"),
    "precision": ("precision", ".2%"),
    "recall": ("recall", ".2%"),
    "false positives": ("fpr", ".2%"),
}
"""Headings of held-out figures, where a card has each, and how it is written."""


def no_threshold(figures: Mapping[str, Any]) -> str:
    """What is said with the held-out figures of exclusive classes."""
    told = "no threshold decides: the most probable class is chosen"
    below = "precision, recall and false positives below are"
    if CHOICE not in figures:  # of a card that was written before they were of the choice
        return f"{told}; {below} of each class alone, from the threshold beside them on"
    if isinstance(figures[ACCURACY], float):  # else a class has this name, and it is its figures
        low, high = figures[ACCURACY_INTERVAL]
        told += f", which is right of {figures[ACCURACY]:.2%} [{low:.2%}, {high:.2%}] of the rows"
    return f"{told}; {below} of that choice"


def has_thresholds(figures: Mapping[str, Any]) -> bool:
    """Whether a card's figures are of thresholds: of none without them, or of another choice."""
    rows = (row for row in figures.values() if isinstance(row, Mapping))
    return CHOICE not in figures and any("fpr" in row for row in rows)


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
