"""``POST /v1alpha1/comments:analyze``: verdicts on toxicity, for clients of the Perspective API."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import Response

from service.categories import LABEL_OF_ATTRIBUTE
from service.error_responses import printable
from service.errors import ClassifierNotServedError, InvalidRequestError
from service.html_text import text_of_html
from service.inputs import Inputs, name_text
from service.json import StrictRoute
from service.mapping import (
    Source,
    attribute_sources,
    scorer_of,
    sources,
)
from service.routes.call import Call, CallOf
from service.routes.judging import judge, tells_spans, whole
from service.schemas.errors import GOOGLE
from service.schemas.perspective import AnalyzeAnswer, AnalyzeRequest
from service.sentences import sentence_spans
from service.verdicts import ServedClassifier, Verdict

if TYPE_CHECKING:
    from service.models import ModelCatalog

_NAME = re.compile("[A-Z][A-Z_]{2,40}")
_TAG = re.compile("[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,3}")
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

    Spans are in Unicode code points. With `spanAnnotations` they are what the classifier found, if
    it tells where a class is, and else all sentences with their scores; the summary is always that
    of the whole text. A comment of whatever length is read to its end.
    """
    catalog = call.catalog
    mapped = sources(catalog.classifiers, call.settings.attributes, "perspective_attributes")
    scorers = attribute_sources(catalog.classifiers, catalog.cascades, mapped)
    unscored = [it for it in body.requested_attributes if it not in scorers]
    if unscored:
        _require_scored(
            body, unscored, catalog, is_strict=call.settings.perspective_unknown == "error"
        )
    attributes = _scored(body, scorers, is_strict=call.settings.perspective_unknown == "error")
    content: dict[str, Any] = {"attributeScores": {}, **_languages(body.languages or ())}
    if unscored:
        content["unscoredAttributes"] = [printable(name) for name in unscored]
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
    classifiers = list(dict.fromkeys(scorers[attribute].classifier for attribute in attributes))
    in_parts = body.span_annotations or False
    verdicts, sentences = await _judged(call, classifiers, inputs, text, in_parts=in_parts)

    def place(begin: int, end: int) -> tuple[int, int]:
        if (begin, end) == (0, len(text)):
            return 0, len(original)
        return (begin, end) if places is None else (places[begin][0], places[end - 1][1])

    for attribute in attributes:
        label = scorers[attribute].label
        of_classifier = verdicts[scorers[attribute].classifier.name]
        # Classifiers that tell spans tell them always, whether anybody has asked for them or not.
        parts = _parts(of_classifier, label, sentences) if in_parts else []
        parts = parts or [(0, len(text), of_classifier[0].probabilities[label])]
        threshold = body.requested_attributes[attribute].score_threshold or 0.0
        scores = _scores(of_classifier[0], label, parts, threshold, place)
        if scores is not None:
            content["attributeScores"][attribute] = scores
    return await call.answer(lambda: content, n_rows=len(sentences))


async def _judged(
    call: Call,
    classifiers: Sequence[ServedClassifier],
    inputs: Inputs,
    text: str,
    *,
    in_parts: bool,
) -> tuple[dict[str, list[Verdict]], list[tuple[int, int]]]:
    """Verdicts by classifier, and the sentences.

    The first is on the whole text; others are on the sentences, if there is more than one and the
    classifier does not say by itself where in a text a class is.
    """
    overflow = whole(call.settings)
    others = [one for one in classifiers if not (in_parts and tells_spans(call.catalog, one))]
    tellers = [one for one in classifiers if one not in others]
    verdicts: dict[str, list[Verdict]] = {}
    sentences: list[tuple[int, int]] = []
    if tellers:
        verdicts |= (await judge(call, tellers, inputs, overflow)).verdicts
    if others:
        if in_parts:
            limit = call.settings.max_client_batch_size
            found = await call.in_pool(sentence_spans, text, limit)
            sentences = found if len(found) > 1 else []
            inputs = inputs.with_parts([text[begin:end] for begin, end in sentences])
        verdicts |= (await judge(call, others, inputs, overflow)).verdicts
    return verdicts, sentences


