"""``POST /v1/inspect``: everything that is known of one input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from fastapi import APIRouter
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.inputs import Inputs, parse_input
from service.json import StrictRoute
from service.routes.call import CallOf
from service.routes.features import require_few_rows
from service.routes.judging import judge, tells_spans, whole
from service.schemas.errors import COMPUTING
from service.schemas.inspect import InspectAnswer, InspectRequest
from service.verdicts import ServedClassifier, Verdict
from splinellm.conversations import is_conversation, messages_of
from splinellm.extraction.inspection import InspectedVerdict, inspection_of
from splinellm.schema import Granularity

if TYPE_CHECKING:
    from service.routes.call import Call
    from splinellm.table import FeatureTable

router = APIRouter(route_class=StrictRoute, tags=["classifiers"])


@router.post(
    "/inspect",
    summary="One input: tokens, features, dimension, verdicts and their words",
    response_class=Response,
    responses={200: {"model": InspectAnswer}, **COMPUTING},
)
async def inspect(body: InspectRequest, call: CallOf) -> Response:
    """Look at one input; classifiers that pool windows judge each message of a conversation."""
    model = call.catalog.get(body.model)
    names = [*call.catalog.classifiers] if body.classifiers is None else body.classifiers
    classifiers = [call.catalog.get_classifier(name) for name in dict.fromkeys(names)]
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    if body.classifiers is None:
        # Nobody has asked those that judge conversations alone, or none that are rendered so.
        is_chat = is_conversation(inputs.prompts[0])
        classifiers = [
            one for one in classifiers if (one.knows_template if is_chat else one.card.reads_texts)
        ]
    if isinstance(body.input, list) and not isinstance(body.input[0], int | float):
        raise InvalidRequestError(
            "input is a list, but one input is inspected at a time", param="input"
        )
    granularities: tuple[Granularity, ...] = ("prompt", "token")
    tables: dict[str, FeatureTable] = {}
    for granularity in granularities:
        plan = await call.plan(model, body.layers, body.features, granularity)
        reading = await call.read(inputs, model, plan, overflow="truncate")
        require_few_rows(plan, reading)
        tables[granularity] = await call.features(model, plan, reading, inputs.prompts)
    verdicts, n_judged = await _verdicts(call, classifiers, inputs)
    # Rows of both kinds are of the same tokens, which are counted once.
    n_tokens = sum(reading.n_tokens) + n_judged
    found = replace(inspection_of(inputs.prompts[0], tables, []), verdicts=tuple(verdicts))
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return await call.answer(
        lambda: {**found.to_dict(np.asarray), "model": model.name, "usage": usage},
        n_rows=len(tables["token"]),
    )


async def _verdicts(
    call: Call, classifiers: Sequence[ServedClassifier], inputs: Inputs
) -> tuple[list[InspectedVerdict], int]:
    """Verdicts on the input, or on its messages, and how many tokens were read for them."""
    prompt = inputs.prompts[0]
    found: list[InspectedVerdict] = []
    n_tokens = 0
    for by_message in (False, True):
        chosen = [
            one
            for one in classifiers
            if (is_conversation(prompt) and one.pooled is not None) is by_message
        ]
        asked: Inputs = inputs
        places: list[int | None] = [None]
        if by_message and chosen:
            asked, places = _messages(inputs)
        if not chosen or not asked.prompts:
            continue
        judgement = await judge(call, chosen, asked, whole(call.settings))
        n_tokens += judgement.n_tokens
        for classifier in chosen:
            told = tells_spans(call.catalog, classifier)
            for place, verdict in zip(places, judgement.verdicts[classifier.name], strict=True):
                found.append(_inspected(classifier, verdict, place, told=told))
    return found, n_tokens


def _messages(inputs: Inputs) -> tuple[Inputs, list[int | None]]:
    """Messages that say something, as inputs of their own."""
    spoken = [(i, m.text) for i, m in enumerate(messages_of(inputs.prompts[0])) if m.text.strip()]
    names = [f"{inputs.names[0]}.messages[{i}]" for i, _ in spoken]
    return Inputs([text for _, text in spoken], names), [i for i, _ in spoken]


def _inspected(
    classifier: ServedClassifier, verdict: Verdict, message: int | None, *, told: bool
) -> InspectedVerdict:
    return InspectedVerdict(
        classifier.name,
        tuple(verdict.labels),
        verdict.probabilities,
        classifier.card.deciding_thresholds,
        tuple(span._asdict() for span in verdict.spans) if told else None,
        message,
        verdict.extent.truncated,
    )
