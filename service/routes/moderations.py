"""``POST /v1/moderations``: verdicts on toxicity, for OpenAI's clients."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import Response

from service.cascades import head_of
from service.categories import CATEGORY_OF_LABEL, HARMFUL, OPENAI_CATEGORIES, TOXIC
from service.errors import ClassifierNotServedError, InvalidRequestError, ModelNotServedError
from service.inputs import parse_moderation_input
from service.json import StrictRoute
from service.mapping import TOXICITY, TYPES, Source, own_names, sources
from service.routes.call import CallOf
from service.routes.judging import Judgement, judge, whole
from service.schemas.errors import COMPUTING
from service.schemas.moderations import ModerationsAnswer, ModerationsRequest
from service.verdicts import ServedClassifier, Verdict
from splinellm.learn.cascade import PERSON

if TYPE_CHECKING:
    from service.models import ModelCatalog

OPENAI_MODELS = ("omni-moderation", "text-moderation")
"""Prefixes of names that OpenAI's clients send by habit; they stand for the default."""

router = APIRouter(route_class=StrictRoute, tags=["openai"])


@router.post(
    "/moderations",
    summary="Is a text harmful?",
    response_class=Response,
    responses={200: {"model": ModerationsAnswer}, **COMPUTING},
)
async def moderations(body: ModerationsRequest, call: CallOf) -> Response:
    """Judge toxicity in the format of OpenAI's moderations."""
    require_known_model(body.model, call.catalog)
    mapped = sources(call.catalog.classifiers, call.settings.categories, "moderation_categories")
    classifiers = chosen_classifiers(body.model, call.catalog, mapped)
    mapped = {name: it for name, it in mapped.items() if it.classifier in classifiers}
    inputs = await call.in_pool(parse_moderation_input, body.input, call.settings)
    judgement = await judge(call, classifiers, inputs, whole(call.settings))
    own = own_names(call.catalog.cascades)
    if body.model in call.catalog.classifiers and tells_labels(classifiers[0]):
        own |= {classifiers[0].name}
    return await call.answer(
        lambda: _answer(classifiers, mapped, own, judgement, inputs.unscored), n_rows=len(inputs)
    )


def require_known_model(name: str | None, catalog: ModelCatalog) -> None:
    """Refuse a model's name that is neither loaded nor one of OpenAI's."""
    if name is None or name.startswith(OPENAI_MODELS):
        return
    if name not in catalog.names and name not in catalog.classifiers:
        raise ModelNotServedError(
            "no loaded model or classifier has this name",
            param="model",
            hint=f"loaded: {', '.join([*catalog.classifiers, *catalog.names])}",
        )


def chosen_classifiers(
    name: str | None, catalog: ModelCatalog, mapped: Mapping[str, Source]
) -> list[ServedClassifier]:
    """Give the one that a request names, or all of :func:`toxicity_classifiers`.

    Raises
    ------
    ServiceError
        It is loaded, but neither mapped nor of toxicity; or there is none at all.
    """
    head = head_of(catalog.cascades, TOXICITY)
    if name not in catalog.classifiers or head_of(catalog.cascades, str(name)) == head:
        return toxicity_classifiers(catalog, mapped)
    told = {source.classifier.name for source in mapped.values()}
    useful = [it for it, one in catalog.classifiers.items() if it in told or tells_labels(one)]
    if name not in useful:
        raise InvalidRequestError(
            "this classifier is loaded, but no category of moderations asks it",
            param="model",
            hint="map it with moderation_categories, ask /v1/classify, or name one of: "
            f"{', '.join(useful) or 'none'}",
        )
    return [catalog.classifiers[str(name)]]


def tells_labels(classifier: ServedClassifier) -> bool:
    """Whether its classes are of those that this format tells without being told to."""
    return not {TOXIC, *CATEGORY_OF_LABEL}.isdisjoint(classifier.card.classes)


def toxicity_classifiers(
    catalog: ModelCatalog, mapped: Mapping[str, Source]
) -> list[ServedClassifier]:
    """The classifier of toxicity, that of its types if it is loaded, and those that are mapped.

    Where toxicity is a step of a cascade, it is the cascade's first, which answers for all.

    Raises
    ------
    ServiceError
        The first is not loaded, and nothing is mapped.
    """
    head = head_of(catalog.cascades, TOXICITY)
    found = [catalog.classifiers[name] for name in (head, TYPES) if name in catalog.classifiers]
    if head not in catalog.classifiers and not mapped:
        raise ClassifierNotServedError(
            f"moderations ask '{head}', which {catalog.absence(head)}",
            hint="map others with moderation_categories, or name one toxicity=FOLDER",
        )
    others = [source.classifier for source in mapped.values() if source.classifier not in found]
    return [*found, *dict.fromkeys(others)]


def _answer(
    classifiers: list[ServedClassifier],
    mapped: Mapping[str, Source],
    own: frozenset[str],
    judgement: Judgement,
    unscored: list[dict[str, str]],
) -> dict[str, Any]:
    scored = [
        *mapped,
        *(
            CATEGORY_OF_LABEL[label]
            for classifier in classifiers
            for label in classifier.card.classes
            if label in CATEGORY_OF_LABEL and classifier.name in own
        ),
    ]
    by_input = zip(*(judgement.verdicts[one.name] for one in classifiers), strict=True)
    return {
        "id": f"modr-{uuid.uuid4().hex}",
        "model": classifiers[0].model.name,
        "results": [
            _result(classifiers, mapped, own, verdicts) | {"unscored_parts": unscored}
            for verdicts in by_input
        ],
        "classifiers": [one.name for one in classifiers],
        "unscored_categories": [name for name in OPENAI_CATEGORIES if name not in scored],
    }


def _result(
    classifiers: list[ServedClassifier],
    mapped: Mapping[str, Source],
    own: frozenset[str],
    verdicts: tuple[Verdict, ...],
) -> dict[str, Any]:
    categories: dict[str, bool] = dict.fromkeys(OPENAI_CATEGORIES, False)
    scores: dict[str, float] = dict.fromkeys(OPENAI_CATEGORIES, 0.0)
    types: dict[str, list[str]] = {name: [] for name in OPENAI_CATEGORIES}
    harmful: dict[str, bool] = {}
    # Backwards: 'toxic' is a label of both, and that of the first classifier is the better one.
    for classifier, verdict in reversed(list(zip(classifiers, verdicts, strict=True))):
        if classifier.name not in own:
            continue  # only what is mapped of it
        for label, probability in verdict.probabilities.items():
            if label == classifier.harmless:
                continue
            # One of exclusive classes always holds, and may be what stands for nothing found.
            is_harmful = classifier.card.kind != "multiclass" or label in HARMFUL
            for name in (label, CATEGORY_OF_LABEL.get(label, label)):
                categories[name] = verdict.flags[label]
                scores[name] = probability
                types[name] = ["text"]
                harmful[name] = is_harmful
    by_name = {one.name: verdict for one, verdict in zip(classifiers, verdicts, strict=True)}
    for name, source in mapped.items():
        verdict = by_name[source.classifier.name]
        # Of what is left to a person, no label holds.
        categories[name] = source.label in verdict.labels
        scores[name] = verdict.probabilities[source.label]
        types[name] = ["text"]
        harmful[name] = True
    # The first classifier's; what nobody has decided must be looked at.
    decided_by = verdicts[0].decided_by
    return {
        "flagged": any(categories[name] for name, it in harmful.items() if it)
        or decided_by == PERSON,
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": types,
        **asdict(verdicts[0].extent),
        **({} if decided_by is None else {"decided_by": decided_by}),
    }
