"""``POST /v1alpha1/comments:analyze``: verdicts on toxicity, for clients of the Perspective API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.html_text import text_of_html
from service.inputs import name_text
from service.json import StrictRoute
from service.routes.call import CallOf
from service.routes.moderations import toxicity_classifiers, whole
from service.schemas.errors import GOOGLE
from service.schemas.perspective import AnalyzeAnswer, AnalyzeRequest
from service.sentences import sentence_spans
from service.verdicts import ServedClassifier, Verdict

LABEL_OF_ATTRIBUTE: Mapping[str, str] = {
    "TOXICITY": "toxic",
    "SEVERE_TOXICITY": "severe_toxic",
    "IDENTITY_ATTACK": "identity_hate",
    "INSULT": "insult",
    "PROFANITY": "obscene",
    "THREAT": "threat",
}
_NAME = re.compile("[A-Z][A-Z_]{2,40}")
LANGUAGE = "en"
"""What the classifiers were trained on; a score in another language would be made up."""

router = APIRouter(route_class=StrictRoute, tags=["perspective"])


@router.post(
    "/v1alpha1/comments:analyze",
    summary="Score a comment",
    response_class=Response,
    response_model_exclude_none=True,
    responses={200: {"model": AnalyzeAnswer}, **GOOGLE},
)
async def analyze(body: AnalyzeRequest, call: CallOf) -> Response:
    """Score a comment in the format of the Perspective API.

    Spans are in Unicode code points. With `spanAnnotations` every sentence is scored, too; the
    summary is always that of the whole text. A comment of whatever length is read to its end.
    """
    classifiers = toxicity_classifiers(call.catalog)
    attributes = _scored(body, classifiers, is_strict=call.settings.perspective_unknown == "error")
    content: dict[str, Any] = {"attributeScores": {}, "languages": [LANGUAGE] if attributes else []}
    if body.client_token is not None:
        content["clientToken"] = body.client_token
    places = None
    original = text = body.comment.text
    if body.comment.type == "HTML":
        text, places = await call.in_pool(text_of_html, original)
        text = text if text.strip() else ""  # which is refused as any empty text is
    inputs = await call.in_pool(name_text, text, "comment.text", call.settings)
    if not attributes:
        return await call.answer(lambda: content)
    spans = [(0, len(text))]
    if body.span_annotations:
        sentences = await call.in_pool(sentence_spans, text, call.settings.max_client_batch_size)
        if len(sentences) > 1:
            spans += sentences
            inputs = inputs.with_parts([text[begin:end] for begin, end in sentences])
    judgement = await call.judge(classifiers, inputs, whole(call.settings))
    labels = [
        # Backwards: of two classifiers with the label 'toxic' the first is the better one.
        _probabilities(verdicts)
        for verdicts in zip(
            *(judgement.verdicts[one.name] for one in reversed(classifiers)), strict=True
        )
    ]
    if places is not None:
        spans = [(places[begin][0], places[end - 1][1]) for begin, end in spans]
        spans[0] = (0, len(original))
    content["attributeScores"] = _scores(body, attributes, spans, labels)
    return await call.answer(lambda: content, n_rows=len(spans))


def _probabilities(verdicts: Sequence[Verdict]) -> dict[str, float]:
    return {label: value for verdict in verdicts for label, value in verdict.probabilities.items()}


def _scored(
    body: AnalyzeRequest, classifiers: Sequence[ServedClassifier], *, is_strict: bool
) -> list[str]:
    """Attributes that can be scored; the others are refused or left out."""
    speaks = not body.languages or LANGUAGE in (tag[:2].lower() for tag in body.languages)
    if is_strict and not speaks:
        raise InvalidRequestError("only English can be scored", param="languages")
    labels = {label for one in classifiers for label in one.card.classes}
    known = [it for it in body.requested_attributes if LABEL_OF_ATTRIBUTE.get(it) in labels]
    for attribute in body.requested_attributes:
        if is_strict and attribute not in known:
            # A name that nobody ever gave an attribute is no more than text of the request.
            name = attribute if _NAME.fullmatch(attribute) else "an attribute"
            raise InvalidRequestError(
                f"no loaded classifier scores {name}", param="requestedAttributes"
            )
    return known if speaks else []


def _scores(
    body: AnalyzeRequest,
    attributes: Sequence[str],
    spans: Sequence[tuple[int, int]],
    probabilities: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """Scores by attribute; the first span is the whole text."""
    scores: dict[str, Any] = {}
    for attribute in attributes:
        options = body.requested_attributes[attribute]
        label = LABEL_OF_ATTRIBUTE[attribute]
        threshold = options.score_threshold or 0.0
        values = [by_label[label] for by_label in probabilities]
        if values[0] < threshold:
            continue
        parts = list(zip(spans, values, strict=True))
        scores[attribute] = {
            "spanScores": [
                {"begin": begin, "end": end, "score": _score(value)}
                for (begin, end), value in parts[1:] or parts
                if value >= threshold
            ],
            "summaryScore": _score(values[0]),
        }
    return scores


def _score(value: float) -> dict[str, Any]:
    return {"value": value, "type": "PROBABILITY"}
