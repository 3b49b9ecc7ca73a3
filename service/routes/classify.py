"""``POST /v1/classify``: what a classifier says of prompts."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.inputs import parse_input
from service.middleware.deltas import NDJSON
from service.routes.call import Call, CallOf
from service.routes.judging import Judgement, judge, require_spans, tells_spans
from service.routes.streaming import streaming_route
from service.schemas.classify import ClassifyAnswer, ClassifyRequest, SeveralAnswer
from service.schemas.errors import COMPUTING
from service.verdicts import ServedClassifier, Verdict, threshold_classes
from splinellm.learn.predictions import scored_classes

if TYPE_CHECKING:
    from service.models import ModelCatalog


def _chosen(call: Call, body: ClassifyRequest) -> list[ServedClassifier]:
    """The classifiers that a request wants, with its thresholds.

    Raises
    ------
    SplineLLMError
        There is none such, or one cannot do what is asked for.
    """
    names = body.classifier if isinstance(body.classifier, list) else [body.classifier]
    classifiers = [call.catalog.get_classifier(name) for name in dict.fromkeys(names)]
    for one in classifiers:
        counted = one.plan.count
        if one.pooled is None and body.count not in (None, counted):
            raise InvalidRequestError(
                f"classifier '{one.name}' was trained on '{counted}', not on '{body.count}'",
                param="count",
            )
        if body.spans is True:
            require_spans(call.catalog, one)
    if body.threshold is not None:
        return with_thresholds(call.catalog, classifiers, body.threshold)
    return classifiers


def _only(call: Call, body: ClassifyRequest) -> ServedClassifier:
    """The one of a text that comes line by line."""
    if isinstance(body.classifier, list):
        raise InvalidRequestError("one classifier judges a stream", param="classifier")
    return _chosen(call, body)[0]


def with_thresholds(
    catalog: ModelCatalog,
    classifiers: Sequence[ServedClassifier],
    threshold: float | Mapping[str, float],
) -> list[ServedClassifier]:
    """Give classifiers a request's thresholds; each takes those of its own classes.

    Exclusive classes have none: the answer's `thresholds` say what was in force.

    Raises
    ------
    InvalidRequestError
        No classifier has such a class, or a number is no probability.
    """
    known = threshold_classes(catalog.classifiers.values())
    if isinstance(threshold, Mapping) and not set(threshold) <= set(known):
        raise InvalidRequestError(
            "threshold names a class that has none",
            param="threshold",
            hint=f"these have: {', '.join(known) or 'none'}",
        )
    found = []
    for one in classifiers:
        able = scored_classes(one.card.kind, one.card.classes)
        told = threshold if isinstance(threshold, Mapping) else dict.fromkeys(able, threshold)
        told = {name: value for name, value in told.items() if name in able}
        found.append(one.with_threshold(told) if told else one)
    return found


def _told(call: Call, body: ClassifyRequest, classifiers: Sequence[ServedClassifier]) -> set[str]:
    """Names of those whose spans are wanted, and that tell them."""
    if not body.spans:
        return set()
    return {one.name for one in classifiers if tells_spans(call.catalog, one)}


def _answer(classifier: ServedClassifier, judgement: Judgement, *, spans: bool) -> dict[str, Any]:
    verdicts = judgement.verdicts[classifier.name]
    return {
        "object": "list",
        "classifier": classifier.name,
        "model": classifier.model.name,
        "classes": classifier.card.classes,
        "thresholds": classifier.card.deciding_thresholds,
        "data": [
            {"index": index, **_row(verdict, spans=spans)} for index, verdict in enumerate(verdicts)
        ],
        "usage": judgement.usage,
    }


def _several(
    classifiers: Sequence[ServedClassifier], judgement: Judgement, *, told: Container[str]
) -> dict[str, Any]:
    names = [one.name for one in classifiers]
    by_input = zip(*(judgement.verdicts[name] for name in names), strict=True)
    return {
        "object": "list",
        "classifiers": names,
        "models": {one.name: one.model.name for one in classifiers},
        "classes": {one.name: one.card.classes for one in classifiers},
        "thresholds": {one.name: one.card.deciding_thresholds for one in classifiers},
        "data": [
            {
                "index": index,
                "verdicts": {
                    name: _row(verdict, spans=name in told)
                    for name, verdict in zip(names, verdicts, strict=True)
                },
            }
            for index, verdicts in enumerate(by_input)
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


router = APIRouter(route_class=streaming_route(_only, _row), tags=["classifiers"])


@router.post(
    "/classify",
    summary="Verdicts of a classifier",
    response_class=Response,
    responses={
        200: {
            "model": ClassifyAnswer | SeveralAnswer,
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
    classifiers = _chosen(call, body)
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    judgement = await judge(
        call, classifiers, inputs, body.overflow, grows=body.stream, count=body.count
    )
    told = _told(call, body, classifiers)
    if isinstance(body.classifier, list):
        return await call.answer(
            lambda: _several(classifiers, judgement, told=told), n_rows=len(inputs)
        )
    return await call.answer(
        lambda: _answer(classifiers[0], judgement, spans=bool(told)), n_rows=len(inputs)
    )
