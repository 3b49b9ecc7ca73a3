"""How a feature table looks, to people and beside another one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from splinellm.errors import AlignmentWarning, TableFormatError
from splinellm.schema import is_sign_block
from splinellm.shown import shown

if TYPE_CHECKING:
    from splinellm.provenance import Provenance
    from splinellm.table import FeatureTable

_ROWS = 5
_COLUMNS = 8
_NAMES = 4
_CHARACTERS = 60


@dataclass(frozen=True)
class Aligned:
    """Two tables with the layers and features that both have; unpacks to the two.

    Parameters
    ----------
    first, second : FeatureTable
        With all their rows.
    dropped : tuple of str
        What only one of them had, and sign blocks of which they have different numbers.
    """

    first: FeatureTable
    second: FeatureTable
    dropped: tuple[str, ...]

    def __iter__(self) -> Iterator[FeatureTable]:
        return iter((self.first, self.second))


def aligned(first: FeatureTable, second: FeatureTable) -> Aligned:
    """Reduce two tables to what both have; see :meth:`FeatureTable.align`."""
    one, other = first.provenance, second.provenance
    if one.granularity != other.granularity:
        raise TableFormatError(
            f"rows stand for a {one.granularity} in one table, for a {other.granularity} in the "
            "other",
            hint="extract both with one granularity",
        )
    layers = sorted({*one.layers} & {*other.layers})
    features = [name for name in one.features if name in other.features]
    dropped = []
    if one.n_blocks != other.n_blocks and any(map(is_sign_block, features)):
        features = [name for name in features if not is_sign_block(name)]
        dropped.append(f"sign blocks, {one.n_blocks} here and {other.n_blocks} there")
    for mine, theirs, where in ((one, other, "first"), (other, one, "second")):
        if lost := [str(layer) for layer in mine.layers if layer not in theirs.layers]:
            dropped.append(f"layers {', '.join(lost)} of the {where}")
        if gone := [name for name in mine.features if name not in theirs.features]:
            dropped.append(f"{_listed(gone)} of the {where}")
    if not layers or not features:
        raise TableFormatError(
            "the tables have no layer and feature in common", hint="; ".join(dropped)
        )
    if dropped:
        warnings.warn(f"left out: {'; '.join(dropped)}", AlignmentWarning, stacklevel=3)
    return Aligned(first.select(layers, features), second.select(layers, features), tuple(dropped))


def described(table: FeatureTable) -> str:
    """One line about a table."""
    granularity = table.provenance.granularity
    rows = {"prompt": "prompts", "prefix": "prefixes", "token": "tokens"}[granularity]
    return f"FeatureTable({len(table):,} {rows}, {reading_in_words(table.provenance)})"


def reading_in_words(source: Provenance) -> str:
    """What is read, and with which model, in some words."""
    features = list(source.features)
    return (
        f"{len(source.layers)} layers x {len(features)} features ({_listed(features)}), "
        f"{_short(source.model)} in {source.dtype}"
    )


def as_html(table: FeatureTable) -> str:
    """The first rows and columns as a table for notebooks."""
    names = table.names[:_COLUMNS]
    tokens = table.tokens
    index = [] if tokens is None else ["row", "position", "token"]
    more = ["…"] if len(table.names) > len(names) else []
    head = "".join(f"<th>{escape(n)}</th>" for n in [*index, "n_tokens", *names, *more])
    body = []
    for i in range(min(_ROWS, len(table))):
        cells = [str(table.n_tokens[i]), *(f"{v:.6g}" for v in table.values[i, : len(names)])]
        if tokens is not None:
            place = [str(tokens.row[i]), str(tokens.position[i]), _short(tokens.token[i])]
            cells = [*place, *cells]
        body.append("".join(f"<td>{escape(cell)}</td>" for cell in [*cells, *more]))
    if len(table) > _ROWS:
        body.append("<td>…</td>" * (len(index) + 1 + len(names) + len(more)))
    rows = "".join(f"<tr>{cells}</tr>" for cells in body)
    return (
        f"<div><p>{escape(described(table))}</p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _short(text: str) -> str:
    return shown(text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…")