def _parts(
    verdicts: Sequence[Verdict], label: str, sentences: Sequence[tuple[int, int]]
) -> list[tuple[int, int, float]]:
    """Begin, end and score of parts of the text: what was found, or all sentences."""
    if len(verdicts) == 1:
        return [(it.begin, it.end, it.score) for it in verdicts[0].spans if it.label == label]
    scores = [verdict.probabilities[label] for verdict in verdicts[1:]]
    return [(*place, score) for place, score in zip(sentences, scores, strict=True)]


def _is_scored(tag: str) -> bool:
    return tag.lower().replace("_", "-").split("-")[0] == LANGUAGE


def _languages(tags: Sequence[str]) -> dict[str, list[str]]:
    """Of the languages that the request says its text is in, which are scored and which are not.

    Of a text whose language is not said nothing is claimed: it is not looked at.
    """
    languages = [LANGUAGE] if any(map(_is_scored, tags)) else []
    unscored = [tag for tag in tags if not _is_scored(tag) and _TAG.fullmatch(tag)]
    return {"languages": languages, **({"unscoredLanguages": unscored} if unscored else {})}


def _scored(body: AnalyzeRequest, scorers: Mapping[str, Source], *, is_strict: bool) -> list[str]:
    """Attributes that are scored: none of a text in another language, which may be refused."""
    speaks = not body.languages or any(map(_is_scored, body.languages))
    if is_strict and not speaks:
        raise InvalidRequestError("only English can be scored", param="languages")
    return [it for it in body.requested_attributes if it in scorers] if speaks else []


def _require_scored(
    body: AnalyzeRequest, unscored: Sequence[str], catalog: ModelCatalog, *, is_strict: bool
) -> None:
    """Refuse attributes that nothing scores, if the server is set up so.

    And what would be answered without a single score, since a classifier is not there that scores
    them elsewhere: that is no choice of the client's.

    Raises
    ------
    ClassifierNotServedError
        Says which classifier it is, why it is not there, and how another one takes its place.
    InvalidRequestError
        There is no such attribute.
    """
    known = [it for it in unscored if it in LABEL_OF_ATTRIBUTE]
    if known and (is_strict or len(unscored) == len(body.requested_attributes)):
        name = scorer_of(known[0], catalog.cascades)
        raise ClassifierNotServedError(
            f"{known[0]} is scored by '{name}', which {catalog.absence(name)}",
            param="requestedAttributes",
            hint=f"map another: perspective_attributes {known[0]}=NAME:CLASS",
        )
    if is_strict:
        # A name that nobody ever gave an attribute is no more than text of the request.
        name = unscored[0] if _NAME.fullmatch(unscored[0]) else "an attribute"
        raise InvalidRequestError(
            f"no loaded classifier scores {name}", param="requestedAttributes"
        )


def _scores(
    verdict: Verdict,
    label: str,
    parts: Sequence[tuple[int, int, float]],
    threshold: float,
    place: Callable[[int, int], tuple[int, int]],
) -> dict[str, Any] | None:
    """Scores of one attribute; none below the threshold. `place` finds a part in the original."""
    value = verdict.probabilities[label]
    if value < threshold:
        return None
    spans = [(*place(begin, end), score) for begin, end, score in parts if score >= threshold]
    scores = {
        "spanScores": [
            {"begin": begin, "end": end, "score": _score(score)} for begin, end, score in spans
        ],
        "summaryScore": _score(value),
    }
    return scores if verdict.decided_by is None else scores | {"decidedBy": verdict.decided_by}


def _score(value: float) -> dict[str, Any]:
    return {"value": value, "type": "PROBABILITY"}
