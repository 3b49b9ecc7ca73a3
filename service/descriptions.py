"""Facts about models, classifiers and tables, as answers tell them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from splinellm.backbone.encoders import attends_both_ways
from splinellm.provenance import FINGERPRINT_FIELDS, Provenance

if TYPE_CHECKING:
    from service.cascades import Cascade
    from service.served_model import ServedModel
    from service.settings import Settings
    from service.verdicts import ServedClassifier

OWNER = "splinellm"


def fingerprint(provenance: Provenance) -> str:
    """Short hash of everything that changes a number; equal for rows that may be compared."""
    record = {name: getattr(provenance, name) for name in FINGERPRINT_FIELDS}
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def short_names(provenance: Provenance) -> list[str]:
    """Names of features, all of a layer's sign blocks as one, such as ``blocks:1536``.

    Requests that name features take these as well.
    """
    is_block = [name.startswith("sign_block_") for name in provenance.features]
    if sum(is_block) < provenance.n_blocks:  # some of them, which have no name together
        return list(provenance.features)
    first = is_block.index(True)
    names = [*provenance.features[:first], f"blocks:{provenance.n_blocks}"]
    return names + [
        name
        for name, block in zip(provenance.features[first:], is_block[first:], strict=True)
        if not block
    ]


def limits(settings: Settings) -> dict[str, int]:
    """What a request may ask for."""
    return {
        "max_input_tokens": settings.max_input_tokens,
        "max_input_chars": settings.max_input_chars,
        "max_client_batch_size": settings.max_client_batch_size,
    }


def describe_model(model: ServedModel, settings: Settings) -> dict[str, Any]:
    """A model in OpenAI's shape, with what its numbers are."""
    provenance = model.provenance(model.plan())
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": OWNER,
        "n_layers": model.n_layers,
        "n_vocabulary": model.n_vocabulary,
        "encoder": attends_both_ways(provenance.architecture),
        "feature_names": list(provenance.features),
        "dtype": provenance.dtype,
        "fingerprint": fingerprint(provenance),
        "limits": limits(settings) | {"max_input_tokens": model.max_tokens},
    }


def describe_classifier(classifier: ServedClassifier, cascade: Cascade | None) -> dict[str, Any]:
    """A classifier's card, flattened where clients look."""
    card = classifier.card
    names = short_names(card.provenance)
    return {
        "id": classifier.name,
        "object": "classifier",
        "model": classifier.model.name,
        "kind": card.kind,
        "classes": list(card.classes),
        "thresholds": card.deciding_thresholds,
        "max_tokens": card.provenance.max_tokens,
        "spans": classifier.pooled is not None if cascade is None else cascade.tells_spans,
        "cascade": None if cascade is None else cascade.names,
        "layers": list(card.provenance.layers),
        "feature_names": names,
        "metrics": card.metrics,
        "weaknesses": list(card.weaknesses),
        "data": card.data,
        "settings": card.settings,
        "provenance": dataclasses.asdict(card.provenance) | {"features": names},
    }
