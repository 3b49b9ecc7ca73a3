"""Names and order of every feature column, from the entries of :mod:`splinellm.statistics`.

A column is ``layer_07.sign_mean``: layers count from 0, padded to two digits (three in models of
more than 100 layers). Columns go layer by layer; within a layer in the order of the entries: first
the paper's seven spline features, then ``intrinsic_dimension``, then the sign blocks, then what
came later, whichever were asked for.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from numbers import Integral
from typing import Any, Literal, cast

from splinellm import statistics
from splinellm.errors import SchemaError
from splinellm.parameters import plain
from splinellm.statistics import DEFAULT_SIGN_BLOCKS, ENTRIES, Statistic

SCHEMA_VERSION = 1
"""Raised whenever a name, the order or the meaning of a column changes."""

SIGN_FEATURES = tuple(statistics.SIGN_FRACTION.columns)
DISTANCE_FEATURES = tuple(statistics.HYPERPLANE_DISTANCE.columns)
SPLINE_FEATURES = SIGN_FEATURES + DISTANCE_FEATURES
"""The seven features of arXiv 2312.01648, section 4, in the paper's order."""

INTRINSIC_DIMENSION = statistics.INTRINSIC_DIMENSION.name
SIGN_FRACTION = statistics.SIGN_FRACTION.name
HYPERPLANE_DISTANCE = statistics.HYPERPLANE_DISTANCE.name
"""The two numbers of a single token that the seven features summarise."""
PAPER_FEATURES = (*SPLINE_FEATURES, INTRINSIC_DIMENSION)

MOST_STATISTICS = 24
"""A radius costs a pass over all pre-activations: no request may ask for thousands."""

FEATURE_SETS = tuple(dict.fromkeys(item for entry in ENTRIES for item in entry.sets))
"""Items of a feature list that stand for several columns, for people."""
KNOWN_FEATURES = (*FEATURE_SETS, *(name for entry in ENTRIES for name in entry.singles))
"""What an item of a feature list may be, for people."""
FEATURE_PATTERN = f"({'|'.join(dict.fromkeys(item for entry in ENTRIES for item in entry.items))})"
"""The same as a regular expression."""

Layers = str | int | Iterable[int] | None
"""A layer list, see :func:`parse_layers`."""

Granularity = Literal["prompt", "prefix", "token"]
"""What a row stands for: a whole prompt, its first k tokens, or its k-th token."""
GRANULARITIES: tuple[Granularity, ...] = ("prompt", "prefix", "token")

_COLUMN = re.compile(r"layer_(\d{2,})\.(\w+(?:\.\d+\w*)?)")  # of complexity_0.05_mean, a number
_BLOCK = re.compile(statistics.SIGN_BLOCKS.column)


def block_name(index: int) -> str:
    """Name of the sign block `index`, counted from 0."""
    return f"sign_block_{index:02d}"


def is_sign_block(feature: str) -> bool:
    """Whether a feature, named without its layer, is a sign block."""
    return _BLOCK.fullmatch(feature) is not None


def require_granularity(granularity: Granularity) -> None:
    """Refuse what is no :data:`Granularity`.

    Raises
    ------
    SchemaError
        There is none of this name.
    """
    if not isinstance(granularity, str) or granularity not in GRANULARITIES:
        raise SchemaError(
            f"unknown granularity '{str(granularity)[:80]}'",
            hint=f"use {', '.join(GRANULARITIES)}",
        )


def feature_items(features: str | Iterable[str]) -> list[str]:
    """List the items of a feature list, known or not.

    Raises
    ------
    SchemaError
        It is no list of strings.
    """
    features = plain(features)
    if not isinstance(features, Iterable):
        raise SchemaError(
            f"features is of type {type(features).__name__}", hint="give a string or a list"
        )
    items = features.split(",") if isinstance(features, str) else list(features)
    for item in items:
        if not isinstance(item, str):
            raise SchemaError(f"a feature is of type {type(item).__name__}, not a string")
    return [item.strip() for item in items]


