"""The OpenAPI document, with the limits of the settings and of what is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.middleware.paths import HEALTH
from service.schemas import common
from service.verdicts import threshold_classes

if TYPE_CHECKING:
    from service.models import ModelCatalog
    from service.settings import Settings

Schema = dict[str, Any]


def openapi(app: FastAPI) -> Schema:
    """Make the document: complete and kept once the models are loaded."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _drop_foreign_errors(document)
    if app.state.settings.api_keys:
        _ask_for_keys(document)
    catalog = getattr(app.state, "catalog", None)
    apply_limits(document, app.state.settings, catalog)
    if catalog is not None:
        app.openapi_schema = document
    return document


def apply_limits(document: Schema, settings: Settings, catalog: ModelCatalog | None) -> None:
    """Put limits into the schemas whose titles say that they have one."""
    changes: dict[str, Callable[[Schema], None]] = {
        common.TEXT: lambda schema: schema.update(maxLength=settings.max_input_chars),
        common.BATCH: lambda schema: schema.update(maxItems=settings.max_client_batch_size),
        common.OPENAI_BATCH: lambda schema: schema.update(maxItems=settings.max_openai_inputs),
        common.MODERATED_TEXT: lambda schema: schema.update(
            maxLength=settings.max_moderation_chars
        ),
        common.TOKEN_IDS: lambda schema: schema.update(maxItems=settings.max_input_chars),
    }
    if catalog is not None:
        models = [catalog.get(name) for name in catalog.names]
        n_layers = max(model.n_layers for model in models)
        n_vocabulary = max(model.n_vocabulary for model in models)
        changes |= {
            common.TOKEN_ID: lambda schema: schema.update(maximum=n_vocabulary - 1),
            common.LAYER: lambda schema: schema.update(minimum=-n_layers, maximum=n_layers - 1),
            common.MODEL: lambda schema: _name_one_of(schema, list(catalog.names)),
            common.CLASSIFIER: lambda schema: _name_one_of(schema, list(catalog.classifiers)),
        }
        names = threshold_classes(catalog.classifiers.values())
        changes[common.THRESHOLD] = lambda schema: _name_keys(schema, names)
        if not any(one.pooled for one in catalog.classifiers.values()):
            changes[common.SPANS] = lambda schema: schema.update(enum=[False, "available"])
    for schema in _schemas(document):
        change = changes.get(schema.get("title", ""))
        if change is not None:
            change(schema)


def _drop_foreign_errors(document: Schema) -> None:
    """FastAPI documents a 422 of its own shape where a route has none; these routes answer 400."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]


def _ask_for_keys(document: Schema) -> None:
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for path in HEALTH:
        document["paths"][path]["get"]["security"] = []


def _name_one_of(schema: Schema, names: list[str]) -> None:
    """Turn "a string or null" into "one of these or null"."""
    for alternative in schema.get("anyOf", ()):
        if alternative.get("type") == "string":
            alternative["enum"] = names
        if alternative.get("type") == "array":
            alternative["items"]["enum"] = names


def _name_keys(schema: Schema, names: list[str]) -> None:
    """Say which keys an object may have."""
    for alternative in schema.get("anyOf", ()):
        if alternative.get("type") == "object":
            alternative["propertyNames"] = {"enum": names}


def _schemas(part: Any) -> Iterator[Schema]:
    if isinstance(part, Mapping):
        if isinstance(part.get("title"), str):
            yield part  # type: ignore[misc] # a JSON document has no other mappings
        for value in part.values():
            yield from _schemas(value)
    elif isinstance(part, list):
        for value in part:
            yield from _schemas(value)
