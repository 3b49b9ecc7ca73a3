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

_FOLDER = Path(__file__).parent.parent / "page"
_PLACE = "FILES"
"""What stands in the page for where its files are."""
_SCRIPT, _STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
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
    if name not in (_SCRIPT, _STYLE):
        raise NotFoundError("there is nothing at this path")
    return _part(name, _file(name), is_lasting=True)  # the page asks for it by its hash


@router.get(STATIC_PREFIX + "page/{version}/{name}")
async def part(version: str, name: str) -> Response:
    """Send a file of the playground."""
    files = _own_files()
    if name not in files:
        raise NotFoundError("there is nothing at this path")
    # While a service is renewed, a page may ask for the files of another version.
    return _part(name, files[name], is_lasting=version == _own_version())


@lru_cache(16)  # a prefix may come from anybody
def _playground(prefix: str, asks_for_key: bool) -> tuple[str, str]:
    """Make the page; it has no script and no style but those in its files."""
    text = (_FOLDER / "index.html").read_text(encoding="utf-8")
    text = text.replace(_PLACE, f"{STATIC_PREFIX.lstrip('/')}page/{_own_version()}")
    if asks_for_key:
        text = text.replace("<html ", "<html data-asks-for-key ", 1)
    if prefix:  # without a slash at the end of the address, its links would lead out of the prefix
        text = text.replace("<head>", f'<head>\n<base href="{prefix}/">', 1)
    policy = [
        *_POLICY,
        "script-src 'self'",
        "style-src 'self'",
        "base-uri 'self'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",  # no text becomes HTML or code
        "trusted-types 'none'",
    ]
    return text, "; ".join(policy)


@lru_cache(16)
def _swagger_ui(prefix: str) -> tuple[str, str]:
    """Make FastAPI's page of Swagger UI, with the files of this service."""
    root = prefix or "."
    urls = {
        name: f"{root}{STATIC_PREFIX}{name}?v={_version(_file(name))}" for name in (_SCRIPT, _STYLE)
    }
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


def _part(name: str, content: bytes, *, is_lasting: bool) -> Response:
    lasting = "private, max-age=604800, immutable"
    headers = {
        "content-type": _TYPES[Path(name).suffix],
        "cache-control": lasting if is_lasting else "no-store",
    }
    return Response(content, headers=headers)


@cache
def _own_files() -> dict[str, bytes]:
    """Scripts and styles of the playground, by name."""
    return {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}


@cache
def _own_version() -> str:
    """A name for all of them as they are, so that newer ones have another address."""
    return _version(b"\0".join(part for _, part in sorted(_own_files().items())))


@cache
def _file(name: str) -> bytes:
    """A file of Swagger UI, from the package that brings it; none of its code is run."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("fastapi_offline")
    return (Path(spec.origin).parent / "static" / name).read_bytes()


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _hashes(tag: str, text: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
