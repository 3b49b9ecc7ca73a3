"""The README of a classifier folder, generated from its card so that they cannot disagree."""

from __future__ import annotations

from typing import Any

from splinellm.learn.classifier import Card
from splinellm.schema import is_sign_block


def readme_of(card: Card) -> str:
    """Render a card as Markdown."""
    source = card.provenance
    lines = [
        f"# {card.name}",
        "",
        (
            f"A {card.kind} classifier on {len(source.features)} features of {len(source.layers)} "
            f"layers of `{source.model}`. Classes: {', '.join(f'`{c}`' for c in card.classes)}."
        ),
        "",
        "```sh",
        f"splinellm predict {card.name} prompts.jsonl -o out.parquet",
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| weights | sha256 `{source.weights_sha256}` |",
        f"| dtype | {source.dtype} |",
        f"| layers | {_ranges(source.layers)} |",
        f"| features | {_features(source.features)} |",
        f"| tokens | at most {source.max_tokens} |",
        *(f"| {key} | {_plain(value)} |" for key, value in card.settings.items()),
        *(f"| data: {key} | {_plain(value)} |" for key, value in card.data.items()),
        "",
        "## Thresholds",
        "",
        *(f"- `{name}`: {value:.4g}" for name, value in card.thresholds.items()),
        "",
        "## Figures",
        "",
    ]
    for title, figures in card.metrics.items():
        lines += _figures(title, figures)
    if card.weaknesses:
        lines += ["## Known weaknesses", "", *(f"- {text}" for text in card.weaknesses), ""]
    return "\n".join(lines)


def _figures(title: str, figures: Any) -> list[str]:
    if not isinstance(figures, dict):
        return [f"{title}: {_plain(figures)}", ""]
    rows = {key: value for key, value in figures.items() if isinstance(value, dict)}
    lines = [f"### {title}", ""]
    lines += [f"{key}: {_plain(v)}  " for key, v in figures.items() if key not in rows]
    if rows:
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        lines += ["", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for key, row in rows.items():
            cells = " | ".join(_plain(row.get(column, "")) for column in columns)
            lines.append(f"| {key} | {cells} |")
    return [*lines, ""]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return str(value)


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
