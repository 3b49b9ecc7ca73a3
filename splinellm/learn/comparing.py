"""Two tables of features: how far apart each column is, and whether they are apart at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import ks_2samp, mannwhitneyu, norm
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.table import FeatureTable

CONFIDENCE = 0.95
LEAST_ROWS = 8
"""Of each table: below, a half of it tells nothing."""

_MOST_COMPONENTS = 50


@dataclass(frozen=True, eq=False)
class Effects:
    """Hedges' g of each column between two groups of rows, b minus a, in pooled deviations.

    Parameters
    ----------
    size, low, high : ndarray, shape (C,)
        The effect and its 95 % interval, by the normal approximation.
    """

    size: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Moments:
    """What an effect size needs of N rows.

    Parameters
    ----------
    n_rows : int
        N, at least two.
    mean, variance, largest : ndarray, shape (C,)
        Of each column; the variance with ddof = 1, `largest` of absolute values.
    """

    n_rows: int
    mean: np.ndarray
    variance: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Measure rows, shape (N, C).

        Raises
        ------
        ConfigurationError
            There are fewer than two.
        """
        if len(values) < 2:
            raise ConfigurationError("an effect size needs at least two rows of each group")
        values = values.astype(np.float64)
        return cls(
            len(values), values.mean(axis=0), values.var(axis=0, ddof=1), np.abs(values).max(axis=0)
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """What :func:`compare` found.

    Parameters
    ----------
    layers : tuple of int
        Those that both tables have.
    features : tuple of str
        Likewise.
    names : tuple of str, length L * F
        Of the columns.
    effects : Effects
        Of the columns, in their order.
    distances : ndarray, shape (L * F,)
        Of the columns; see :func:`column_distances`.
    n_rows : (int, int)
        Of both tables.
    roc_auc : float
        Of a classifier that tells the tables apart, on rows that it has not learned from.
    p_value : float
        Of the chance that two samples of the same rows were told apart so well.
    difference : str or None
        First difference of what the tables come from, such as their model.
    """

    layers: tuple[int, ...]
    features: tuple[str, ...]
    names: tuple[str, ...]
    effects: Effects
    distances: np.ndarray
    n_rows: tuple[int, int]
    roc_auc: float
    p_value: float
    difference: str | None

    def largest(self, n: int) -> list[int]:
        """Columns whose intervals are farthest from zero, the farthest first."""
        effects = self.effects
        margin = np.maximum(np.maximum(effects.low, -effects.high), 0.0)
        order = np.lexsort((-np.abs(effects.size), -margin))
        return [int(i) for i in order[:n]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        columns = zip(
            self.names,
            *(column.tolist() for column in vars(self.effects).values()),
            self.distances.tolist(),
            strict=True,
        )
        return {
            "rows": list(self.n_rows),
            "difference": self.difference,
            "test": {"roc_auc": self.roc_auc, "p_value": self.p_value},
            "effects": [
                dict(zip(("column", "size", "low", "high", "distance"), c, strict=True))
                for c in columns
            ],
        }


def effect_sizes(a: np.ndarray, b: np.ndarray) -> Effects:
    """Hedges' g of each column.

    Parameters
    ----------
    a, b : ndarray, shapes (N, C) and (M, C)
        At least two rows each. A column that is the same everywhere has an effect of zero; one
        that differs between the groups, and not within them, has the largest that is finite here,
        1,000.
    """
    return effects_of(Moments.of(a), Moments.of(b))


def effects_of(a: Moments, b: Moments) -> Effects:
    """Hedges' g of each column, from what is known of two groups; see :func:`effect_sizes`."""
    n, m = a.n_rows, b.n_rows
    gap = b.mean - a.mean
    pooled = np.sqrt(((n - 1) * a.variance + (m - 1) * b.variance) / (n + m - 2))
    scale = np.maximum(a.largest, b.largest)
    gap[np.abs(gap) <= 1e-9 * scale] = 0.0  # rounding of equal columns
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = np.where(gap == 0, 0.0, gap / pooled)
    correction = 1 - 3 / (4 * (n + m) - 9)
    size = np.clip(raw * correction, -1e3, 1e3)
    error = np.sqrt((n + m) / (n * m) + size**2 / (2 * (n + m)))
    reach = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Effects(size, size - reach, size + reach)


def column_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kolmogorov and Smirnov's distance of each column: the largest gap between distributions.

    Parameters
    ----------
    a, b : ndarray, shapes (N, C) and (M, C)
        At least one row each.

    Returns
    -------
    ndarray, shape (C,)
        0 for equal distributions, 1 for such as do not overlap.
    """
    pairs = zip(a.T, b.T, strict=True)
    return np.array([ks_2samp(x, y, method="asymp").statistic for x, y in pairs], np.float64)


def compare(a: FeatureTable, b: FeatureTable, *, seed: int = 0) -> Comparison:
    """Compare two tables of prompts, column by column and as a whole.

    The test is that of a classifier: logistic regression on principal components learns from a
    half of the rows which table they are of, and tells of the other half; the p-value is that of
    Mann and Whitney's rank test of its scores there. It holds for rows drawn independently.

    Parameters
    ----------
    a, b : FeatureTable
        Columns that only one of them has are left out; so it may be of two models.
    seed : int
        Of the halves.

    Raises
    ------
    TableFormatError
        The rows do not stand for prompts, or no layer or no feature is in both.
    ConfigurationError
        There are too few rows.
    """
    for table, name in ((a, "the first table"), (b, "the second table")):
        table.provenance.require_prompts(name)
        if len(table) < LEAST_ROWS:
            raise ConfigurationError(
                f"{name} has {len(table)} rows", hint=f"compare at least {LEAST_ROWS} of each"
            )
    if a.provenance.n_blocks != b.provenance.n_blocks and any("block" in n for n in a.names):
        raise TableFormatError("the tables have sign blocks of different sizes")
    layers = [layer for layer in a.schema.layers if layer in b.schema.layers]
    features = [name for name in a.schema.features if name in b.schema.features]
    if not layers or not features:
        raise TableFormatError("the tables have no column in common")
    left, right = (table.select(layers, features) for table in (a, b))
    area, p_value = _told_apart(left.values, right.values, seed)
    return Comparison(
        tuple(layers),
        tuple(features),
        left.names,
        effect_sizes(left.values, right.values),
        column_distances(left.values, right.values),
        (len(a), len(b)),
        area,
        p_value,
        a.provenance.first_difference(b.provenance),
    )


def _told_apart(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float]:
    values = np.concatenate([a, b]).astype(np.float64)
    owner = np.repeat([0, 1], [len(a), len(b)])
    learn, test, learn_owner, test_owner = train_test_split(
        values, owner, test_size=0.5, stratify=owner, random_state=seed
    )
    n_components = max(1, min(_MOST_COMPONENTS, len(learn) // 4, values.shape[1]))
    model = make_pipeline(
        StandardScaler(),
        PCA(n_components, random_state=seed),
        StandardScaler(),
        LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000),
    )
    scores: np.ndarray = model.fit(learn, learn_owner).decision_function(test)
    ones, zeros = scores[test_owner == 1], scores[test_owner == 0]
    found = mannwhitneyu(ones, zeros, alternative="greater")
    return float(found.statistic / (len(ones) * len(zeros))), float(found.pvalue)


def groups_of(labels: Sequence[object], names: Sequence[str] | None = None) -> tuple[str, str]:
    """The two labels that rows are to be compared by.

    Raises
    ------
    ConfigurationError
        There are not two of them, and none were named, or one that was named is not there.
    """
    found = sorted({str(label) for label in labels})
    if names is None:
        if len(found) != 2:
            raise ConfigurationError(
                f"effect sizes are between two labels, and there are {len(found)}",
                hint="name two of them with --between A,B, or between=[A, B] in Python: "
                + ", ".join(label[:40] for label in found[:20]),
            )
        return found[0], found[1]
    if len(names) != 2 or not set(names) <= set(found):
        missing = next((name for name in names if name not in found), "")
        raise ConfigurationError(f"there are no two labels so named, such as '{missing[:80]}'")
    return names[0], names[1]
