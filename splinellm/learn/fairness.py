"""Unintended bias towards groups of people: AUCs that say where a group's scores lie.

The three of Borkan, Dixon, Sorensen, Thain and Vasserman, "Nuanced Metrics for Measuring Unintended
Bias with Real Data for Text Classification" (WWW 2019, arXiv 1903.04561). With the rows of a group,
and the background, all others:

- subgroup AUC: of the group's rows alone. Low: the classifier cannot tell toxic from clean there.
- BPSN AUC: background positive, subgroup negative. Low: harmless rows of the group score like toxic
  ones of others; false alarms at any threshold.
- BNSP AUC: background negative, subgroup positive. Low: toxic rows of the group score like harmless
  ones of others; misses at any threshold.

Groups are too small more often than not. Where either side has fewer than :data:`MIN_ROWS` rows a
figure is None, and each that there is comes with a 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata

from splinellm.errors import LabelError
from splinellm.learn.labels import Labels
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.predictions import verdict_flags

MIN_ROWS = 10
"""On each side of a comparison; with fewer its figure is noise."""

MAX_GROUPS = 200
POWER = -5.0
"""Of the mean over groups: close to the worst of them, as in the contest of 2019 on these AUCs."""

FAIRNESS = "fairness"
"""Of a card's figures."""

Measure = Literal["subgroup", "BPSN", "BNSP"]
MEASURES: tuple[Measure, ...] = ("subgroup", "BPSN", "BNSP")
Members = Mapping[str, np.ndarray]
"""By group, whether each of N rows is of it."""

_95_PERCENT = 1.959964


@dataclass(frozen=True)
class Area:
    """An AUC with its interval.

    Parameters
    ----------
    value : float
        ROC-AUC.
    low, high : float
        Of the 95 % interval: DeLong's variance, symmetric in logits; where that is none, because
        the scores do not overlap, Wilson's.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Subgroup:
    """One group and one class.

    Parameters
    ----------
    group : str
        Its name.
    label : str
        The class, one against the rest.
    rows, positives : int
        Rows of the group, and those of them with the class.
    areas : mapping of str to Area or None
        By measure; None where either side has too few rows.
    fpr : float or None
        Share of the group's rows without the class that are said to have it; None where there are
        too few, or nobody says so.
    """

    group: str
    label: str
    rows: int
    positives: int
    areas: Mapping[Measure, Area | None]
    fpr: float | None = None

    @property
    def is_measured(self) -> bool:
        """Whether there is any AUC."""
        return any(area is not None for area in self.areas.values())


def area_with_interval(positive: np.ndarray, negative: np.ndarray) -> Area | None:
    """ROC-AUC of two sets of scores, with DeLong's interval (Biometrics 44, 1988).

    Parameters
    ----------
    positive, negative : ndarray, shape (M,) and (N,)
        Scores.

    Returns
    -------
    Area or None
        None if either side has fewer than :data:`MIN_ROWS`.
    """
    m, n = len(positive), len(negative)
    if min(m, n) < MIN_ROWS:
        return None
    ranks = rankdata(np.concatenate([positive, negative]))
    # Share of the other side that each row is above (a tie counts half): their means are the AUC.
    above = (ranks[:m] - rankdata(positive)) / n
    below = 1.0 - (ranks[m:] - rankdata(negative)) / m
    value = float(above.mean())
    variance = float(above.var(ddof=1) / m + below.var(ddof=1) / n)
    if variance <= 0.0:  # at 0 and 1, or all tied: as if a share of the smaller side was counted
        low, high = wilson(value, min(m, n))
    else:
        reach = _95_PERCENT * np.sqrt(variance) / (value * (1 - value))
        low, high = expit(logit(value) - reach), expit(logit(value) + reach)
    return Area(value, min(value, float(low)), max(value, float(high)))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that was counted in n rows."""
    z2 = _95_PERCENT**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = _95_PERCENT * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return center - float(reach), center + float(reach)


def subgroup_figures(
    truth: np.ndarray,
    scores: np.ndarray,
    members: Members,
    *,
    label: str,
    threshold: float | None = None,
    flagged: np.ndarray | None = None,
) -> list[Subgroup]:
    """Measure every group that has a row.

    Parameters
    ----------
    truth : ndarray, shape (N,)
        Zeros and ones.
    scores : ndarray, shape (N,)
        That rise with probability; of rows that were not trained on.
    members : mapping of str to ndarray, shape (N,), bool
        By group.
    label : str
        The class.
    threshold : float, optional
        For the false positive rate.
    flagged : ndarray, shape (N,), bool, optional
        Which rows are said to have the class, where a threshold does not tell.
    """
    is_positive = truth == 1
    if threshold is not None:
        flagged = scores >= threshold
    found = []
    for name, inside in members.items():
        if not inside.any():
            continue
        negatives = scores[inside & ~is_positive]
        sides: dict[Measure, tuple[np.ndarray, np.ndarray]] = {
            "subgroup": (scores[inside & is_positive], negatives),
            "BPSN": (scores[~inside & is_positive], negatives),
            "BNSP": (scores[inside & is_positive], scores[~inside & ~is_positive]),
        }
        fpr = None
        if flagged is not None and len(negatives) >= MIN_ROWS:
            fpr = float(flagged[inside & ~is_positive].mean())
        found.append(
            Subgroup(
                name,
                label,
                int(inside.sum()),
                int((inside & is_positive).sum()),
                {measure: area_with_interval(*pair) for measure, pair in sides.items()},
                fpr,
            )
        )
    return found


