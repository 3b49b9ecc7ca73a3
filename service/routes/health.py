"""For probes and Prometheus: ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, FastAPI, Request
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from starlette.responses import Response

from service.engine import Engine
from service.engine.health import RETRY_S
from service.errors import NotReadyError, ShuttingDownError
from service.schemas.errors import error_responses

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The service is well."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", responses=error_responses(405, 500, 503))
async def healthz(request: Request) -> Health:
    """Say whether the process works; if not, only a new one will."""
    if request.app.state.lifecycle.failure is not None:
        raise NotReadyError("the model cannot be loaded")
    _require_engines(request.app)
    return Health()


@router.get("/readyz", responses=error_responses(405, 500, 503))
async def readyz(request: Request) -> Health:
    """Say whether requests are taken now."""
    require_ready(request.app)
    return Health()


def require_ready(app: FastAPI) -> None:
    """Refuse while requests are not taken.

    Raises
    ------
    NotReadyError, ShuttingDownError
        Says why.
    """
    lifecycle = app.state.lifecycle
    if lifecycle.draining:
        raise ShuttingDownError("the service is shutting down")
    if not lifecycle.ready:
        raise NotReadyError("the model is still loading")
    for engine in _engines(app):
        if trouble := engine.trouble:
            raise NotReadyError(trouble, retry_after_s=RETRY_S)
    _require_engines(app)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **error_responses(401, 405, 429, 500),
    },
)
def metrics(request: Request) -> Response:
    """Tell Prometheus. Not a coroutine: writing thousands of numbers is no work for the loop."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    registry = request.app.state.metrics.registry
    return Response(encode(registry), headers={"content-type": content_type})


def _engines(app: FastAPI) -> list[Engine]:
    catalog = getattr(app.state, "catalog", None)
    return [] if catalog is None else [catalog.get(name).engine for name in catalog.names]


def _require_engines(app: FastAPI) -> None:
    if not all(engine.alive for engine in _engines(app)):
        raise NotReadyError("the engine of a model has stopped")
