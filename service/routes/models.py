"""``GET /v1/models`` and ``/v1/classifiers``: what is loaded, and what is known about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from service.descriptions import describe_classifier, describe_model
from service.json import JSONResponse, StrictRoute
from service.routes.call import CallOf
from service.schemas.errors import FINDING, READING
from service.schemas.models import (
    ClassifierAnswer,
    ClassifiersAnswer,
    ModelAnswer,
    ModelsAnswer,
)

router = APIRouter(route_class=StrictRoute, tags=["loaded"])


@router.get(
    "/models",
    summary="Loaded models",
    response_class=Response,
    responses={200: {"model": ModelsAnswer}, **READING},
)
async def models(call: CallOf) -> Response:
    """List the loaded models, the default first."""
    found = [describe_model(call.catalog.get(name), call.settings) for name in call.catalog.names]
    return JSONResponse({"object": "list", "data": found})


@router.get(
    "/models/{model_id:path}",
    summary="A loaded model",
    response_class=Response,
    responses={200: {"model": ModelAnswer}, **FINDING},
)
async def model(
    model_id: Annotated[str, Path(description="May hold slashes.", min_length=1)], call: CallOf
) -> Response:
    """Describe one model."""
    return JSONResponse(describe_model(call.catalog.get(model_id), call.settings))


@router.get(
    "/classifiers",
    summary="Loaded classifiers",
    response_class=Response,
    responses={200: {"model": ClassifiersAnswer}, **READING},
)
async def classifiers(call: CallOf) -> Response:
    """List the loaded classifiers with what is known of their strengths and weaknesses."""
    catalog = call.catalog
    found = [
        describe_classifier(one, catalog.cascades.get(name))
        for name, one in catalog.classifiers.items()
    ]
    return JSONResponse({"object": "list", "data": found})


@router.get(
    "/classifiers/{classifier_id:path}",
    summary="A loaded classifier",
    response_class=Response,
    responses={200: {"model": ClassifierAnswer}, **FINDING},
)
async def classifier(
    classifier_id: Annotated[str, Path(description="May hold slashes.", min_length=1)],
    call: CallOf,
) -> Response:
    """Describe one classifier."""
    found = call.catalog.get_classifier(classifier_id)
    return JSONResponse(describe_classifier(found, call.catalog.cascades.get(found.name)))
