"""Names and order of every feature column. Nothing else in the project spells them.

A column is ``layer_07.sign_mean``: layers count from 0, padded to two digits (three in models of
more than 100 layers). Columns go layer by layer; within a layer first the paper's seven spline
features, then ``intrinsic_dimension``, then the sign blocks, whichever were asked for.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from splinellm.errors import SchemaError

SCHEMA_VERSION = 1
"""Raised whenever a name, the order or the meaning of a column changes."""

SIGN_FEATURES = ("sign_mean", "sign_min", "sign_max", "sign_std")
DISTANCE_FEATURES = ("distance_min", "distance_mean", "distance_std")
SPLINE_FEATURES = SIGN_FEATURES + DISTANCE_FEATURES
"""The seven features of arXiv 2312.01648, section 4, in the paper's order."""

INTRINSIC_DIMENSION = "intrinsic_dimension"
SIGN_FRACTION = "sign_fraction"
HYPERPLANE_DISTANCE = "hyperplane_distance"
"""The two numbers of a single token that the seven features summarise."""
PAPER_FEATURES = (*SPLINE_FEATURES, INTRINSIC_DIMENSION)
DEFAULT_SIGN_BLOCKS = 32

Granularity = Literal["prompt", "prefix", "token"]
"""What a row stands for: a whole prompt, its first k tokens, or its k-th token."""
GRANULARITIES: tuple[Granularity, ...] = ("prompt", "prefix", "token")

_BLOCK = re.compile(r"sign_block_(\d{2,})")
_BLOCK_SET = re.compile(r"blocks(?::(\d{1,5}))?")  # no request may ask for a billion names
_COLUMN = re.compile(r"layer_(\d{2,})\.(\w+)")


def block_name(index: int) -> str:
    """Name of the sign block `index`, counted from 0."""
    return f"sign_block_{index:02d}"


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
            default) and single names.

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
        items = features.split(",") if isinstance(features, str) else list(features)
        wanted: set[str] = set()
        n_blocks: int | None = None
        for item in (item.strip() for item in items):
            if item == "paper":
                wanted.update(PAPER_FEATURES)
            elif item == "spline":
                wanted.update(SPLINE_FEATURES)
            elif match := _BLOCK_SET.fullmatch(item):
                count = int(match[1]) if match[1] else DEFAULT_SIGN_BLOCKS
                if count < 1 or n_blocks not in (None, count):
                    raise SchemaError(f"'{item}' asks for an impossible number of sign blocks")
                n_blocks = count
                wanted.update(block_name(i) for i in range(count))
            elif item in PAPER_FEATURES or _BLOCK.fullmatch(item):
                wanted.add(item)
            else:
                raise SchemaError(
                    f"unknown feature '{item[:80]}'",
                    hint="known: paper, spline, blocks, blocks:B, sign_block_NN, "
                    + ", ".join(PAPER_FEATURES),
                )
        if not wanted:
            raise SchemaError("no feature was asked for")
        n_blocks = DEFAULT_SIGN_BLOCKS if n_blocks is None else n_blocks
        order = (*PAPER_FEATURES, *(block_name(i) for i in range(n_blocks)))
        if unknown := sorted(wanted.difference(order)):
            raise SchemaError(f"'{unknown[0]}' is not one of the {n_blocks} sign blocks")
        return cls(tuple(name for name in order if name in wanted), n_blocks)

    @property
    def needs_distance(self) -> bool:
        """Whether a hyperplane distance is among the features."""
        return any(name in (*DISTANCE_FEATURES, HYPERPLANE_DISTANCE) for name in self.names)

    @property
    def needs_sign(self) -> bool:
        """Whether a statistic of the whole layer's signs is among the features."""
        return any(name in (*SIGN_FEATURES, SIGN_FRACTION) for name in self.names)

    @property
    def needs_blocks(self) -> bool:
        """Whether a sign block is among the features."""
        return any(_BLOCK.fullmatch(name) for name in self.names)

    @property
    def needs_gate(self) -> bool:
        """Whether the MLP has to be observed."""
        return self.needs_distance or self.needs_sign or self.needs_blocks

    @property
    def needs_attention(self) -> bool:
        """Whether the attention has to be observed."""
        return INTRINSIC_DIMENSION in self.names

    def at(self, granularity: Granularity) -> FeatureSelection:
        """The selection's counterpart for rows of another kind.

        A single token has a sign fraction and a hyperplane distance where a prompt has their
        statistics; its dimension and sign blocks go by the same names.
        """
        if granularity != "token":
            return self
        names = [SIGN_FRACTION] * self.needs_sign + [HYPERPLANE_DISTANCE] * self.needs_distance
        kept = (name for name in self.names if name == INTRINSIC_DIMENSION or _BLOCK.match(name))
        return FeatureSelection((*names, *kept), self.n_blocks)

    def union(self, other: FeatureSelection) -> FeatureSelection:
        """Select the features of both.

        Raises
        ------
        ValueError
            They cut a layer into different numbers of sign blocks.
        """
        if self.n_blocks != other.n_blocks:
            raise ValueError("the selections differ in their number of sign blocks")
        wanted = {*self.names, *other.names}
        blocks = (block_name(i) for i in range(self.n_blocks))
        order = (SIGN_FRACTION, HYPERPLANE_DISTANCE, *PAPER_FEATURES, *blocks)
        return FeatureSelection(tuple(name for name in order if name in wanted), self.n_blocks)

    @property
    def block_indices(self) -> tuple[int, ...]:
        """The sign blocks that are wanted, counted from 0."""
        return tuple(int(m[1]) for name in self.names if (m := _BLOCK.fullmatch(name)))


def parse_layers(layers: str | int | Iterable[int] | None, n_layers: int) -> tuple[int, ...]:
    """Read a layer list such as ``"0-2,29"``, ``[0, 1]``, ``3`` or None (all).

    Parameters
    ----------
    layers : str, int, iterable of int, or None
        Layers counted from 0. Outside of strings, negative numbers count from the last layer.
    n_layers : int
        Number of decoder layers L of the model.

    Returns
    -------
    tuple of int
        Sorted, without duplicates.

    Raises
    ------
    SchemaError
        The list is malformed, empty, or names a layer that the model does not have.
    """
    if layers is None or (isinstance(layers, str) and layers == "all"):
        return tuple(range(n_layers))
    if isinstance(layers, int):
        layers = (layers,)
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
        if granularity not in GRANULARITIES:
            raise SchemaError(
                f"unknown granularity '{str(granularity)[:80]}'",
                hint=f"use {', '.join(GRANULARITIES)}",
            )
        return replace(self, selection=self.selection.at(granularity), granularity=granularity)

    @property
    def features(self) -> tuple[str, ...]:
        """Feature names of one layer, without the layer (F of them)."""
        return self.selection.names

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All column names, layer by layer (len(layers) * F of them)."""
        width = 2 if self.n_layers <= 100 else 3
        return tuple(
            f"layer_{layer:0{width}d}.{feature}"
            for layer in self.layers
            for feature in self.features
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, features per layer)."""
        return len(self.layers), len(self.features)


def is_feature_column(name: str) -> bool:
    """Whether `name` follows the column grammar."""
    return _COLUMN.fullmatch(name) is not None