@dataclass(frozen=True)
class FeatureSelection:
    """Which features are wanted of a layer, in canonical order.

    Parameters
    ----------
    names : tuple of str
        Feature names without their layer; several columns may come from one name's set.
    n_blocks : int
        Number of sign blocks a layer's hyperplanes are cut into (whether or not all are wanted).
    """

    names: tuple[str, ...]
    n_blocks: int = DEFAULT_SIGN_BLOCKS

    @classmethod
    def parse(cls, features: str | Iterable[str] | FeatureSelection) -> FeatureSelection:
        """Read a feature list such as ``"paper"``, ``"blocks:16"`` or ``"sign_mean,blocks"``.

        Parameters
        ----------
        features : str, iterable of str, or FeatureSelection
            A selection as it is, or set names (``paper``: the seven and the intrinsic dimension;
            ``spline``: the seven; ``blocks`` or ``blocks:B``: the sign blocks, B = 32 by
            default; others are in docs/features.md) and single names.

        Returns
        -------
        FeatureSelection
            Duplicates removed, in canonical order whatever order was given.

        Raises
        ------
        SchemaError
            Nothing was named, or a name is unknown.
        """
        if isinstance(features, FeatureSelection):
            return features
        wanted: set[str] = set()
        n_blocks: int | None = None
        for item in feature_items(features):
            if (number := statistics.SIGN_BLOCKS.number_in(item)) is not None:
                # Not part of the blocks' names, so that a selection can have one number only.
                if int(number) < 1 or n_blocks not in (None, int(number)):
                    raise SchemaError(f"'{item}' asks for an impossible number of sign blocks")
                n_blocks = int(number)
            names = {name for entry in ENTRIES for name in entry.read(item)}
            if not names:
                known = ", ".join(KNOWN_FEATURES)
                raise SchemaError(f"unknown feature '{item[:80]}'", hint=f"known: {known}")
            wanted |= names
        if not wanted:
            raise SchemaError("no feature was asked for")
        selection = cls._of(wanted, DEFAULT_SIGN_BLOCKS if n_blocks is None else n_blocks)
        if len(selection.statistics) > MOST_STATISTICS:
            raise SchemaError(
                f"{len(selection.statistics)} statistics were asked for at once",
                hint=f"ask for {MOST_STATISTICS} at most",
            )
        if unknown := sorted(wanted.difference(selection.names)):
            raise SchemaError(f"'{unknown[0]}' is not one of the {selection.n_blocks} sign blocks")
        return selection

    @classmethod
    def _of(cls, wanted: set[str], n_blocks: int) -> FeatureSelection:
        """Put names in canonical order; such as no statistic has are left out."""
        order = (
            name
            for statistic in _statistics(tuple(wanted), n_blocks)
            for name in dict.fromkeys((*statistic.token_columns, *statistic.columns))
        )
        return cls(tuple(name for name in order if name in wanted), n_blocks)

    @cached_property
    def statistics(self) -> tuple[Statistic, ...]:
        """What has to be computed, in canonical order."""
        return _statistics(self.names, self.n_blocks)

    @cached_property
    def needs_distance(self) -> bool:
        """Whether what half precision cannot resolve is among the features, as distances are."""
        return any(not statistic.holds_in_half for statistic in self.statistics)

    @cached_property
    def needs_norms(self) -> bool:
        """Whether the norms of the hyperplanes are needed."""
        return any(statistics.needs(statistic, "norms") for statistic in self.statistics)

    @cached_property
    def needs_inputs(self) -> bool:
        """Whether the inputs of the MLP are needed, beside what its gate makes of them."""
        return any(statistics.needs(statistic, "rms") for statistic in self.statistics)

    @cached_property
    def needs_sign(self) -> bool:
        """Whether a statistic of the whole layer's signs is among the features."""
        return statistics.SIGN_FRACTION in self.statistics

    @cached_property
    def needs_blocks(self) -> bool:
        """Whether a sign block is among the features."""
        return any(map(is_sign_block, self.names))

    @cached_property
    def needs_gate(self) -> bool:
        """Whether the MLP has to be observed."""
        return any(not statistic.is_of_attention for statistic in self.statistics)

    @cached_property
    def needs_attention(self) -> bool:
        """Whether the attention has to be observed."""
        return any(statistic.is_of_attention for statistic in self.statistics)

    def at(self, granularity: Granularity) -> FeatureSelection:
        """The selection's counterpart for rows of another kind.

        A single token has a sign fraction and a hyperplane distance where a prompt has their
        statistics; its dimension and sign blocks go by the same names.
        """
        if granularity != "token":
            return self
        return FeatureSelection(_token_columns(self.names, self.n_blocks), self.n_blocks)

    def union(self, other: FeatureSelection) -> FeatureSelection:
        """Select the features of both.

        Raises
        ------
        ValueError
            They cut a layer into different numbers of sign blocks.
        """
        if self.n_blocks != other.n_blocks:
            raise ValueError("the selections differ in their number of sign blocks")
        return self._of({*self.names, *other.names}, self.n_blocks)

    def in_half_precision(self) -> FeatureSelection:
        """Those of the features that half precision can resolve."""
        kept = {name for it in self.statistics if it.holds_in_half for name in it.columns}
        return FeatureSelection(tuple(n for n in self.names if n in kept), self.n_blocks)


@lru_cache(maxsize=64)  # asked for at every call, of what may be thousands of names
def _statistics(names: tuple[str, ...], n_blocks: int) -> tuple[Statistic, ...]:
    """The statistics that these columns belong to, in the order of the entries."""
    return tuple(statistic for entry in ENTRIES for statistic in entry.among(names, n_blocks))


@lru_cache(maxsize=64)
def _token_columns(names: tuple[str, ...], n_blocks: int) -> tuple[str, ...]:
    found = list[str]()
    wanted = set(names)
    for statistic in _statistics(names, n_blocks):
        # Where a prompt's columns are of single tokens, too, those that are wanted.
        kept = [name for name in statistic.token_columns if name in wanted]
        found += kept or statistic.token_columns
    columns = tuple(found)
    return names if columns == names else columns  # the same object compares at once


