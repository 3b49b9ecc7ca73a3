"""``POST /v1/classify``: what a classifier says of prompts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.inputs import parse_input
from service.middleware.deltas import NDJSON
from service.routes.call import Call, CallOf
from service.routes.judging import Judgement, judge, require_spans
from service.routes.streaming import streaming_route
from service.schemas.classify import ClassifyAnswer, ClassifyRequest
from service.schemas.errors import COMPUTING
from service.verdicts import ServedClassifier, Verdict


def _chosen(call: Call, body: ClassifyRequest) -> ServedClassifier:
    """The classifier that a request wants.

    Raises
    ------
    SplineLLMError
        There is none such, or it cannot do what is asked for.
    """
    classifier = call.catalog.get_classifier(body.classifier)
    counted = classifier.plan.count
    if classifier.pooled is None and body.count not in (None, counted):
        raise InvalidRequestError(
            f"classifier '{classifier.name}' was trained on '{counted}', not on '{body.count}'",
            param="count",
        )
    if body.spans:
        require_spans(call.catalog, classifier)
    return classifier


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


router = APIRouter(route_class=streaming_route(_chosen, _row), tags=["classifiers"])


@router.post(
    "/classify",
    summary="Verdicts of a classifier",
    response_class=Response,
    responses={
        200: {
            "model": ClassifyAnswer,
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **COMPUTING,
    },
    openapi_extra={
        "requestBody": {
            "content": {
                NDJSON: {
                    "schema": {
                        "type": "string",
                        "description": "A line of the fields of a request, whose `input` is one "
                        "text or conversation that grows, or left out; then lines of "
                        '`{"delta": "text"}`, each answered by an event `verdict` while the body '
                        "is still being sent. After the last comes `done`; `error` ends it early.",
                    },
                }
            }
        }
    },
)
async def classify(body: ClassifyRequest, call: CallOf) -> Response:
    """Classify texts; long ones are read in overlapping windows, and the worst decides.

    A body of the type `application/x-ndjson` is a text that grows, line by line.
    """
    classifier = _chosen(call, body)
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    judgement = await judge(
        call, [classifier], inputs, body.overflow, grows=body.stream, count=body.count
    )
    return await call.answer(
        lambda: _answer(classifier, judgement, spans=body.spans), n_rows=len(inputs)
    )
