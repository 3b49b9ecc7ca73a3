"""Texts that grow: the lines of a request, and what there is of its text so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Receive

from service.errors import ClientClosedError, DeadlineError, InvalidJSONError, InvalidRequestError
from service.inputs import blame
from service.json import loads
from splinellm.conversations import messages_of
from splinellm.errors import ConversationError, PromptError

_LOOK_AROUND_S = 0.5
"""How long nothing may arrive until it is seen whether the service shuts down."""


class Lines:
    """The lines of a body, as they arrive; and whether the client is still there.

    Everything is taken from the connection at once, for there is no other way to hear that the
    client has gone; the limit on bodies bounds how much that is.

    Parameters
    ----------
    receive : callable
        Of the request.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._waiting = bytearray()
        self._is_complete = self._is_gone = False
        self._error: Exception | None = None
        self._arrived = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to listen."""
        self._reader = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def next(self, time_left_s: Callable[[], float]) -> bytes | None:
        """Give the next line that is not blank; None after the last.

        Parameters
        ----------
        time_left_s : callable
            Seconds to wait still; may raise, too.

        Raises
        ------
        ClientClosedError
            The client has gone.
        DeadlineError
            No line came in time.
        """
        while True:
            if self._is_gone and self._error is not None:
                raise self._error  # what it has sent before is of no use to anybody
            end = self._waiting.find(b"\n")
            if end < 0 and self._is_complete and self._waiting:
                end = len(self._waiting)
            if end >= 0:
                line = bytes(self._waiting[:end]).strip()
                del self._waiting[: end + 1]
                if line:
                    return line
                continue
            if self._error is not None:
                raise self._error
            if self._is_complete:
                return None
            left_s = time_left_s()
            if left_s <= 0:
                raise DeadlineError("no line came in time")
            self._arrived.clear()
            try:
                async with asyncio.timeout(min(left_s, _LOOK_AROUND_S)):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    async def gone(self) -> None:
        """Return once the client has gone."""
        while not self._is_gone and self._error is None:
            self._arrived.clear()
            await self._arrived.wait()

    async def _listen(self) -> None:
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._is_gone = True
                    raise ClientClosedError("the client closed the connection")
                self._waiting += message.get("body", b"")
                if not message.get("more_body", False):
                    self._is_complete = True
                self._arrived.set()
        except Exception as error:  # noqa: BLE001 - whoever waits for a line raises it
            self._error = error
            self._arrived.set()


class Growing:
    """A text, or a conversation whose last message grows.

    A delta behind a message of the user or the system begins the answer to it.

    Parameters
    ----------
    beginning : str or dict
        A text, or an object with ``messages``.

    Raises
    ------
    InvalidRequestError, ConversationError
        It is neither.
    """

    def __init__(self, beginning: Any) -> None:
        self._messages: list[dict[str, str]] | None = None
        self._parts: list[str] = []
        if isinstance(beginning, dict) and set(beginning) == {"messages"}:
            try:
                messages = messages_of(beginning)
            except ConversationError as error:
                raise blame(error, "input") from None
            if messages[-1].role == "assistant":
                self._parts.append(messages.pop().text)
            self._messages = [{"role": it.role, "content": it.text} for it in messages]
        elif isinstance(beginning, str):
            self._parts.append(beginning)
        else:
            raise InvalidRequestError(
                "input must be a text, or an object with messages: one text grows", param="input"
            )
        self.is_empty = not any(self._parts)

    def add(self, delta: str) -> None:
        """Add what is new."""
        self._parts.append(delta)
        self.is_empty = self.is_empty and not delta

    def value(self) -> Any:
        """All there is, as an `input`."""
        text = "".join(self._parts)
        self._parts = [text]
        if self._messages is None:
            return text
        return {"messages": [*self._messages, {"role": "assistant", "content": text}]}


def delta_of(line: bytes, number: int) -> str:
    """Read the line of a delta: ``{"delta": "text"}``.

    Raises
    ------
    SplineLLMError
        It is none; names its number, from 0, and nothing that is in it.
    """
    name = f"deltas[{number}]"
    try:
        value = loads(line)
    except InvalidJSONError:
        raise InvalidJSONError(f"{name} is a line that is not valid JSON", param=name) from None
    if not isinstance(value, dict) or set(value) != {"delta"}:
        raise InvalidRequestError(
            f"{name} is not an object with delta alone", param=name, hint='as in {"delta": "text"}'
        )
    delta = value["delta"]
    if not isinstance(delta, str):
        raise InvalidRequestError(f"{name}.delta must be text", param=f"{name}.delta")
    try:
        delta.encode("utf-8")
    except UnicodeEncodeError as error:
        problem = PromptError(f"not valid Unicode: lone surrogate at character {error.start}")
        raise blame(problem, f"{name}.delta") from None  # the cause quotes the text
    return delta
