"""The page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from splinellm.learn.metrics import Target, choose_threshold
from splinellm.learn.predictions import DEFAULT_THRESHOLD
from splinellm.report.figures import curves, pictures, wide
from splinellm.report.page import Cell, Figure, Page, Section, Table
from splinellm.report.records import report_records

if TYPE_CHECKING:
    from splinellm.learn.evaluation import Score
    from splinellm.learn.fairness import Subgroup
    from splinellm.learn.labels import Labels
    from splinellm.learn.out_of_fold import OutOfFold

FALSE_ALARMS = 0.01
_DRAWN = ("layer", "first layers")


def evaluation_page(
    scores: Sequence[Score],
    *,
    title: str,
    made_of: Mapping[str, str],
    labels: Labels,
    kept: OutOfFold,
    subgroups: Sequence[Subgroup] = (),
    warning: str | None = None,
) -> Page:
    """Make a page of an evaluation.

    Parameters
    ----------
    scores : sequence of Score
        Of :func:`splinellm.learn.evaluation.evaluate`.
    title : str
        Of the page.
    made_of : mapping of str to str
        See :func:`splinellm.report.figures.made_of`.
    labels : Labels
        Of the rows.
    kept : OutOfFold
        Scores of the rows by all features.
    subgroups : sequence of Subgroup
        Of :func:`splinellm.learn.fairness.out_of_fold_subgroups`.
    warning : str, optional
        What the figures should not be read without.
    """
    by_section: dict[str, list[dict[str, Any]]] = {}
    for record in report_records(scores, subgroups):
        by_section.setdefault(record["section"], []).append(record)
    sections = [_section(name, records, scores) for name, records in by_section.items()]
    first = next((i for i, name in enumerate(by_section) if name in _DRAWN), len(sections))
    drawn = curves(kept, labels, _marks(kept, labels), calibrated=False)
    summary = (
        "ROC-AUC in percent, one class against the rest; mean and standard deviation over splits; "
        "of groups of people, with a 95 % interval and how many of their rows have the class."
    )
    return Page(
        title,
        f"{summary} Warning: {warning}." if warning else summary,
        made_of,
        (*sections[:first], *drawn, *sections[first:]),
    )


def _marks(kept: OutOfFold, labels: Labels) -> dict[str, dict[str, float]]:
    """Half, if it decides, and where one row in a hundred without the class is flagged."""
    found = {}
    for name in labels.scored_classes:
        rows, scores = kept.of(name)
        truth = labels.indicator(name)[rows]
        marks = {} if labels.kind == "multiclass" else {"default": DEFAULT_THRESHOLD}
        if 0 < truth.sum() < len(truth):
            chosen = choose_threshold(truth, scores, Target("fpr", FALSE_ALARMS))
            if chosen is not None:
                marks[f"{FALSE_ALARMS:.0%} false positives"] = chosen
        found[name] = marks
    return found


def _section(name: str, records: Sequence[dict[str, Any]], scores: Sequence[Score]) -> Section:
    """One line per item, one column per class, so that items can be compared at a glance."""
    lines: dict[str, dict[str, Cell]] = {}
    told = {record["item"] for record in records if record["roc_auc"] is not None}
    for record in records:
        if record["item"] in told:
            lines.setdefault(record["item"], {})[record["class"]] = _cell(record)
    others = list(dict.fromkeys(r["item"] for r in records if r["item"] not in told))
    note = f"Of too few rows to tell: {', '.join(others)}." if others else ""
    classes = list(dict.fromkeys(record["class"] for record in records))
    rows = [(item, [cells.get(one, Cell("")) for one in classes]) for item, cells in lines.items()]
    plots = pictures() if name in _DRAWN else None
    figures: list[Figure] = []
    if plots is not None and len(rows) > 1:
        figures.append(wide(plots.areas_picture(scores, section=name), f"ROC-AUC by {name}."))
    # Capitals stay: BPSN is no word.
    tables = [Table(["item", *classes], rows)] if rows else []
    return Section(name[:1].upper() + name[1:], note, tables, figures)


def _cell(record: dict[str, Any]) -> Cell:
    area = record["roc_auc"]
    if "std" in record:
        return Cell(f"{100 * area:.2f} ± {100 * record['std']:.2f}", area)
    rows = f"{record['positive']:,} of {record['rows']:,} rows"
    if area is None:
        return Cell(f"too few: {rows}")
    interval = f"[{100 * record['low']:.1f}, {100 * record['high']:.1f}]"
    return Cell(f"{100 * area:.2f} {interval}, {rows}", area)
