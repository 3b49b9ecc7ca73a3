"""Bodies that come compressed, up to the same limit on what is in them."""

from __future__ import annotations

import asyncio
import zlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import InvalidEncodingError, PayloadTooLargeError, UnsupportedEncodingError

ACCEPTED = "gzip, deflate"
_STEP_BYTES = 65_536
"""How much comes out between two chances for other requests."""
_MAX_MEMBERS = 64
"""Of a gzip body; each costs a fresh start, and an honest client sends one."""
_WINDOW_BITS = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}


class Decompress:
    """Hand compressed bodies on as if they had come as they are.

    Parameters
    ----------
    app : ASGI application
        What reads the body.
    limit : int
        Bytes that may come out.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass; whoever reads its body may hear that it cannot be read."""
        encodings = _encodings(scope) if scope["type"] == "http" else []
        if not encodings:
            await self.app(scope, receive, send)
            return
        inflating: Inflating | None = None

        async def receive_decompressed() -> Message:
            nonlocal inflating
            # Not before a body is wanted: a probe with a strange header has none.
            inflating = inflating or Inflating(encodings, self.limit)
            if inflating.finished:
                return await receive()
            while not (piece := inflating.step()) and not inflating.finished:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                inflating.feed(message.get("body", b""), more=message.get("more_body", False))
            await asyncio.sleep(0)  # others have their turn
            return {"type": "http.request", "body": piece, "more_body": not inflating.finished}

        await self.app(scope, receive_decompressed, send)


class Inflating:
    """A body while it is decompressed.

    Parameters
    ----------
    encodings : list of str
        As in the header ``Content-Encoding``, in lower case.
    limit : int
        Bytes that may come out.

    Raises
    ------
    UnsupportedEncodingError
        More than one encoding, or one that is not known.
    """

    def __init__(self, encodings: list[str], limit: int) -> None:
        if len(encodings) > 1 or encodings[0] not in _WINDOW_BITS:
            raise UnsupportedEncodingError(
                "the content-encoding of the body is not known", accepted=ACCEPTED
            )
        self.finished = False
        self._is_gzip = encodings[0] != "deflate"
        self._bits = _WINDOW_BITS[encodings[0]]
        self._limit = limit
        self._waiting = b""
        self._n_out = 0
        self._n_members = 0
        self._more = True
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes, *, more: bool) -> None:
        """Take what has arrived; `more` says whether that was all."""
        self._waiting += data
        self._more = more

    def step(self) -> bytes:
        """Give the next piece; nothing if more has to arrive, or if that was all.

        Raises
        ------
        InvalidEncodingError
            The body is damaged, cut short, or something else altogether.
        PayloadTooLargeError
            More than the limit is in it.
        """
        piece = b""
        while self._waiting or self._stream is not None:
            stream = self._stream = self._stream or self._next_member()
            try:
                piece = stream.decompress(self._waiting, _STEP_BYTES)
            except zlib.error:
                raise self._damaged() from None
            self._waiting = stream.unused_data if stream.eof else stream.unconsumed_tail
            if stream.eof:
                self._stream = None
            if piece or not stream.eof:
                break
        self._n_out += len(piece)
        if self._n_out > self._limit:
            raise PayloadTooLargeError(f"the body has more than {self._limit} bytes, decompressed")
        if not piece and not self._more:
            if self._stream is not None:
                raise self._damaged()
            self.finished = True
        return piece

    def _next_member(self) -> zlib._Decompress:
        self._n_members += 1
        if self._n_members > (_MAX_MEMBERS if self._is_gzip else 1):
            raise self._damaged()
        return zlib.decompressobj(self._bits)

    def _damaged(self) -> InvalidEncodingError:
        return InvalidEncodingError("the body is not compressed as its content-encoding says")


def _encodings(scope: Scope) -> list[str]:
    lines = ",".join(Headers(scope=scope).getlist("content-encoding"))
    names = (name.strip().lower() for name in lines.split(","))
    return [name for name in names if name not in ("", "identity")]
