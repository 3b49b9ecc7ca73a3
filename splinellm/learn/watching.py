"""What features and scores are usually like, and whether others are still like that.

A sketch of a table stands for it: moments and quantiles of every column, and no row. What comes
later is compared with it by the statistics of :mod:`splinellm.learn.comparing`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import kstwobign

from splinellm.errors import ArtifactError, ConfigurationError, OutputError, TableFormatError
from splinellm.io.unfinished import replace_whole
from splinellm.layout import N_TOKENS
from splinellm.learn.comparing import Effects, Moments, column_distances, effects_of
from splinellm.learn.handed import require_match
from splinellm.learn.pooled import Pooled
from splinellm.learn.predictions import PROBABILITY
from splinellm.provenance import Provenance
from splinellm.table import FeatureTable, schema_of

if TYPE_CHECKING:
    from splinellm.learn.card import Card
    from splinellm.learn.classifier import Classifier

LEAST_ROWS = 100
"""Of a sketch, and of what is compared with it: fewer tell nothing of single columns."""
FALSE_ALARMS = 0.001
"""Share of comparisons with rows like the sketch's in which any column seems to differ."""

_QUANTILES = 257
_VERSION = 1


def score_columns(card: Card) -> tuple[str, ...]:
    """Names of a classifier's scores, as ``predict`` writes them; of two classes, the second."""
    classes = card.classes[1:] if card.kind == "binary" else card.classes
    return tuple(f"{PROBABILITY}.{name}" for name in classes)


