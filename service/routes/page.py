"""Pages for people, without outside resources: the playground and the API's description."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFoundError
from service.json import JSONResponse
from service.middleware.paths import STATIC_PREFIX
from service.middleware.prefix import prefix_of

_FILE = Path(__file__).parent.parent / "page" / "index.html"
_SCRIPT, _STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
_TYPES = {_SCRIPT: "text/javascript; charset=utf-8", _STYLE: "text/css; charset=utf-8"}
_POLICY = ["default-src 'none'", "connect-src 'self'", "img-src data:", "frame-ancestors 'none'"]

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> Response:
    """Send the playground."""
    return _html(*_playground(prefix_of(request), bool(request.app.state.settings.api_keys)))


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Send Swagger UI."""
    return _html(*_swagger_ui(prefix_of(request)))


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Send the OpenAPI document; behind a prefix it says so."""
    prefix = prefix_of(request)
    servers = {"servers": [{"url": prefix}]} if prefix else {}
    return JSONResponse({**request.app.openapi(), **servers})


@router.get(STATIC_PREFIX + "{name}")
async def static(name: str) -> Response:
    """Send a file of Swagger UI."""
    if name not in _TYPES:
        raise NotFoundError("there is nothing at this path")
    # The page asks for it by its hash, so that a newer one has another address.
    headers = {"content-type": _TYPES[name], "cache-control": "private, max-age=604800, immutable"}
    return Response(_file(name), headers=headers)


@lru_cache(16)  # a prefix may come from anybody
def _playground(prefix: str, asks_for_key: bool) -> tuple[str, str]:
    """Make the page, and allow exactly its own script and style, by their hashes."""
    text = _FILE.read_text(encoding="utf-8")
    script, style = _hashes("script", text), _hashes("style", text)
    if asks_for_key:
        text = text.replace("<html ", "<html data-asks-for-key ", 1)
    if prefix:  # without a slash at the end of the address, its links would lead out of the prefix
        text = text.replace("<head>", f'<head>\n<base href="{prefix}/">', 1)
    policy = [
        *_POLICY,
        f"script-src {script}",
        f"style-src {style}",
        "base-uri 'self'",
        "form-action 'none'",
    ]
    return text, "; ".join(policy)


@lru_cache(16)
def _swagger_ui(prefix: str) -> tuple[str, str]:
    """Make FastAPI's page of Swagger UI, with the files of this service."""
    root = prefix or "."
    urls = {name: f"{root}{STATIC_PREFIX}{name}?v={_version(name)}" for name in _TYPES}
    answer = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="splinellm",
        swagger_js_url=urls[_SCRIPT],
        swagger_css_url=urls[_STYLE],
        swagger_favicon_url="data:,",
    )
    text = bytes(answer.body).decode()
    policy = [
        *_POLICY,
        f"script-src 'self' {_hashes('script', text)}",
        "style-src 'self' 'unsafe-inline'",  # Swagger UI writes styles into attributes
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return text, "; ".join(policy)


def _html(text: str, policy: str) -> Response:
    return Response(
        text,
        media_type="text/html; charset=utf-8",
        headers={"content-security-policy": policy, "cache-control": "no-cache"},
    )


@cache
def _file(name: str) -> bytes:
    """A file of Swagger UI, from the package that brings it; none of its code is run."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("fastapi_offline")
    return (Path(spec.origin).parent / "static" / name).read_bytes()


def _version(name: str) -> str:
    return hashlib.sha256(_file(name)).hexdigest()[:12]


def _hashes(tag: str, text: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
