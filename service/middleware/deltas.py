"""Which requests send a text piece by piece, for as long as it grows."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

NDJSON = "application/x-ndjson"
_MEDIA_TYPES = frozenset({NDJSON, "application/ndjson", "application/jsonl"})
_PATHS = frozenset({"/v1/classify", "/classify"})


def sends_deltas(scope: Scope) -> bool:
    """Whether the body of a request is lines that are answered one by one."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in _PATHS:
        return False
    media_type = Headers(scope=scope).get("content-type", "").partition(";")[0]
    return media_type.strip().lower() in _MEDIA_TYPES
