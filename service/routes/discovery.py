"""The discovery document from which Google's client libraries make their methods."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.json import JSONResponse
from service.middleware.paths import DISCOVERY

router = APIRouter(include_in_schema=False)

_SCORE = {
    "id": "Score",
    "type": "object",
    "properties": {
        "value": {"type": "number", "format": "float"},
        "type": {"type": "string"},
    },
}
_SCHEMAS: dict[str, Any] = {
    "Score": _SCORE,
    "SpanScore": {
        "id": "SpanScore",
        "type": "object",
        "properties": {
            "begin": {"type": "integer", "format": "int32"},
            "end": {"type": "integer", "format": "int32"},
            "score": {"$ref": "Score"},
        },
    },
    "AttributeScores": {
        "id": "AttributeScores",
        "type": "object",
        "properties": {
            "summaryScore": {"$ref": "Score"},
            "spanScores": {"type": "array", "items": {"$ref": "SpanScore"}},
        },
    },
    "AttributeParameters": {
        "id": "AttributeParameters",
        "type": "object",
        "properties": {
            "scoreType": {"type": "string"},
            "scoreThreshold": {"type": "number", "format": "float"},
        },
    },
    "TextEntry": {
        "id": "TextEntry",
        "type": "object",
        "properties": {"text": {"type": "string"}, "type": {"type": "string"}},
    },
    "AnalyzeCommentRequest": {
        "id": "AnalyzeCommentRequest",
        "type": "object",
        "properties": {
            "comment": {"$ref": "TextEntry"},
            "requestedAttributes": {
                "type": "object",
                "additionalProperties": {"$ref": "AttributeParameters"},
            },
            "languages": {"type": "array", "items": {"type": "string"}},
            "spanAnnotations": {"type": "boolean"},
            "doNotStore": {"type": "boolean"},
            "clientToken": {"type": "string"},
        },
    },
    "AnalyzeCommentResponse": {
        "id": "AnalyzeCommentResponse",
        "type": "object",
        "properties": {
            "attributeScores": {
                "type": "object",
                "additionalProperties": {"$ref": "AttributeScores"},
            },
            "languages": {"type": "array", "items": {"type": "string"}},
            "clientToken": {"type": "string"},
        },
    },
}
_KEY = {"type": "string", "location": "query", "description": "The key of this service."}


def document(root_url: str) -> dict[str, Any]:
    """Describe ``comments:analyze`` of the service at `root_url`, which ends with a slash."""
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "commentanalyzer:v1alpha1",
        "name": "commentanalyzer",
        "version": "v1alpha1",
        "title": "Perspective's format, by splinellm",
        "protocol": "rest",
        "rootUrl": root_url,
        "servicePath": "",
        "baseUrl": root_url,
        "batchPath": "batch",
        "parameters": {"key": _KEY, "alt": {"type": "string", "location": "query"}},
        "schemas": _SCHEMAS,
        "resources": {
            "comments": {
                "methods": {
                    "analyze": {
                        "id": "commentanalyzer.comments.analyze",
                        "path": "v1alpha1/comments:analyze",
                        "flatPath": "v1alpha1/comments:analyze",
                        "httpMethod": "POST",
                        "description": "Scores a comment.",
                        "parameters": {},
                        "parameterOrder": [],
                        "request": {"$ref": "AnalyzeCommentRequest"},
                        "response": {"$ref": "AnalyzeCommentResponse"},
                    }
                }
            }
        },
    }


async def discovery(request: Request) -> Response:
    """Answer with the document, whose addresses are those that the client used."""
    return JSONResponse(document(str(request.base_url)))


for path in sorted(DISCOVERY):
    router.add_api_route(path, discovery, methods=["GET"], include_in_schema=False)
