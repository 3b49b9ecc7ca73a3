"""An inspection as lines of a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from splinellm.extraction.inspection import curve_places
from splinellm.learn.captions import place_of_tokens
from splinellm.schema import INTRINSIC_DIMENSION, is_sign_block
from splinellm.shown import shown, width

if TYPE_CHECKING:
    from splinellm.extraction.inspection import InspectedVerdict, Inspection

WIDTH = 80

_BARS = "▁▂▃▄▅▆▇█"
_NAME = 20
_CURVE = 34
_AROUND = 60
_MOST_TEXT = 400
_MOST_TOKENS = 120
_MOST_SPANS = 5
_MOST_FEATURES = 24
_MOST_CLASSES = 8
_RED, _END = "\x1b[1;31m", "\x1b[0m"


def lines_of(found: Inspection, *, in_colour: bool = False) -> Iterator[str]:
    """Everything, top to bottom; no line is wider than 80 columns.

    Parameters
    ----------
    found : Inspection
        What to show; its text cannot act on the terminal.
    in_colour : bool
        Whether words that carry a verdict are red; they are in brackets otherwise.
    """
    table = found.prompt
    cut = ", the end was not read" if table.truncated[0] else ""
    model = shown(table.provenance.model, 40)
    yield f"{int(table.n_tokens[0]):,} tokens{cut}; {model}, {len(table.schema.layers)} layers"
    for verdict in found.verdicts:
        yield ""
        yield from _verdict(found, verdict, in_colour)
    yield ""
    yield f"{'features over layers':<{_NAME + 1}}{_range(table.schema.layers)}"
    yield from _features(found)
    if INTRINSIC_DIMENSION in found.tokens.schema.features:
        yield ""
        yield from _dimension(found)
    yield ""
    yield from _tokens(found)


def sparkline(values: Sequence[float] | np.ndarray, columns: int = _CURVE) -> str:
    """Numbers as bars; of more than there are columns, means of neighbours."""
    numbers = np.asarray(values, np.float64)
    if len(numbers) > columns:
        numbers = np.array([part.mean() for part in np.array_split(numbers, columns)])
    low, high = float(numbers.min()), float(numbers.max())
    if high <= low:
        return _BARS[3] * len(numbers)
    places = ((numbers - low) / (high - low) * (len(_BARS) - 1)).round().astype(int)
    return "".join(_BARS[place] for place in places.tolist())


def _verdict(found: Inspection, verdict: InspectedVerdict, in_colour: bool) -> Iterator[str]:
    where = ""
    if verdict.message is not None and found.roles is not None:
        where = f", message {verdict.message} ({shown(found.roles[verdict.message], 20)})"
    labels = ", ".join(shown(label, 30) for label in verdict.labels) or "none"
    yield _cut(f"{shown(verdict.classifier, 30)}{where}: {labels}")
    kept, others = verdict.ranked()
    for name in kept[:_MOST_CLASSES]:
        probability = verdict.probabilities[name]
        limit = verdict.thresholds.get(name)
        told = "" if limit is None else f"  threshold {limit:.3f}"
        bar = "█" * round(probability * 20)
        yield _cut(f"  {shown(name, 20):<{_NAME}} {probability:.3f} {bar:<20}{told}")
    if left := len(kept[_MOST_CLASSES:]) + len(others):
        yield f"  and {left} less probable"
    text = found.texts[verdict.message or 0] if found.texts else ""
    spans = verdict.telling_spans(text)
    for span in spans[:_MOST_SPANS]:
        yield from _wrapped(_marked(text, span["begin"], span["end"]), in_colour)
    if len(spans) > _MOST_SPANS:
        yield f"  and {len(spans) - _MOST_SPANS} more: --json has them"


def _marked(text: str, begin: int, end: int) -> tuple[str, str, str]:
    """What is before, in and behind a span, as much as helps."""
    before = text[max(0, begin - _AROUND) : begin]
    lead = "…" if begin > _AROUND else ""
    tail = "…" if end + _AROUND < len(text) else ""
    inside = shown(text[begin:end], _MOST_TEXT)
    return lead + shown(before), inside, shown(text[end : end + _AROUND]) + tail


def _wrapped(parts: tuple[str, str, str], in_colour: bool) -> Iterator[str]:
    """Lines of a marked text, with the mark on every line that it reaches."""
    before, inside, behind = parts
    brackets = ("", "") if in_colour else ("[", "]")
    whole = [(c, False) for c in before]
    whole += [(c, True) for c in f"{brackets[0]}{inside}{brackets[1]}"]
    whole += [(c, False) for c in behind]
    line: list[tuple[str, bool]] = []
    used = 0
    for one in whole:
        size = width(one[0])
        if used + size > WIDTH - 4:
            room = max((i for i, (c, _) in enumerate(line) if c == " "), default=-1) + 1
            kept = line[room:] if room > len(line) // 2 else []
            yield "    " + _coloured(line[: len(line) - len(kept)], in_colour).rstrip(" ")
            line, used = kept, sum(width(c) for c, _ in kept)
        line.append(one)
        used += size
    if line:
        yield "    " + _coloured(line, in_colour)


def _coloured(line: Sequence[tuple[str, bool]], in_colour: bool) -> str:
    if not in_colour:
        return "".join(c for c, _ in line)
    found, is_open = "", False
    for c, is_marked in line:
        if is_marked != is_open:
            found += _RED if is_marked else _END
            is_open = is_marked
        found += c
    return found + (_END if is_open else "")


def _features(found: Inspection) -> Iterator[str]:
    table = found.prompt
    names = list(table.schema.features)
    kept = [name for name in names if not is_sign_block(name)] or names
    for name in kept[:_MOST_FEATURES]:
        values = table.array[0, :, names.index(name)]
        low, high = f"{float(values.min()):.4g}", f"{float(values.max()):.4g}"
        yield _cut(f"{name[:_NAME]:<{_NAME}} {sparkline(values)}  {low} to {high}")
    if len(names) > len(kept[:_MOST_FEATURES]):
        yield f"and {len(names) - len(kept[:_MOST_FEATURES])} others: --json has them"


def _dimension(found: Inspection) -> Iterator[str]:
    table = found.tokens
    at = table.schema.features.index(INTRINSIC_DIMENSION)
    layers = table.schema.layers
    places, choice = curve_places(len(layers))
    told = f"{choice}, " if choice else ""
    heading = "dimension by " + place_of_tokens(table.provenance.architecture).split()[0]
    yield f"{heading:<{_NAME + 1}}{told}tokens 1 to {len(table):,}"
    for place in places:
        values = table.array[:, place, at]
        reach = f"{int(values.min())} to {int(values.max())}"
        yield f"{f'layer {layers[place]}':<{_NAME}} {sparkline(values)}  {reach}"


def _tokens(found: Inspection) -> Iterator[str]:
    index = found.tokens.tokens
    assert index is not None  # noqa: S101 (of granularity token)
    line = "tokens "
    for token in index.token[:_MOST_TOKENS]:
        word = shown(token, 30) + "|"
        if width(line) + width(word) > WIDTH:
            yield line
            line = "       "
        line += word
    yield line
    if len(index) > _MOST_TOKENS:
        yield f"       and {len(index) - _MOST_TOKENS:,} more: --json has them"


def _range(layers: Sequence[int]) -> str:
    return f"{layers[0]} to {layers[-1]}" if len(layers) > 1 else str(layers[0])


def _cut(line: str) -> str:
    while width(line) > WIDTH:
        line = line[:-1]
    return line.rstrip()