@dataclass(frozen=True, eq=False)
class Drift:
    """How far rows are from a sketch.

    Parameters
    ----------
    names : tuple of str, length C
        Columns.
    distances : ndarray, shape (C,)
        Kolmogorov and Smirnov's, of each.
    effects : Effects
        Of each: how far the rows are above the sketch.
    limit : float
        Distance that the largest of rows like the sketch's reaches once in a thousand times.
    n_rows : (int, int)
        Of the sketch, and of what was compared.
    """

    names: tuple[str, ...]
    distances: np.ndarray
    effects: Effects
    limit: float
    n_rows: tuple[int, int]

    @property
    def value(self) -> float:
        """The largest distance, in limits: above 1 is drift."""
        return float(self.distances.max()) / self.limit

    def largest(self, n: int) -> list[int]:
        """Columns that are farthest away, the farthest first."""
        return [int(i) for i in np.argsort(-self.distances, kind="stable")[:n]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        effects = self.effects
        columns = zip(
            self.names,
            self.distances.tolist(),
            effects.size.tolist(),
            effects.low.tolist(),
            effects.high.tolist(),
            strict=True,
        )
        names = ("column", "distance", "size", "low", "high")
        return {
            "drift": self.value,
            "limit": self.limit,
            "rows": list(self.n_rows),
            "columns": [dict(zip(names, one, strict=True)) for one in columns],
        }


@dataclass(frozen=True, eq=False)
class Sketch:
    """Distributions of columns: features, lengths, a classifier's scores. No row, no text.

    Parameters
    ----------
    names : tuple of str, length C
        Columns.
    moments : Moments
        Of each.
    quantiles : ndarray, shape (Q, C)
        From the least to the largest value of each.
    provenance : Provenance or None
        Of the features, if there are any.
    classifier : str or None
        Hash of the classifier whose scores are among the columns.
    """

    names: tuple[str, ...]
    moments: Moments
    quantiles: np.ndarray
    provenance: Provenance | None = None
    classifier: str | None = None

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        values: np.ndarray,
        provenance: Provenance | None = None,
        classifier: str | None = None,
    ) -> Sketch:
        """Sketch rows, shape (N, C).

        Raises
        ------
        ConfigurationError
            There are too few.
        """
        _require_enough(len(values), "a reference")
        shares = np.linspace(0.0, 1.0, _QUANTILES)
        quantiles = np.quantile(values, shares, axis=0, method="inverted_cdf")
        return cls(tuple(names), Moments.of(values), quantiles, provenance, classifier)

    def drift(self, values: np.ndarray) -> Drift:
        """Compare rows, shape (M, C), in the order of the names.

        Raises
        ------
        ConfigurationError
            There are too few.
        """
        _require_enough(len(values), "what is compared")
        n, m = self.moments.n_rows, len(values)
        chance = float(kstwobign.isf(FALSE_ALARMS / len(self.names)))
        # The quantiles stand for distributions that they are within one step of.
        limit = chance * math.sqrt((n + m) / (n * m)) + 1.0 / (len(self.quantiles) - 1)
        return Drift(
            self.names,
            column_distances(self.quantiles, values),
            effects_of(self.moments, Moments.of(values)),
            min(1.0, limit),
            (n, m),
        )

    def require(self, classifier: Classifier) -> None:
        """Refuse a classifier that does not compute what is in the sketch.

        Raises
        ------
        ArtifactError
            Names the first difference.
        """
        card = classifier.card
        scores = [name for name in self.names if name.startswith(f"{PROBABILITY}.")]
        if scores and self.classifier != card.classifier_sha256:
            raise ArtifactError(
                f"the reference is of another classifier than '{card.name}'",
                hint="make it anew: splinellm watch TABLE --classifier NAME -o FILE",
            )
        if unknown := sorted(set(scores).difference(score_columns(card))):
            raise ArtifactError(f"classifier '{card.name}' has no {unknown[0][:80]}")
        if self.provenance is None:
            return
        if isinstance(classifier, Pooled):
            raise ArtifactError(
                f"the reference has features of prompts, and '{card.name}' scores tokens",
                hint="make it of what predict wrote, with --classifier",
            )
        require_match(self.provenance, card.provenance)

    def to_json(self) -> str:
        """Serialise."""
        moments = {
            key: value if isinstance(value, int) else value.tolist()
            for key, value in vars(self.moments).items()
        }
        return json.dumps(
            {
                "reference_version": _VERSION,
                "names": list(self.names),
                "moments": moments,
                "quantiles": self.quantiles.tolist(),
                "provenance": self.provenance and dataclasses.asdict(self.provenance),
                "classifier": self.classifier,
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Sketch:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        TableFormatError
            It is something else, or of another version.
        """
        try:
            record = json.loads(text)
            if record["reference_version"] != _VERSION:
                raise TableFormatError(
                    f"reference version {record['reference_version']} is not {_VERSION}",
                    hint="make it anew with splinellm watch",
                )
            source = record["provenance"]
            told = record["moments"]
            arrays = [np.array(told[key], np.float64) for key in ("mean", "variance", "largest")]
            quantiles = np.array(record["quantiles"], np.float64)
            names = tuple(map(str, record["names"]))
            sizes = {len(names), *(len(one) for one in arrays), quantiles.shape[1]}
            if len(sizes) != 1 or not all(np.isfinite(one).all() for one in (*arrays, quantiles)):
                raise TableFormatError("the reference is damaged: its columns do not fit")
            return cls(
                names,
                Moments(int(told["n_rows"]), *arrays),
                quantiles,
                None if source is None else Provenance.from_json(json.dumps(source)),
                record["classifier"],
            )
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise TableFormatError(f"this is no reference of splinellm watch: {error}") from error


def read_sketch(path: Path) -> Sketch:
    """Read a reference from a file.

    Raises
    ------
    TableFormatError
        It holds none.
    ConfigurationError
        It cannot be read.
    """
    try:
        return Sketch.from_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read '{path}': {error.strerror or error}") from error


def write_sketch(sketch: Sketch, path: Path) -> None:
    """Write a reference.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    try:
        replace_whole(path, f"{sketch.to_json()}\n".encode())
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def watched_values(
    names: Sequence[str],
    n_tokens: np.ndarray,
    scores: Mapping[str, np.ndarray],
    table: FeatureTable | None = None,
) -> np.ndarray:
    """Put columns side by side, shape (N, C).

    Parameters
    ----------
    names : sequence of str
        C columns: features, ``n_tokens``, scores.
    n_tokens : ndarray, shape (N,)
        Lengths.
    scores : mapping of str to ndarray, shape (N,)
        By name of the column.
    table : FeatureTable, optional
        Features of N prompts.

    Raises
    ------
    TableFormatError
        A column is not there.
    """
    known = {} if table is None else {name: i for i, name in enumerate(table.names)}
    found = np.empty((len(n_tokens), len(names)), np.float64)
    for place, name in enumerate(names):
        if name == N_TOKENS:
            found[:, place] = n_tokens
        elif name in scores:
            found[:, place] = scores[name]
        elif table is not None and name in known:
            found[:, place] = table.values[:, known[name]]
        else:
            raise TableFormatError(f"there is no column '{name[:80]}' to be watched")
    return found


def columns_of(table: FeatureTable | None, card: Card | None) -> tuple[str, ...]:
    """What is watched of a table, and of a classifier's scores."""
    features = () if table is None else schema_of(table.provenance).names
    return (*features, N_TOKENS, *(() if card is None else score_columns(card)))


def _require_enough(n_rows: int, what: str) -> None:
    if n_rows < LEAST_ROWS:
        raise ConfigurationError(f"{what} has {n_rows} rows", hint=f"{LEAST_ROWS} are needed")
