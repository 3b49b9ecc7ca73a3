"""The service, wired: middleware from the outside in, then the routes."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service import lifespan
from service.error_responses import raise_service_error
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.middleware.access import Access
from service.middleware.body_limit import BodyLimit
from service.middleware.decompress import Decompress
from service.middleware.gate import Gate
from service.middleware.head import Head
from service.middleware.observe import Observe
from service.middleware.prefix import Prefix
from service.middleware.security_headers import SecurityHeaders
from service.models import load_models
from service.routes import (
    classify,
    discovery,
    embeddings,
    features,
    health,
    inspect,
    models,
    moderations,
    page,
    perspective,
    tokenize,
)
from service.schemas.document import openapi
from service.settings import Settings, load_settings
from splinellm import __version__

_VERSIONED = (features, classify, inspect, embeddings, moderations, tokenize, models)
_OTHERS = (perspective, discovery, health, page)
_WITHOUT_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)


def create_app(settings: Settings | None = None, *, load: lifespan.Load = load_models) -> FastAPI:
    """Make the service, as in ``uvicorn service.app:create_app --factory``.

    Nothing is loaded before the app is run.

    Parameters
    ----------
    settings : Settings, optional
        From the environment by default.
    load : callable
        Loads the models; called in a thread once the app runs.

    Returns
    -------
    FastAPI
        Its ``state`` has ``settings``, ``metrics``, ``lifecycle``; once it runs also ``pool``, and
        once it is ready ``catalog``.
    """
    settings = settings or load_settings()
    metrics = Metrics()
    lifecycle = Lifecycle(settings.drain_timeout_s)
    metrics.watch_lifecycle(lifecycle)
    app = FastAPI(
        title="splinellm",
        version=__version__,
        description="Spline geometry of large language models, and verdicts from it.",
        openapi_url=None,  # service.routes.page sends it, and the pages that show it
        redirect_slashes=False,
        lifespan=partial(lifespan.run, load=load),
        middleware=_middleware(settings, metrics, lifecycle),
        exception_handlers={
            HTTPException: raise_service_error,
            RequestValidationError: raise_service_error,
        },
        # FastAPI's traces hold query strings and exceptions: keys of Perspective's clients, texts.
        telemetry=_WITHOUT_TELEMETRY,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.lifecycle = lifecycle
    for api in _VERSIONED:
        app.include_router(api.router, prefix="/v1")
        # Some clients leave the version out.
        app.include_router(api.router, include_in_schema=False)
    for api in _OTHERS:
        app.include_router(api.router)
    app.openapi = partial(openapi, app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _middleware(settings: Settings, metrics: Metrics, lifecycle: Lifecycle) -> list[Middleware]:
    """From the outside in. Browsers need headers and CORS on errors, too."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
        expose_headers=["x-request-id", "retry-after"],
    )
    proxies = Middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))
    return [
        *([proxies] if settings.trusted_proxies else []),
        Middleware(Prefix, settings.root_path),
        Middleware(SecurityHeaders),
        *([cors] if settings.cors_origins else []),
        Middleware(
            Observe,
            metrics,
            [route for api in (*_VERSIONED, *_OTHERS) for route in api.router.routes],
        ),
        Middleware(Gate, lifecycle),
        Middleware(
            Access,
            settings.api_keys,
            settings.rate_limit_per_minute,
            pages_are_public=settings.public_pages,
        ),
        Middleware(BodyLimit, settings.payload_limit, settings.body_timeout_s),
        Middleware(Decompress, settings.payload_limit),
        Middleware(Head),
    ]