def out_of_fold_subgroups(kept: OutOfFold, labels: Labels, members: Members) -> list[Subgroup]:
    """Measure every group, class by class, on the scores that an evaluation kept."""
    found: list[Subgroup] = []
    for label in labels.scored_classes:
        rows, scores = kept.of(label)
        among = members_among(members, rows)
        found += subgroup_figures(labels.indicator(label)[rows], scores, among, label=label)
    return found


def power_mean(values: Sequence[float], power: float = POWER) -> float:
    """Generalised mean ``mean(v ** p) ** (1 / p)`` of positive numbers; 0.0 if one is 0."""
    array = np.asarray(values, np.float64)
    return 0.0 if (array <= 0).any() else float(np.mean(array**power) ** (1 / power))


def summary(subgroups: Iterable[Subgroup]) -> dict[Measure, float | None]:
    """The power mean over the groups that were measured, close to the worst of them."""
    groups = list(subgroups)
    found: dict[Measure, float | None] = {}
    for measure in MEASURES:
        values = [a.value for one in groups if (a := one.areas[measure]) is not None]
        found[measure] = power_mean(values) if values else None
    return found


def fairness_figures(
    labels: Labels,
    probabilities: np.ndarray,
    members: Members,
    thresholds: Mapping[str, float],
    measured_on: str,
) -> dict[str, Any]:
    """Measure groups for a card; empty if not one of them has enough rows.

    Parameters
    ----------
    labels : Labels
        The truth of N rows that were not trained on.
    probabilities : ndarray, shape (N, C)
        In the order of ``labels.classes``.
    members : mapping of str to ndarray, shape (N,), bool
        By group.
    thresholds : mapping of str to float
        By class.
    measured_on : str
        What the rows are.

    Returns
    -------
    dict
        ``measured on``; a row for each group, and class if there are several, with ``rows``,
        ``positive``, the three AUCs (None where a side has too few rows) with their intervals, and
        ``fpr`` of the verdict; the power mean of each AUC; and groups that are ``too small``.
    """
    several = len(labels.scored_classes) > 1
    rows: dict[str, Any] = {}
    small: dict[str, int] = {}
    said = verdict_flags(labels.kind, labels.classes, probabilities, thresholds)
    for label in labels.scored_classes:
        column = labels.classes.index(label)
        groups = subgroup_figures(
            labels.indicator(label),
            probabilities[:, column],
            members,
            label=label,
            flagged=said[:, column],
        )
        prefix = f"{label}: " if several else ""
        measured = [one for one in groups if one.is_measured]
        small |= {one.group: one.rows for one in groups if not one.is_measured}
        rows |= {prefix + one.group: _row(one) for one in measured}
        if measured:
            means = {f"{m}_auc": value for m, value in summary(measured).items()}
            rows[f"{prefix}power mean, p = {POWER:g}"] = means
    if not rows:
        return {}
    figures = {
        "measured on": f"{measured_on}; ROC-AUC of Borkan et al. 2019, none with fewer than "
        f"{MIN_ROWS} rows on a side, [95 % interval]",
        **rows,
    }
    if small:
        figures["too small"] = ", ".join(f"{name} ({n})" for name, n in small.items())
    return figures


def _row(one: Subgroup) -> dict[str, Any]:
    row: dict[str, Any] = {"rows": one.rows, "positive": one.positives}
    for measure, area in one.areas.items():
        row[f"{measure}_auc"] = None if area is None else area.value
        row[f"{measure}_95"] = None if area is None else [area.low, area.high]
    return row | {"fpr": one.fpr}


def members_among(members: Members | None, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Which of some rows are of which group."""
    return {name: inside[rows] for name, inside in (members or {}).items()}


def column_members(columns: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """Read groups from columns of a file.

    Parameters
    ----------
    columns : mapping of str to sequence
        Columns of truth values, or of numbers from 0 to 1 (a share of annotators; from one half on
        a row is of the group), are a group each, named like the column. In any other, each value
        is a group, or each item of a list; a row without a value is of none.

    Raises
    ------
    LabelError
        A column has no value, or more than :data:`MAX_GROUPS` different ones.
    """
    found: dict[str, np.ndarray] = {}
    for column, values in columns.items():
        present = [value for value in values if not _is_missing(value)]
        if not present:
            raise LabelError(f"column '{column[:80]}' names no group: it is empty")
        shares = [_share(value) for value in present]
        if all(share is not None for share in shares):
            found[column] = np.array([(_share(v) or 0.0) >= 0.5 for v in values], np.bool_)
            continue
        names = [_names(value) for value in values]
        groups = sorted({name for row in names for name in row})
        if len(groups) > MAX_GROUPS:
            raise LabelError(
                f"column '{column[:80]}' has {len(groups):,} different values, which are no groups",
                hint=f"at most {MAX_GROUPS}",
            )
        prefix = f"{column}: " if len(columns) > 1 else ""
        for name in groups:
            found[prefix + name] = np.array([name in row for row in names], np.bool_)
    return found


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _share(value: Any) -> float | None:
    """A truth value or a share of one, as a number; None for what is neither, 0 for no value."""
    if _is_missing(value):
        return 0.0
    if isinstance(value, (bool, np.bool_)):
        return float(value)
    words: dict[str, float] = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    read: Callable[[Any], float] = float
    try:
        share = read(value) if isinstance(value, (str, Real)) else -1.0
    except ValueError:
        return None
    return share if 0.0 <= share <= 1.0 else None


def _names(value: Any) -> set[str]:
    if _is_missing(value):
        return set()
    if isinstance(value, (list, tuple)):
        return {str(item) for item in value if not _is_missing(item)}
    return {str(value)}
