"""Figures of a classifier's card on the terminal, and what must be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from splinellm.cli import fairness
from splinellm.cli.tables import table, wrapped

if TYPE_CHECKING:
    from splinellm.learn.card import Card
    from splinellm.learn.metrics import Target


def card_tables(card: Card) -> list[str]:
    """Lay out what a card says of rows that were kept aside."""
    from splinellm.learn.fairness import FAIRNESS
    from splinellm.learn.lengths import BY_LENGTH
    from splinellm.report.cells import no_threshold

    held_out = card.metrics["held out"]
    told = held_out["measured on"]
    others = [one for one in ("channels", "uncertain", BY_LENGTH) if one in card.metrics]
    found = [
        *([] if card.deciding_thresholds else [wrapped(no_threshold(held_out))]),
        figures_table(held_out, card.thresholds),
        *(plain_table(one, card.metrics[one], told) for one in others),
    ]
    if FAIRNESS in card.metrics:
        found.append(fairness.card_table(card.metrics[FAIRNESS]))
    return found


def figures_table(
    figures: Mapping[str, Any], thresholds: Mapping[str, float], *, title: str = "held out"
) -> str:
    """Format held-out figures, or others with the same names, for the terminal."""
    from splinellm.report.cells import FIGURES, figure_cell, has_thresholds

    measured = {name: row for name, row in figures.items() if isinstance(row, dict)}
    shown = {
        heading: told
        for heading, told in FIGURES.items()
        if any(told[0] in row for row in measured.values())
    }
    has_threshold = has_thresholds(figures)
    rows = [
        (
            name,
            f"{row['rows']:,}",
            *(figure_cell(row, key, form) for key, form in shown.values()),
            *([f"{row.get('threshold', thresholds[name]):.4f}"] if has_threshold else []),
        )
        for name, row in measured.items()
    ]
    columns = ("", "rows", *shown, *(["threshold"] if has_threshold else []))
    cells = table(columns, rows, numbers_from=1)
    told = f"{title}: {figures['measured on']}; in brackets 95 % intervals (bootstrap)"
    return f"{wrapped(told)}\n{cells}"


def target_warnings(
    target: Target | None, figures: Mapping[str, Any], unreached: Sequence[str]
) -> list[str]:
    """What must be said of a target that no threshold reaches, or that is missed held out."""
    from splinellm.learn.metrics import misses
    from splinellm.report.cells import figure_cell

    found = []
    for name, row in figures.items():
        if target is None or not isinstance(row, dict):
            continue
        reached = figure_cell(row, target.measure, ".2%")
        wanted = f"{target.measure} {target.value:g}"
        if name in unreached:
            found.append(
                f"warning: no threshold reaches {wanted} for '{name}'; the nearest was taken, with "
                f"{reached} held out"
            )
        elif misses(target, row):
            found.append(f"warning: {wanted} was not reached for '{name}' held out: {reached}")
    return found


def plain_table(title: str, figures: Mapping[str, Any], told: str) -> str:
    """Format other figures of a card for the terminal; says which rows, if not those of `told`."""
    rows = {name: row for name, row in figures.items() if isinstance(row, dict)}
    columns = list(next(iter(rows.values())))
    cells = [(name, *(_cell(row[column]) for column in columns)) for name, row in rows.items()]
    names = (column.replace("_", " ") for column in columns)
    shown = table((title, *names), cells, numbers_from=1)
    measured_on = figures.get("measured on", told)
    return shown if measured_on == told else f"{wrapped(f'{title}: {measured_on}')}\n{shown}"


def _cell(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"


def length_warning(card: Card) -> str | None:
    """Say so if it is not known what a classifier does with longer texts."""
    from splinellm.learn.lengths import BY_LENGTH, TRIED_UP_TO

    end = card.metrics.get(BY_LENGTH, {}).get(TRIED_UP_TO)
    if end is None:
        return None
    return (
        f"few or none of these rows have over {end:,} tokens: how far the probabilities hold for "
        "longer texts is not known; predict warns from twice that"
    )
