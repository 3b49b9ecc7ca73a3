"""Groups of people in ``train`` and ``evaluate``: the options, who is of which, the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from splinellm.cli.tables import table, wrapped
from splinellm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from splinellm.learn.dataset import Dataset
    from splinellm.learn.fairness import Area, Subgroup
    from splinellm.learn.labels import Labels

Subgroups = Annotated[
    str | None,
    typer.Option(
        metavar="COL[,COL]",
        envvar="SPLINELLM_SUBGROUPS",
        help="Measure unintended bias towards groups: a column that names the group of a row (or a "
        "list of them), or columns of 0/1, one a group.",
    ),
]
IdentityTerms = Annotated[
    bool | None,
    typer.Option(
        envvar="SPLINELLM_IDENTITY_TERMS",
        help="Measure unintended bias towards groups of people named in the texts, by a built-in "
        "list of words; by default where texts are there and labels are yes or no.",
    ),
]


def members_of(
    rows: Dataset, labels: Labels, subgroups: str | None, identity_terms: bool | None
) -> dict[str, np.ndarray]:
    """Find which rows are of which group; empty if nothing is to be measured."""
    from splinellm.learn.fairness import column_members
    from splinellm.learn.identity_terms import identity_members

    found: dict[str, np.ndarray] = {}
    if subgroups is not None:
        names = [name.strip() for name in subgroups.split(",") if name.strip()]
        if not names:
            raise typer.BadParameter("--subgroups names no column")
        found |= column_members({name: rows.column(name) for name in names})
    if identity_terms and rows.texts is None:
        raise ConfigurationError(
            f"--identity-terms reads texts, and '{rows.name}' has none", hint="use --subgroups"
        )
    is_yes_or_no = labels.kind != "multiclass"
    wanted = is_yes_or_no if identity_terms is None else identity_terms
    if wanted and rows.texts is not None:
        told = identity_members(rows.texts)
        # A column of the user's may be called like a built-in group.
        found |= {f"{n} (named)" if n in found else n: inside for n, inside in told.items()}
    return found


def subgroups_table(subgroups: Sequence[Subgroup]) -> str:
    """Lay out the figures of groups; those of which nothing is known in a line below."""
    from splinellm.learn.fairness import MEASURES, MIN_ROWS, POWER, summary

    columns = ("group", "class", "rows", "positive", *(f"{measure} AUC" for measure in MEASURES))
    cells: list[tuple[str, ...]] = []
    small: dict[str, int] = {}
    for label in dict.fromkeys(one.label for one in subgroups):
        measured = [one for one in subgroups if one.label == label and one.is_measured]
        for one in measured:
            areas = (_area(one.areas[measure]) for measure in MEASURES)
            cells.append((one.group, label, f"{one.rows:,}", f"{one.positives:,}", *areas))
        if measured:
            means = summary(measured)
            told = ("" if v is None else f"{v:.2%}" for v in map(means.get, MEASURES))
            cells.append((f"power mean, p = {POWER:g}", label, "", "", *told))
    small = {one.group: one.rows for one in subgroups if not one.is_measured}
    lines = [table(columns, cells, numbers_from=2)] if cells else []
    if small:
        names = ", ".join(f"{name} ({n:,})" for name, n in small.items())
        lines.append(wrapped(f"groups with fewer than {MIN_ROWS} rows on a side: {names}"))
    return "\n".join(lines)


def _area(area: Area | None) -> str:
    return "" if area is None else f"{area.value:.2%} [{100 * area.low:.1f}, {100 * area.high:.1f}]"


def card_table(figures: Mapping[str, Any]) -> str:
    """Lay out a card's figures of groups."""
    from splinellm.report.cells import GROUP_FIGURES, plain_cell

    rows = {name: row for name, row in figures.items() if isinstance(row, dict)}
    cells = [
        (name, *(plain_cell(row.get(key)) for key in GROUP_FIGURES.values()))
        for name, row in rows.items()
    ]
    return table(("group", *GROUP_FIGURES), cells, numbers_from=1)
