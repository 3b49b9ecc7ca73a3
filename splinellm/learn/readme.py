"""The README of a classifier folder, generated from its card so that they cannot disagree."""

from __future__ import annotations

from typing import Any

from splinellm.learn.bootstrap import INTERVALS
from splinellm.learn.card import Card
from splinellm.learn.rendering import render
from splinellm.schema import is_sign_block

MAX_CELL = 100
"""Characters of a cell that are shown; the card has them all."""


def readme_of(card: Card) -> str:
    """Render a card as Markdown."""
    filters = (_plain, _cell, _ranges, _features, _columns, _with_interval)
    text = render("readme.md.j2", *filters, card=card, source=card.provenance)
    return text.rstrip("\n") + "\n"


def _columns(figures: dict[str, Any]) -> list[str]:
    """Columns of those figures that are rows of a table."""
    rows = [value for value in figures.values() if isinstance(value, dict)]
    return [
        column
        for column in dict.fromkeys(column for row in rows for column in row)
        if column != INTERVALS
    ]


def _with_interval(row: dict[str, Any], column: str) -> str:
    """A figure and, if it has one, its interval."""
    cell = _cell(row.get(column))
    interval = row.get(INTERVALS, {}).get(column)
    return cell if interval is None else f"{cell} [{_cell(interval)}]"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return str(value)


def _cell(value: Any) -> str:
    """Plain, in one line, without what would end a cell of a table."""
    text = "" if value is None else " ".join(_plain(value).split())
    shown = text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…"
    return shown.replace("|", "\\|")


def _ranges(layers: tuple[int, ...]) -> str:
    parts: list[list[int]] = []
    for layer in layers:
        if parts and parts[-1][1] == layer - 1:
            parts[-1][1] = layer
        else:
            parts.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _features(names: tuple[str, ...]) -> str:
    blocks = [name for name in names if is_sign_block(name)]
    others = [f"`{name}`" for name in names if name not in blocks]
    return ", ".join([*others, f"{len(blocks)} sign blocks"] if blocks else others)
