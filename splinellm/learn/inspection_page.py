"""An inspection as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from splinellm.extraction.inspection import InspectedVerdict, Inspection, curve_places
from splinellm.learn.captions import place_of_tokens
from splinellm.learn.rendering import render
from splinellm.schema import INTRINSIC_DIMENSION, is_sign_block
from splinellm.shown import shown
from splinellm.token_index import colour_range

_WIDTH, _HEIGHT = 300, 60
_MOST_FEATURES = 24
_MOST_POINTS = 600
_MOST_TOKENS = 4096


def page_of(found: Inspection) -> str:
    """Render a page; whatever the prompt holds is shown as text.

    Parameters
    ----------
    found : Inspection
        What to show.
    """
    table = found.prompt
    verdicts, told = [_verdict(found, one) for one in found.verdicts], set()
    for verdict, one in zip(found.verdicts, verdicts, strict=True):
        # A text is there once, and again where a verdict marks something in it.
        if one["parts"] is not None:
            if verdict.message in told and not any(part["told"] for part in one["parts"]):
                one["parts"] = None
            told.add(verdict.message)
    return render(
        "inspection.html.j2",
        n_tokens=int(table.n_tokens[0]),
        truncated=bool(table.truncated[0]),
        model=shown(table.provenance.model),
        verdicts=verdicts,
        features=_features(found),
        dimension=_dimension(found),
        dimension_by=place_of_tokens(found.tokens.provenance.architecture),
        dimension_of=curve_places(len(table.schema.layers))[1],
        heat=_heat(found),
    )


def _verdict(found: Inspection, verdict: InspectedVerdict) -> dict[str, Any]:
    text = found.texts[verdict.message or 0] if found.texts else ""
    role = None
    if verdict.message is not None and found.roles is not None:
        role = f"message {verdict.message} ({shown(found.roles[verdict.message])})"
    kept, others = verdict.ranked()
    classes = [
        {
            "name": shown(name),
            "probability": verdict.probabilities[name],
            "threshold": verdict.thresholds.get(name),
            "holds": name in verdict.labels,
        }
        for name in kept
    ]
    return {
        "classifier": shown(verdict.classifier),
        "of": role,
        "labels": [shown(label) for label in verdict.labels],
        "classes": classes,
        "has_thresholds": bool(verdict.thresholds),
        "others": [f"{shown(name)} {verdict.probabilities[name]:.3f}" for name in others],
        "parts": None if verdict.spans is None else _parts(text, verdict.telling_spans(text)),
    }


def _parts(text: str, spans: Any) -> list[dict[str, Any]]:
    """A text cut where its spans begin and end."""
    edges = sorted({0, len(text), *(s["begin"] for s in spans), *(s["end"] for s in spans)})
    parts = []
    for begin, end in pairwise(edges):
        here = [s for s in spans if s["begin"] <= begin and end <= s["end"]]
        told = ", ".join(f"{shown(s['label'])} {s['score']:.2f}" for s in here)
        parts.append({"text": _lines(text[begin:end]), "told": told})
    return parts


def _lines(text: str) -> str:
    """Text that keeps its line breaks."""
    return "\n".join(shown(line) for line in text.split("\n"))


def _features(found: Inspection) -> list[dict[str, Any]]:
    table = found.prompt
    names = list(table.schema.features)
    kept = ([name for name in names if not is_sign_block(name)] or names)[:_MOST_FEATURES]
    return [_curve(name, table.array[0, :, names.index(name)]) for name in kept]


def _dimension(found: Inspection) -> list[dict[str, Any]]:
    table = found.tokens
    if INTRINSIC_DIMENSION not in table.schema.features:
        return []
    values = table.array[:, :, table.schema.features.index(INTRINSIC_DIMENSION)]
    layers = table.schema.layers
    places, _ = curve_places(len(layers))
    return [_curve(f"layer {layers[place]}", values[:, place]) for place in places]


def _curve(name: str, values: np.ndarray) -> dict[str, Any]:
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if len(numbers) > _MOST_POINTS:
        numbers = np.array([part.mean() for part in np.array_split(numbers, _MOST_POINTS)])
    x = np.linspace(2, _WIDTH - 2, len(numbers)) if len(numbers) > 1 else np.array([_WIDTH / 2])
    y = _HEIGHT - 4 - (numbers - low) / ((high - low) or 1.0) * (_HEIGHT - 8)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    if len(numbers) == 1:
        points = f"2,{y[0]:.1f} {_WIDTH - 2},{y[0]:.1f}"
    return {"name": name, "points": points, "low": f"{low:.4g}", "high": f"{high:.4g}"}


def _heat(found: Inspection) -> dict[str, Any]:
    """Tokens, and for each layer where they are on its scale, 0 to 100, and the scale's ends."""
    table = found.tokens
    index = table.tokens
    assert index is not None  # noqa: S101 (of granularity token)
    feature = table.schema.features[0]
    values = table.array[:_MOST_TOKENS, :, 0].astype(np.float64)
    low, high = np.array([colour_range(column) for column in values.T]).T
    shares = np.clip((values - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    ends = zip(low.tolist(), high.tolist(), strict=True)
    is_beyond = (low > values.min(axis=0)) | (high < values.max(axis=0))
    return {
        "feature": feature,
        "tokens": [shown(token, 80) for token in index.token[:_MOST_TOKENS]],
        "layers": list(table.schema.layers),
        "levels": (100 * shares).round().astype(int).T.tolist(),
        "ends": [[f"{a:.4g}", f"{b:.4g}"] for a, b in ends],
        "beyond": is_beyond.tolist(),
        "left_out": max(0, len(index) - _MOST_TOKENS),
    }
