"""Every statistic there is: its columns, how it is computed, and what is to be said of it.

The rest is made from this one list: names and their order (:mod:`splinellm.schema`, the service's
OpenAPI document), the reduction inside the hooks (:mod:`splinellm.backbone.reduction`), the check
by :meth:`splinellm.extraction.SplineExtractor.verify`, the table in docs/features.md. A new
statistic is a function that :mod:`splinellm.geometry` exports, and an entry of :data:`ENTRIES`.

An entry says its number twice: by the name of a fast kernel, and as a slow formula, written out on
NumPy arrays in float64, which shares no arithmetic with it. Neither torch nor NumPy is imported,
since names are wanted by programs that compute nothing.

Shape letters: N tokens, K hyperplanes, H heads, T tokens that are attended, C columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from splinellm.errors import SchemaError

if TYPE_CHECKING:
    import numpy as np

Merge = Literal["mean", "min", "max", "std", "share", "last"]
"""What a column of a prompt is of the numbers of its tokens.

``mean``, ``min``, ``max`` and ``std`` (ddof = 1; 0.0 for one token) of a number per token.
``share``, of hyperplanes counted per token: the mean of their share. ``last``, of the attention:
the number of the last token, the only one that is computed for a prompt.
"""

DEFAULT_SIGN_BLOCKS = 32


@dataclass(frozen=True)
class Tolerance:
    """How far the fast and the slow number may be apart in `verify`.

    Parameters
    ----------
    kind : {"sign", "distance", "dimension"}
        Which figures of the report it goes into. ``sign``: absolute. ``distance``: relative, beyond
        a floor, for all but a few values. ``dimension``: absolute, and few may differ at all.
    largest, in_half : float
        In float32, and in half precision; infinite where that is not judged.
    """

    kind: Literal["sign", "distance", "dimension"]
    largest: float
    in_half: float = math.inf


@dataclass(frozen=True)
class Statistic:
    """Numbers of a single token, and what a prompt has of them.

    Parameters
    ----------
    name : str
        Also its kernel's, unless that has another.
    made_of : tuple of str
        What the kernel takes. Of a layer's gate: ``h`` (L, B, T, K), ``norms`` (L, 1, 1, K),
        ``rms`` (L, B, T) of its inputs, and other statistics, by name, which are computed once for
        all. Of the attention: ``scores`` (..., H, T) of a token and ``rule``.
    columns : mapping of str to Merge
        Columns of a prompt and of a prefix, in order. If one is a ``share``, all are; if the
        kernel is of the attention, all are ``last``.
    token_columns : tuple of str
        Columns of a single token.
    slow : callable
        The definition, in float64. Of a gate: takes h (N, K), norms (K,) and, if it is made of
        that, rms (N,); gives (N,) or (N, C).
        Of the attention: takes the last token's weights (H, T) and the rule, gives one number.
    meaning, values : str
        For the documents: what it is of a token, and what a prompt's columns can be.
    tolerance : Tolerance
        How exact the kernel is.
    holds_in_half : bool
        Whether it is worth anything in half precision.
    sets : tuple of str
        Items of a feature list that stand for all its columns, maybe with those of others.
    kernel : str
        Function in :mod:`splinellm.geometry`: of a gate it gives (L, B, T), or counts (L, B, T, C)
        for ``share``; of the attention (...).
    parameters : tuple
        What the kernel takes behind `made_of`.
    """

    name: str
    made_of: tuple[str, ...]
    columns: Mapping[str, Merge]
    token_columns: tuple[str, ...]
    slow: Callable[..., Any] = field(repr=False)
    meaning: str
    values: str
    tolerance: Tolerance
    holds_in_half: bool = True
    sets: tuple[str, ...] = ()
    kernel: str = ""
    parameters: tuple[Any, ...] = ()

    @property
    def is_of_attention(self) -> bool:
        """Whether it is made of the attention, and not of a gate."""
        return "scores" in self.made_of

    @property
    def items(self) -> tuple[str, ...]:
        """What a feature list may name it by; as regular expressions they match themselves."""
        return (*self.sets, *self.columns)

    @property
    def singles(self) -> tuple[str, ...]:
        """Names of single columns, for people."""
        return tuple(self.columns)

    def read(self, item: str) -> tuple[str, ...]:
        """Columns that an item of a feature list stands for."""
        if item in self.sets:
            return tuple(self.columns)
        return (item,) if item in self.columns else ()

    def among(self, names: Iterable[str], n_blocks: int) -> Sequence[Statistic]:  # noqa: ARG002
        """Itself, if one of its columns is there; see :meth:`Family.among`."""
        wanted = {*self.columns, *self.token_columns}
        return [] if wanted.isdisjoint(names) else [self]


@dataclass(frozen=True)
class Family:
    """Statistics that differ in a number, which a feature list names behind a colon.

    Parameters
    ----------
    keyword : str
        Item of a feature list that stands for all columns of the one with the default number.
    number : str
        Regular expression of what may be behind the colon.
    default : str
        The number where none is given.
    column : str
        Regular expression of the columns' names. Where it has a group ``number``, the names say
        which statistic they belong to; otherwise a selection has one of them, with its `n_blocks`.
    items : tuple of str
        Regular expressions of what a feature list may name it by.
    sets, singles : tuple of str
        The same for people: items that stand for all columns, and those that name one.
    make : callable
        The statistic with a number.
    canonical : callable
        Spells a number as names do.
    """

    keyword: str
    number: str
    default: str
    column: str
    items: tuple[str, ...]
    sets: tuple[str, ...]
    singles: tuple[str, ...]
    make: Callable[[str], Statistic]
    canonical: Callable[[str], str] = str

    def number_in(self, item: str) -> str | None:
        """The number of an item that stands for all columns; None if it does not."""
        match = re.fullmatch(f"{self.keyword}(?::({self.number}))?", item)
        if match is None:
            return None
        return self.default if match[1] is None else self.canonical(match[1])

    def read(self, item: str) -> tuple[str, ...]:
        """Columns that an item of a feature list stands for."""
        if (number := self.number_in(item)) is not None:
            return tuple(self.make(number).columns)
        if (match := re.fullmatch(self.column, item)) is None:
            return ()
        number = match.groupdict().get("number")
        return (item,) if number is None or item in self.make(number).columns else ()

    def among(self, names: Iterable[str], n_blocks: int) -> Sequence[Statistic]:
        """The statistics to which any of these columns belong.

        Parameters
        ----------
        names : iterable of str
            Columns of prompts or of tokens.
        n_blocks : int
            Of the selection.
        """
        found = [match for name in names if (match := re.fullmatch(self.column, name))]
        numbers = {match.groupdict().get("number", str(n_blocks)) for match in found}
        return [self.make(number) for number in sorted(numbers, key=float)]


def _sign_fraction(h: np.ndarray, _norms: np.ndarray) -> np.ndarray:
    shares: np.ndarray = (h > 0).mean(axis=1)
    return shares


def _sign_entropy(h: np.ndarray, _norms: np.ndarray) -> list[float]:
    shares = [(float(s), 1.0 - float(s)) for s in (h > 0).mean(axis=1)]
    return [sum(-p * math.log2(p) for p in both if p > 0) for both in shares]


def _complexity(number: str) -> Statistic:
    radius = float(number)

    def slow(h: np.ndarray, norms: np.ndarray, rms: np.ndarray) -> list[float]:
        is_plane = norms > 0
        distances = abs(h[:, is_plane]) / norms[is_plane]
        near = [
            int((mine < radius * size).sum()) for mine, size in zip(distances, rms, strict=True)
        ]
        return [count / h.shape[1] for count in near]

    name = f"complexity_{number}"
    return Statistic(
        name,
        made_of=("h", "norms", "rms"),
        columns={f"{name}_mean": "mean", f"{name}_std": "std"},
        token_columns=(name,),
        slow=slow,
        meaning="share of the hyperplanes that are nearer than R root mean squares of *x*",
        values=f"0 to 1; `{name}_std` 0 to 0.71",
        tolerance=_SIGN,
        holds_in_half=radius >= _LEAST_RADIUS_IN_HALF,
        kernel="complexity",
        parameters=(radius,),
    )


def _radius(spelled: str) -> str:
    """The number of `complexity:0.050` as columns spell it, ``0.05``."""
    is_number = re.fullmatch(r"[0-9]{0,12}\.?[0-9]{1,12}(?:[eE][-+]?[0-9]{1,2})?", spelled)
    plain = format(Decimal(spelled).normalize(), "f") if is_number else ""
    if not re.fullmatch(_RADIUS, plain):
        raise SchemaError(
            f"'complexity:{spelled[:40]}' asks for an impossible radius",
            hint="name a positive one below 1000, of at most six decimals, as in complexity:0.05",
        )
    return plain


def _hyperplane_distance(h: np.ndarray, norms: np.ndarray) -> np.ndarray:
    is_plane = norms > 0  # a row of zeros is no hyperplane
    distances: np.ndarray = (abs(h[:, is_plane]) / norms[is_plane]).min(axis=1, initial=math.inf)
    return distances


def _intrinsic_dimension(weights: np.ndarray, rule: Any) -> int:
    count = 0
    for head in weights:
        limit = rule.threshold * (head.max() if rule.kind == "relative" else 1.0)
        count += int((head > limit).sum())
    return count


def _sign_blocks(number: str) -> Statistic:
    n_blocks = int(number)
    columns = tuple(f"sign_block_{block:02d}" for block in range(n_blocks))

    def slow(h: np.ndarray, _norms: np.ndarray) -> list[list[float]]:
        bounds = [block * h.shape[1] // n_blocks for block in range(n_blocks + 1)]
        parts = list(pairwise(bounds))
        return [[float((token[a:b] > 0).mean()) for a, b in parts] for token in h]

    return Statistic(
        "sign_blocks",
        made_of=("h",),
        columns=dict.fromkeys(columns, "share"),
        token_columns=columns,
        slow=slow,
        meaning="share of positive signs in each of B blocks of hyperplanes",
        values="0 to 1",
        tolerance=_SIGN,
        kernel="sign_counts",
        parameters=(n_blocks,),
    )


_SIGN = Tolerance("sign", 1.5e-3, 0.05)  # rounding flips signs near a hyperplane; measured

SIGN_BLOCKS = Family(
    "blocks",
    number="[0-9]{1,5}",  # no request may ask for a billion names
    default=str(DEFAULT_SIGN_BLOCKS),
    column="sign_block_[0-9]{2,}",
    # Others than the default's 32 are there beside blocks:B alone, which no pattern can tell.
    items=("blocks(:[1-9][0-9]{0,3})?", "sign_block_([0-2][0-9]|3[01])"),
    sets=("blocks", "blocks:B"),
    singles=("sign_block_NN",),
    make=_sign_blocks,
)

SIGN_FRACTION = Statistic(
    "sign_fraction",
    made_of=("h",),
    columns={"sign_mean": "mean", "sign_min": "min", "sign_max": "max", "sign_std": "std"},
    token_columns=("sign_fraction",),
    slow=_sign_fraction,
    meaning="share of the hyperplanes on whose positive side the token lies",
    values="0 to 1; `sign_std` 0 to 0.71",
    tolerance=_SIGN,
    sets=("paper", "spline"),
)

HYPERPLANE_DISTANCE = Statistic(
    "hyperplane_distance",
    made_of=("h", "norms"),
    columns={"distance_min": "min", "distance_mean": "mean", "distance_std": "std"},
    token_columns=("hyperplane_distance",),
    slow=_hyperplane_distance,
    meaning="distance to the nearest hyperplane",
    values="from 0, in units of *x*",
    tolerance=Tolerance("distance", 2e-2),
    holds_in_half=False,
    sets=("paper", "spline"),
)

INTRINSIC_DIMENSION = Statistic(
    "intrinsic_dimension",
    made_of=("scores", "rule"),
    columns={"intrinsic_dimension": "last"},
    token_columns=("intrinsic_dimension",),
    slow=_intrinsic_dimension,
    meaning="attention weights above 0.1 of their head's largest",
    values="a whole number, H to H T",
    tolerance=Tolerance("dimension", 1.0),
    sets=("paper",),
)

SIGN_ENTROPY = Statistic(
    "sign_entropy",
    made_of=("sign_fraction",),
    columns={"sign_entropy_mean": "mean", "sign_entropy_std": "std"},
    token_columns=("sign_entropy",),
    slow=_sign_entropy,
    meaning="binary entropy of the sign fraction, in bits",
    values="0 to 1; `sign_entropy_std` 0 to 0.71",
    # Where nearly all signs are alike, two of 1,536 make 0.0145 bits.
    tolerance=Tolerance("sign", 1.5e-2, 0.2),
    sets=("sign_entropy",),
)

_LEAST_RADIUS_IN_HALF = 0.05
"""Below it, bfloat16 and float32 agree little: r = 0.77 and 0.61 at 0.02 (docs/features.md)."""

_RADIUS = r"(?:0\.[0-9]{0,5}[1-9]|[1-9][0-9]{0,2}(?:\.[0-9]{0,5}[1-9])?)"

COMPLEXITY = Family(
    "complexity",
    number="[^,]*",  # whatever it is, it is told what it should be
    default="0.05",
    column=f"complexity_(?P<number>{_RADIUS})(_mean|_std)?",
    items=(f"complexity(:{_RADIUS})?", f"complexity_{_RADIUS}_(mean|std)"),
    sets=("complexity", "complexity:R"),
    singles=("complexity_R_mean", "complexity_R_std"),
    make=_complexity,
    canonical=_radius,
)

ENTRIES: tuple[Statistic | Family, ...] = (
    SIGN_FRACTION,
    HYPERPLANE_DISTANCE,
    INTRINSIC_DIMENSION,
    SIGN_BLOCKS,
    SIGN_ENTROPY,
    COMPLEXITY,
)
"""In the order of the columns. New ones come last: columns that exist keep their places."""


def needs(statistic: Statistic, part: str) -> bool:
    """Whether a kernel, or one of those that it is made of, takes ``norms`` or ``rms``."""
    plain = {entry.name: entry for entry in ENTRIES if isinstance(entry, Statistic)}
    parts = (plain[name] for name in statistic.made_of if name in plain)
    return part in statistic.made_of or any(needs(it, part) for it in parts)
