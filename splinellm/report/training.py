"""The page of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from splinellm.learn.coefficients import coefficients_of
from splinellm.learn.fairness import FAIRNESS
from splinellm.learn.learning_curve import learning_curve
from splinellm.learn.splits import stratified_splits
from splinellm.report.cells import (
    FIGURES,
    GROUP_FIGURES,
    figure_cell,
    has_thresholds,
    no_threshold,
    plain_cell,
)
from splinellm.report.figures import MOST_CLASSES, curves, pictures, wide
from splinellm.report.page import Cell, Figure, Page, Section, Table

if TYPE_CHECKING:
    from splinellm.learn.card import Card
    from splinellm.learn.classifier import Classifier
    from splinellm.learn.labels import Labels
    from splinellm.learn.out_of_fold import OutOfFold
    from splinellm.table import FeatureTable

_CURVE_FOLDS = 3
_SHOWN_ELSEWHERE = ("held out", FAIRNESS)


@dataclass(frozen=True, eq=False)
class Learned:
    """What a learning curve is drawn of.

    Parameters
    ----------
    table : FeatureTable
        Features of all rows.
    groups : ndarray of int or None
        Rows of one group are never on both sides of a split.
    seed : int
        Of shuffles.
    """

    table: FeatureTable
    groups: np.ndarray | None
    seed: int


def training_page(
    classifier: Classifier,
    *,
    made_of: Mapping[str, str],
    labels: Labels,
    kept: OutOfFold,
    learned: Learned | None = None,
) -> Page:
    """Make a page of a training.

    Parameters
    ----------
    classifier : Classifier
        What was trained.
    made_of : mapping of str to str
        See :func:`splinellm.report.figures.made_of`.
    labels : Labels
        Of all rows.
    kept : OutOfFold
        Probabilities of rows that were kept aside.
    learned : Learned, optional
        For a learning curve, which takes some more fits.
    """
    card = classifier.card
    marks = {name: {"threshold": limit} for name, limit in card.deciding_thresholds.items()}
    sections = [
        _held_out(card),
        *curves(kept, labels, marks, calibrated=True),
        *_coefficients(classifier),
        *([] if learned is None else _learning(card, labels, learned)),
        *_others(card),
        *_fairness(card),
        Section("Settings", tables=[_pairs("setting", card.settings)]),
    ]
    if card.weaknesses:
        sections.append(Section("Known weaknesses", " ".join(card.weaknesses)))
    return Page(
        card.name,
        f"A {card.kind} classifier of {', '.join(card.classes)}, trained on "
        f"{card.data['rows']:,} rows.",
        made_of,
        sections,
    )


def _held_out(card: Card) -> Section:
    figures = card.metrics["held out"]
    is_at_thresholds = has_thresholds(figures)
    rows = [
        (
            name,
            [
                Cell(f"{row['rows']:,}", row["rows"]),
                *(Cell(figure_cell(row, key, form), row[key]) for key, form in FIGURES.values()),
                *(
                    [Cell(f"{card.thresholds[name]:.4f}", card.thresholds[name])]
                    if is_at_thresholds
                    else []
                ),
            ],
        )
        for name, row in figures.items()
        if isinstance(row, dict)
    ]
    caption = f"{figures['measured on']}; in brackets 95 % intervals (bootstrap)"
    note = "" if card.deciding_thresholds else f"{no_threshold(figures)}."
    told = note[:1].upper() + note[1:]
    columns = ["class", "rows", *FIGURES, *(["threshold"] if is_at_thresholds else [])]
    table = Table(columns, rows, caption)
    return Section("Held out", told, [table])


def _coefficients(classifier: Classifier) -> list[Section]:
    found = coefficients_of(classifier)
    plots = pictures()
    if found is None or plots is None:
        return []
    by_class, unit = found
    source = classifier.card.provenance
    figures = [
        wide(
            plots.coefficients_picture(
                row, source.layers, source.features, unit=unit, title=f"coefficients of {name}"
            ),
            f"What speaks for {name} (above zero) and against it, by layer and feature.",
        )
        for name, row in list(by_class.items())[:MOST_CLASSES]
    ]
    return [Section("Coefficients", figures=figures)]


def _learning(card: Card, labels: Labels, learned: Learned) -> list[Section]:
    plots = pictures()
    estimator = card.settings["estimator"]
    if plots is None:
        return []
    splits = stratified_splits(labels, learned.groups, n_splits=_CURVE_FOLDS, seed=learned.seed)
    c = float(np.median(card.settings.get("C", 0.01)))
    sizes, train, test = learning_curve(
        learned.table.values, labels, splits, estimator=estimator, c=c, seed=learned.seed
    )
    if not len(sizes):
        return []
    told = "What more rows would bring: where the lines still approach each other, more would help."
    rows = [
        (
            f"{size:,}",
            [Cell(f"{100 * mean:.2f}", float(mean)) for mean in (a.mean(), b.mean())],
        )
        for size, a, b in zip(sizes.tolist(), train, test, strict=True)
    ]
    columns = ["rows learned from", "training rows", "held-out rows"]
    caption = "ROC-AUC in percent, mean over classes and folds; penalty as in the classifier"
    figure: Figure = wide(plots.learning_picture(sizes, train, test), "Learning curve.")
    return [Section("Learning curve", told, [Table(columns, rows, caption)], [figure])]


def _others(card: Card) -> list[Section]:
    """Further figures of the card, such as those of channels."""
    found = []
    for title, figures in card.metrics.items():
        rows = {k: v for k, v in figures.items() if isinstance(v, dict)}
        if title in _SHOWN_ELSEWHERE or not rows:
            continue
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        cells = [
            (name, [_number(row.get(column)) for column in columns]) for name, row in rows.items()
        ]
        caption = str(figures.get("measured on", ""))
        # Capitals stay, as in all headings.
        heading = title[:1].upper() + title[1:]
        told = [column.replace("_", " ") for column in columns]
        found.append(Section(heading, "", [Table(["item", *told], cells, caption)]))
    return found


def _fairness(card: Card) -> list[Section]:
    figures = card.metrics.get(FAIRNESS)
    if figures is None:
        return []
    rows = [
        (name, [Cell(plain_cell(row.get(k)), row.get(k)) for k in GROUP_FIGURES.values()])
        for name, row in figures.items()
        if isinstance(row, dict)
    ]
    table = Table(["group", *GROUP_FIGURES], rows, str(figures.get("measured on", "")))
    return [Section("Groups of people", "", [table])]


def _pairs(name: str, values: Mapping[str, Any]) -> Table:
    return Table([name, "value"], [(key, [Cell(_told(value))]) for key, value in values.items()])


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> Cell:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell("" if value is None else _told(value))
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:.4f}", float(value))
