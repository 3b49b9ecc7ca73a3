"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import InvalidKeyError, MissingKeyError, RateLimitError
from service.middleware.paths import DISCOVERY, HEALTH, KEY_IN_QUERY, is_document
from service.record import record_of


class Access:
    """Ask for a key, but not for health, nor for pages that are public; hold each to its rate.

    Parameters
    ----------
    app : ASGI application
        What answers.
    keys : mapping of str to SecretStr
        By name; without any, everybody may ask.
    rate_per_minute : int, optional
        Requests of each key.
    pages_are_public : bool
        Whether the page, the API's description and their files are sent to everybody. They show
        what may be asked, and answer nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Mapping[str, SecretStr],
        rate_per_minute: int | None = None,
        *,
        pages_are_public: bool = True,
    ) -> None:
        self.app = app
        self._pages_are_public = pages_are_public
        # Hashes have one length, so that comparing them says nothing of a key's length either.
        self._digests = {
            name: _digest(key.get_secret_value().encode()) for name, key in keys.items()
        }
        self._buckets = {name: TokenBucket(rate_per_minute) for name in keys if rate_per_minute}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or raise why not."""
        if scope["type"] == "http" and self._digests and not self._is_open(scope["path"]):
            name = self._name_of(_presented_key(scope), scope["path"])
            record_of(scope).key_name = name
            if name in self._buckets:
                self._buckets[name].take()
                record_of(scope).take = self._buckets[name].take
        await self.app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in HEALTH | DISCOVERY or (self._pages_are_public and is_document(path))

    def _name_of(self, key: bytes | None, path: str) -> str:
        if key is None:
            in_query = "?key=KEY or " if path.startswith(KEY_IN_QUERY) else ""
            raise MissingKeyError(
                "this service needs a key", hint=f"send it as {in_query}'Authorization: Bearer KEY'"
            )
        digest = _digest(key)
        # All are compared, so that the time does not tell which one was almost right.
        found = [n for n, known in self._digests.items() if hmac.compare_digest(known, digest)]
        if not found:
            raise InvalidKeyError("the key is not one of this service")
        return found[0]


class TokenBucket:
    """Holds a minute's worth of requests and is refilled steadily.

    Parameters
    ----------
    per_minute : int
        Requests a minute.
    clock : callable
        Seconds, never running backwards.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60
        self._level = self._capacity
        self._filled_at = clock()

    def take(self) -> None:
        """Take one request out.

        Raises
        ------
        RateLimitError
            The bucket is empty; says when it will not be.
        """
        now = self._clock()
        refill = (now - self._filled_at) * self._per_second
        self._level = min(self._capacity, self._level + refill)
        self._filled_at = now
        if self._level < 1:
            raise RateLimitError(
                f"this key may send {self._capacity:.0f} requests a minute",
                retry_after_s=(1 - self._level) / self._per_second,
            )
        self._level -= 1


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _presented_key(scope: Scope) -> bytes | None:
    """Find the key as bytes: what a client sends need not be text."""
    # Of repeated ones the first.
    headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and credentials.strip():
        return credentials.strip()
    if headers.get(b"x-api-key"):
        return headers[b"x-api-key"]
    if scope["path"].startswith(KEY_IN_QUERY):
        # Latin-1 maps bytes to characters and back, whatever they are.
        query_string: bytes = scope["query_string"]
        query = parse_qs(query_string.decode("latin-1"), encoding="latin-1")
        if "key" in query:
            return query["key"][0].encode("latin-1")
    return None
