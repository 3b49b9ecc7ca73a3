"""``POST /v1/classify``: what a classifier says of prompts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.inputs import parse_input
from service.json import StrictRoute
from service.routes.call import CallOf, Judgement
from service.schemas.classify import ClassifyAnswer, ClassifyRequest
from service.schemas.errors import COMPUTING
from service.verdicts import ServedClassifier

router = APIRouter(route_class=StrictRoute, tags=["classifiers"])


@router.post(
    "/classify",
    summary="Verdicts of a classifier",
    response_class=Response,
    responses={200: {"model": ClassifyAnswer}, **COMPUTING},
)
async def classify(body: ClassifyRequest, call: CallOf) -> Response:
    """Classify texts; long ones are read in overlapping windows, and the worst decides."""
    classifier = call.catalog.get_classifier(body.classifier)
    counted = classifier.plan.count
    if body.count not in (None, counted):
        raise InvalidRequestError(
            f"classifier '{classifier.name}' was trained on '{counted}', not on '{body.count}'",
            param="count",
        )
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    judgement = await call.judge([classifier], inputs, body.overflow, grows=body.stream)
    return await call.answer(lambda: _answer(classifier, judgement), n_rows=len(inputs))


def _answer(classifier: ServedClassifier, judgement: Judgement) -> dict[str, Any]:
    reading = judgement.reading
    rows = zip(
        judgement.verdicts[classifier.name],
        reading.n_tokens,
        reading.truncated,
        reading.n_windows,
        strict=True,
    )
    return {
        "object": "list",
        "classifier": classifier.name,
        "model": classifier.model.name,
        "classes": classifier.card.classes,
        "thresholds": classifier.card.thresholds,
        "data": [
            {
                "index": index,
                "label": verdict.label,
                "labels": verdict.labels,
                "probabilities": verdict.probabilities,
                "n_tokens": n_tokens,
                "truncated": truncated,
                "windows": windows,
            }
            for index, (verdict, n_tokens, truncated, windows) in enumerate(rows)
        ],
        "usage": reading.usage,
    }
