"""Which tokens of a step are whose request, and how far each has been read.

vLLM reads the tokens of many requests in one row. A request may be read in chunks, be put aside and
read again from its start (its tokens then count once), end, or be aborted.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splinellm.errors import NothingRecordedError
from splinellm.vllm.running import ANSWER, PROMPT, RunningStatistics

_RANDOM_SUFFIX = re.compile(r"-[0-9a-f]{8}$")


@dataclass
class Request:
    """How far a request has been read.

    Parameters
    ----------
    slot : int
        Of its statistics.
    n_prompt : int
        Tokens of its prompt.
    stop_ids : frozenset of int
        Tokens that end it.
    n_read : int
        Tokens that were read, from the first on.
    trouble : str
        Why it has no features; empty if it has.
    has_dimension : bool
        Whether the dimension of its prompt's last token is known.
    is_broken : bool
        Whether the forward pass overflowed in it.
    has_ended : bool
        Whether the token that ends it was seen, which does not count.
    is_forgotten : bool
        Whether nobody wants to know of it any more.
    scores : list of ndarray
        Of its tokens, where a classifier pools them.
    next_look : int
        Tokens of the answer from which it is judged again.
    stop : Stop, optional
        Why it was ended, see :mod:`splinellm.vllm.judging`.
    """

    slot: int
    n_prompt: int
    stop_ids: frozenset[int] = frozenset()
    n_read: int = 0
    trouble: str = ""
    has_dimension: bool = False
    has_ended: bool = False
    is_forgotten: bool = False
    scores: list[np.ndarray] = field(default_factory=list)
    next_look: int = 0
    stop: Any = None
    is_broken: bool = False

    @property
    def n_answer(self) -> int:
        """Tokens of the answer that were read."""
        return max(0, self.n_read - self.n_prompt)


@dataclass(frozen=True)
class Ended:
    """What is left of a request that has ended."""

    request: Request
    packed: np.ndarray
    at_s: float


@dataclass
class Part:
    """Tokens of a request in a step.

    Parameters
    ----------
    request : Request
        Whose.
    row : int
        Of the requests in the step.
    begin, end : int
        Tokens of the step.
    start : int
        Position of the first of them in the request.
    """

    request: Request
    row: int
    begin: int
    end: int
    start: int


@dataclass(frozen=True)
class Step:
    """Tokens of a step.

    Parameters
    ----------
    parts : list of Part
        One per request, in the order of the rows.
    counted : Tensor, shape (N,), int64, optional
        Those that count; None if all do.
    piece : Tensor, shape (N,), int64
        Which of `rows` each counted token is of.
    rows : list of (int, int)
        Slot and half of the statistics that go on.
    pieces : list of Part
        Whose tokens those are.
    """

    parts: list[Part]
    counted: Tensor | None
    piece: Tensor
    rows: list[tuple[int, int]]
    pieces: list[Part] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """Tokens of the step, without padding."""
        return self.parts[-1].end if self.parts else 0


class Requests:
    """The requests that are being served, and for some time those that were.

    Parameters
    ----------
    running : RunningStatistics
        Theirs.
    keep : int, optional
        Requests that are remembered when they have ended; all by default.
    keep_s : float, optional
        How long they are.
    """

    def __init__(
        self, running: RunningStatistics, *, keep: int | None = None, keep_s: float | None = None
    ) -> None:
        self._running = running
        self._keep, self._keep_s = keep, keep_s
        self._live: dict[str, Request] = {}
        self._ended: OrderedDict[str, Ended] = OrderedDict()
        self._names: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._live)

    def get(self, request_id: str) -> Request | None:
        """A request that is being served."""
        return self._live.get(request_id)

    def is_running(self, request: Request) -> bool:
        """Whether a request is being served, as far as the engine has told."""
        return any(it is request for it in self._live.values())

    def begin(
        self, request_id: str, n_prompt: int, n_cached: int, stop_ids: Iterable[int] = ()
    ) -> None:
        """Take note of a request that is scheduled for the first time."""
        self.end([request_id])  # of the same name, aborted and given anew
        request = Request(self._running.take(), n_prompt, frozenset(stop_ids))
        if n_cached:
            request.trouble = (
                f"its first {n_cached} tokens were taken from a cache, and not read "
                "(start the engine with --no-enable-prefix-caching)"
            )
        self._live[request_id] = request
        self._names.setdefault(outer_name(request_id), []).append(request_id)

    def end(self, request_ids: Iterable[str]) -> None:
        """Take note of requests that have ended, or were aborted."""
        for request_id in request_ids:
            if (request := self._live.pop(request_id, None)) is not None:
                packed = self._running.packed(request.slot)
                self._running.give_back(request.slot)
                if request.is_forgotten:
                    self._drop(request_id)
                else:
                    self._ended[request_id] = Ended(request, packed, time.monotonic())
        self._forget_old()

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._ended:
            oldest = next(iter(self._ended))
            is_over = self._keep is not None and len(self._ended) > self._keep
            is_old = self._keep_s is not None and now - self._ended[oldest].at_s > self._keep_s
            if not (is_over or is_old):
                return
            self.forget([oldest])

    def forget(self, request_ids: Iterable[str]) -> None:
        """Drop what is known of requests; those that go on have features no more."""
        for request_id in request_ids:
            for inner in self._inners(request_id):
                if (request := self._live.get(inner)) is not None:
                    request.is_forgotten = True  # vLLM says that it has ended in its next step
                else:
                    self._drop(inner)

    def _drop(self, inner: str) -> None:
        self._ended.pop(inner, None)
        outer = outer_name(inner)
        if inner in (inners := self._names.get(outer, [])):
            inners.remove(inner)
            if not inners:
                del self._names[outer]

    def forget_all(self) -> None:
        """Drop what is known of all."""
        self.forget([*self._ended, *self._live])

    @property
    def n_ended(self) -> int:
        """Requests that are remembered."""
        return len(self._ended)

    def step(
        self,
        order: Sequence[str],
        spans: Mapping[str, tuple[int, int]],
        ids: Tensor | None = None,
    ) -> Step:
        """Say whose the tokens of a step are, and which of them count.

        Parameters
        ----------
        order : sequence of str
            Requests by row.
        spans : mapping of str to (int, int)
            Position of the first token of each, and how many there are.
        ids : Tensor, shape (N,), optional
            Of the tokens, where steps are scheduled before the last one's tokens are known: a
            request that has ended is then read once more.
        """
        parts: list[Part] = []
        rows: list[tuple[int, int]] = []
        pieces: list[Part] = []
        lengths: list[int] = []
        counted: list[Tensor] = []
        begin = 0
        for row, request_id in enumerate(order):
            start, n_tokens = spans[request_id]
            end = begin + n_tokens
            request = self._live[request_id]
            parts.append(Part(request, row, begin, end, start))
            shift = begin - start
            for first, last, half in _new(request, start, n_tokens):
                if half == ANSWER and ids is not None:
                    request.has_ended |= int(ids[last - 1 + shift]) in request.stop_ids
                    if request.has_ended:
                        continue
                counted.append(torch.arange(first + shift, last + shift))
                rows.append((request.slot, half))
                pieces.append(parts[-1])
                lengths.append(last - first)
            begin = end
        piece = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        index = None if len(piece) == begin else torch.cat(counted) if counted else piece
        return Step(parts, index, piece, rows, pieces)

    def done(self, step: Step) -> None:
        """Take note that a step's tokens were read."""
        for part in step.parts:
            n_read = part.start + part.end - part.begin
            if not part.request.has_ended:
                part.request.n_read = max(part.request.n_read, n_read)

    def packed(self, request_id: str) -> tuple[Request, np.ndarray] | None:
        """A request by either of its names, with its statistics up to now; None: unknown.

        Raises
        ------
        NothingRecordedError
            Several that are remembered have this name.
        """
        self._forget_old()
        inners = self._inners(request_id)
        if len(inners) > 1:
            raise NothingRecordedError(
                f"{len(inners)} requests have the id '{request_id[:80]}'",
                hint="give each its own (X-Request-Id), or none: the engine then makes one",
            )
        if (request := self._live.get(inners[0])) is not None:
            return None if request.is_forgotten else (request, self._running.packed(request.slot))
        ended = self._ended.get(inners[0])
        return None if ended is None else (ended.request, ended.packed)

    def named(self, answer_id: str) -> list[tuple[int, int, str]]:
        """Requests behind what a client was answered: which prompt, which answer to it, and name.

        Completions call theirs ``cmpl-…-0`` and so on, one per prompt; all call those of several
        answers ``0_…`` and so on.
        """
        self._forget_old()
        prompt = r"-(\d+)" if answer_id.startswith("cmpl-") else "()"
        own = re.compile(rf"(?:(\d+)_)?{re.escape(answer_id)}{prompt}")
        found = [match for name in self._names if (match := own.fullmatch(name)) is not None]
        return sorted((int(it[2] or 0), int(it[1] or 0), it[0]) for it in found)

    def _inners(self, request_id: str) -> list[str]:
        return [*self._names.get(request_id, [request_id])]


def outer_name(request_id: str) -> str:
    """What a request is called outside of the engine, which has put something random behind it."""
    return _RANDOM_SUFFIX.sub("", request_id)


def _new(request: Request, start: int, n_tokens: int) -> list[tuple[int, int, int]]:
    """Positions that were not read before, as (first, behind the last, half)."""
    first, last = max(start, request.n_read), start + n_tokens
    if start > request.n_read and not request.trouble:
        request.trouble = f"its tokens {request.n_read} to {start - 1} were not read here"
    border = min(max(request.n_prompt, first), last)
    found = [(first, border, PROMPT), (border, last, ANSWER)]
    return [it for it in found if it[0] < it[1]]


def stop_ids_of(sampling_params: Any) -> frozenset[int]:
    """Tokens that end a request."""
    return frozenset(getattr(sampling_params, "all_stop_token_ids", None) or ())
