"""``POST /v1/classify``: what a classifier says of prompts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.inputs import parse_input
from service.json import StrictRoute
from service.routes.call import CallOf
from service.routes.judging import Judgement, judge, require_spans
from service.schemas.classify import ClassifyAnswer, ClassifyRequest
from service.schemas.errors import COMPUTING
from service.verdicts import ServedClassifier, Verdict

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
    if body.spans:
        require_spans(call.catalog, classifier)
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    judgement = await judge(call, [classifier], inputs, body.overflow, grows=body.stream)
    return await call.answer(
        lambda: _answer(classifier, judgement, spans=body.spans), n_rows=len(inputs)
    )


def _answer(classifier: ServedClassifier, judgement: Judgement, *, spans: bool) -> dict[str, Any]:
    verdicts = judgement.verdicts[classifier.name]
    return {
        "object": "list",
        "classifier": classifier.name,
        "model": classifier.model.name,
        "classes": classifier.card.classes,
        "thresholds": classifier.card.thresholds,
        "data": [
            {"index": index, **_row(verdict, spans=spans)} for index, verdict in enumerate(verdicts)
        ],
        "usage": judgement.usage,
    }


def _row(verdict: Verdict, *, spans: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "label": verdict.label,
        "labels": verdict.labels,
        "probabilities": verdict.probabilities,
        **asdict(verdict.extent),
    }
    if spans:
        row["spans"] = [span._asdict() for span in verdict.spans]
    if verdict.decided_by is not None:
        row["decided_by"] = verdict.decided_by
    return row
