"""What schemathesis has to know besides the OpenAPI document; loaded into its own process."""

from __future__ import annotations

import os
import re
from typing import Any

import schemathesis

from service.schemas.features import MAX_TOKEN_NUMBERS
from splinellm.conversations import COUNTS
from splinellm.errors import SchemaError
from splinellm.schema import FeatureSelection, parse_layers

MAX_CHARS = 200
N_LAYERS = int(os.environ["N_LAYERS"])


@schemathesis.hook
def filter_case(_context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Leave out what a JSON schema has no words for, such as layers in a range that runs backwards.

    Bodies that break the document's own rules stay: the service has to refuse them.
    """
    body = case.body
    if isinstance(body, dict) and not _can_be_counted(body):
        return False
    if not isinstance(body, dict) or not _is_well_formed(body):
        return True
    try:
        layers = body.get("layers")
        if layers is not None and not isinstance(layers, str):
            layers = _listed(layers)
        n_layers = len(parse_layers(layers, N_LAYERS))
        names = FeatureSelection.parse(body.get("features") or "paper").names
    except SchemaError:
        return False
    if body.get("granularity") in ("prefix", "token"):
        # No text has more words than characters; an answer may have so many numbers.
        n_rows = len(str(body.get("input")))
        if n_rows * n_layers * len(names) > MAX_TOKEN_NUMBERS:
            return False
    dimensions = body.get("dimensions")
    return not isinstance(dimensions, int) or dimensions == n_layers * len(names)


def _can_be_counted(body: dict[str, Any]) -> bool:
    """Whether there are messages of the kind that is to be counted, and not too much in them."""
    if body.get("count", "all") not in ("all", None):
        return body["count"] not in COUNTS
    return "messages" not in str(body.get("input")) or len(str(body["input"])) < MAX_CHARS


def _is_well_formed(body: dict[str, Any]) -> bool:
    layers, features = body.get("layers"), body.get("features")
    names = features if isinstance(features, list) else str(features or "paper").split(",")
    return _are_layers(layers) and all(
        isinstance(name, str) and re.fullmatch(r"[a-z_:.0-9]+", name) for name in names
    )


def _are_layers(layers: Any) -> bool:
    if isinstance(layers, str):
        return re.fullmatch(r"[0-9,-]+|all", layers) is not None
    return all(isinstance(layer, int) for layer in _listed(layers))


def _listed(layers: Any) -> list[Any]:
    """Layers as a list, whole numbers such as 3.0 as such."""
    listed = layers if isinstance(layers, list) else [0 if layers is None else layers]
    return [int(n) if isinstance(n, float) and n.is_integer() else n for n in listed]