def kept_layers(layers: Layers) -> str | int | tuple[Any, ...] | None:
    """Keep a layer list that is read more than once: an iterator would be used up."""
    given: Any = plain(layers)
    is_list = isinstance(given, Iterable) and not isinstance(given, str | bytes | bytearray)
    return tuple(given) if is_list else given


def parse_layers(layers: Layers, n_layers: int, *, n_loaded: int | None = None) -> tuple[int, ...]:
    """Read a layer list such as ``"0-2,29"``, ``[0, 1]``, ``3`` or None (all).

    Parameters
    ----------
    layers : str, int, iterable of int, or None
        Layers counted from 0. Outside of strings, negative numbers count from the last layer.
    n_layers : int
        Number of decoder layers L of the model.
    n_loaded : int, optional
        How many of these, from the first on, were loaded; all by default.

    Returns
    -------
    tuple of int
        Sorted, without duplicates.

    Raises
    ------
    SchemaError
        The list is malformed, empty, or names a layer that the model does not have, or that was
        not loaded.
    """
    found = _read_layers(layers, n_layers)
    if n_loaded is not None and found[-1] >= n_loaded:
        raise SchemaError(
            f"layer {found[-1]} was not loaded",
            hint=f"of the model's {n_layers} layers, the first {n_loaded} were",
        )
    return found


def _read_layers(layers: Layers, n_layers: int) -> tuple[int, ...]:
    layers = plain(layers)
    if layers is None or (isinstance(layers, str) and layers == "all"):
        return tuple(range(n_layers))
    if isinstance(layers, Integral):  # one of any library
        layers = cast(tuple[int, ...], (layers,))
    if not isinstance(layers, Iterable) or isinstance(layers, bytes | bytearray):
        raise SchemaError(
            f"layers is of type {type(layers).__name__}", hint='give a list, or text like "0-2,29"'
        )
    numbers: set[int] = set()
    for part in layers.split(",") if isinstance(layers, str) else layers:
        if isinstance(part, str):
            match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
            if match is None:
                raise SchemaError(
                    f"cannot read layer list '{str(layers)[:80]}'", hint="write it like 0-2,29"
                )
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last:
                raise SchemaError(f"layer range {first}-{last} runs backwards")
            # Checked before the range is built: "0-999999999" must not allocate.
            _check_layer(last, n_layers)
            numbers.update(range(first, last + 1))
        else:
            try:
                part = part.tolist() if hasattr(part, "tolist") else part
                if isinstance(part, bool):  # a mask would be read as the layers 0 and 1
                    raise TypeError
                index = operator.index(part)  # whole numbers of any library, but not 1.5
            except TypeError:
                raise SchemaError(f"layer {str(part)[:40]} is not a whole number") from None
            _check_layer(index if index >= 0 else -index - 1, n_layers, named=index)
            numbers.add(index if index >= 0 else n_layers + index)
    if not numbers:
        raise SchemaError("no layer was asked for")
    return tuple(sorted(numbers))


def _check_layer(layer: int, n_layers: int, *, named: int | None = None) -> None:
    if layer >= n_layers:
        shown = layer if named is None else named
        raise SchemaError(
            f"layer {shown} does not exist", hint=f"the model's layers are 0-{n_layers - 1}"
        )


@dataclass(frozen=True)
class FeatureSchema:
    """The columns of a feature table: a selection of features on a selection of layers.

    Parameters
    ----------
    layers : tuple of int
        Layers, ascending, counted from 0.
    selection : FeatureSelection
        Features of each layer.
    n_layers : int
        Number of decoder layers of the model; sets the padding of layer numbers.
    granularity : {"prompt", "prefix", "token"}
        What a row stands for.
    """

    layers: tuple[int, ...]
    selection: FeatureSelection
    n_layers: int
    granularity: Granularity = "prompt"

    def at(self, granularity: Granularity) -> FeatureSchema:
        """The columns of rows of another kind.

        Raises
        ------
        SchemaError
            There is no such granularity.
        """
        require_granularity(granularity)
        if granularity not in self._at:
            selection = self.selection.at(granularity)
            self._at[granularity] = replace(self, selection=selection, granularity=granularity)
        return self._at[granularity]

    @cached_property
    def _at(self) -> dict[Granularity, FeatureSchema]:
        return {}  # asked for at every call, of what may be thousands of names

    @property
    def features(self) -> tuple[str, ...]:
        """Feature names of one layer, without the layer (F of them)."""
        return self.selection.names

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All column names, layer by layer (len(layers) * F of them)."""
        return _column_names(self.layers, self.features, 2 if self.n_layers <= 100 else 3)

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, features per layer)."""
        return len(self.layers), len(self.features)


@lru_cache(maxsize=64)  # a table is made of every request, and may have thousands of columns
def _column_names(
    layers: tuple[int, ...], features: tuple[str, ...], width: int
) -> tuple[str, ...]:
    return tuple(f"layer_{layer:0{width}d}.{feature}" for layer in layers for feature in features)


def is_feature_column(name: str) -> bool:
    """Whether `name` follows the column grammar."""
    return _COLUMN.fullmatch(name) is not None
