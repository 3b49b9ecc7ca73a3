"""What a route needs of the service while it answers one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from service.engine.contracts import Outcome
from service.errors import BatchTooLargeError, ClientClosedError, DeadlineError, NotReadyError
from service.inputs import Inputs, blame
from service.json import JSONResponse
from service.pieces import TokenReading, read_pieces
from service.reading import Overflow, Reading, read
from service.record import record_of
from service.scoring import ScoringPlan
from splinellm.conversations import Count
from splinellm.errors import SplineLLMError
from splinellm.extraction.rows import Rows
from splinellm.plan import Plan
from splinellm.prompts import Prompt
from splinellm.schema import Granularity
from splinellm.table import FeatureTable

if TYPE_CHECKING:
    from service.metrics import Metrics
    from service.models import ModelCatalog
    from service.served_model import ServedModel
    from service.settings import Settings
    from service.verdicts import Pass

P = ParamSpec("P")
T = TypeVar("T")

NOT_READY_RETRY_S = 5
LARGE_ANSWER_ROWS = 4
"""Answers of more rows are written in the pool."""


class Call:
    """One request: what is loaded, time left, whether the client is still there.

    Parameters
    ----------
    request : Request
        Its body has been read.
    catalog : ModelCatalog
        What is loaded.
    """

    def __init__(self, request: Request, catalog: ModelCatalog) -> None:
        self.catalog = catalog
        self.settings: Settings = request.app.state.settings
        self._request = request
        self._pool = request.app.state.pool
        self.metrics: Metrics = request.app.state.metrics
        self._record = record_of(request)
        self._began_s = 0.0
        self._gone: Callable[[], Coroutine[Any, Any, None]] = self._disconnect

    @property
    def total_s(self) -> float:
        """Seconds since the first byte of the request."""
        return self._record.total_s

    def heed(self, gone: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Learn from `gone` that the client has gone: another reads the body still."""
        self._gone = gone

    def begin_anew(self) -> None:
        """Give what follows the time of a request, for each verdict of a stream has it."""
        self._began_s = self._record.total_s

    async def in_pool(self, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what would block the event loop in one of its threads."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, partial(task, *args, **kwargs))
        try:
            return await asyncio.wait_for(work, self._time_left_s())
        except TimeoutError:
            raise self._too_late() from None

    async def plan(
        self,
        model: ServedModel,
        layers: Any,
        features: Any,
        granularity: Granularity = "prompt",
        count: Count = "all",
    ) -> Plan:
        """Make the plan of the layers and features that a request names."""
        return await self.in_pool(
            model.plan, layers, features, granularity=granularity, count=count
        )

    async def read(
        self,
        inputs: Inputs,
        model: ServedModel,
        plan: Plan,
        *,
        overflow: Overflow,
        in_windows: bool = False,
        grows: bool = False,
        prepare: Callable[[Sequence[Prompt]], Sequence[Prompt]] = list,
    ) -> Reading:
        """Tokenise inputs for a plan, apply the limit, and count.

        What `prepare` makes of the prompts is what is tokenised.
        """
        reading = await self.in_pool(
            read,
            inputs,
            lambda prompts: model.tokenize(prepare(prompts), plan),
            limit=self.settings.max_input_tokens if in_windows else plan.max_tokens,
            overflow=overflow,
            window=plan.max_tokens if in_windows else None,
            prefix=model.prefix,
            suffix=model.suffix,
            grows=grows,
        )
        self._count(reading)
        return reading

    async def read_pieces(self, inputs: Inputs, one: Pass, *, overflow: Overflow) -> TokenReading:
        """Tokenise inputs whose tokens are to be scored, apply the limit, and count."""
        plan = one.plan
        assert isinstance(plan, ScoringPlan)  # noqa: S101 (the pass is of such classifiers)
        reading = await self.in_pool(
            lambda: read_pieces(
                inputs,
                one.card.as_read(inputs.prompts),
                one.model,
                plan,
                limit=self.settings.max_input_tokens,
                overflow=overflow,
                overlap=one.overlap,
            )
        )
        self._count(reading)
        return reading

    def _count(self, reading: Reading) -> None:
        self._record.n_inputs += len(reading)
        self._record.n_tokens += sum(reading.n_tokens)
        self.metrics.inputs_truncated(sum(reading.truncated))

    async def features(
        self, model: ServedModel, plan: Plan, reading: Reading, prompts: Sequence[Prompt] = ()
    ) -> FeatureTable:
        """Have the windows computed; rows that stand for tokens need the prompts, too.

        Raises
        ------
        SplineLLMError
            The engine refuses them, or failed on one; names the input.
        """
        rows = await self.rows(model, plan, reading)
        if plan.granularity == "prompt":
            return model.table(plan, reading.windows, rows)
        return await self.in_pool(model.table, plan, reading.windows, rows, prompts)

    async def rows(self, model: ServedModel, plan: Plan, reading: Reading) -> dict[int, Rows]:
        """Have the windows computed: rows of each.

        More windows than a request may have inputs go to the engine in several parts, so that other
        requests are served between them.

        Raises
        ------
        SplineLLMError
            The engine refuses them, or failed on one; names the input.
        """
        size = self.settings.max_client_batch_size
        starts = range(0, len(reading.windows), size)
        self._require_fitting(reading, n_parts=len(starts))
        rows: dict[int, Rows] = {}
        for start in starts:
            try:
                future = model.engine.submit(plan, reading.windows[start : start + size])
            except SplineLLMError as error:
                place = getattr(error, "index", None)
                place = None if place is None else start + place
                raise _named(error, place, reading) from None
            outcome = await self._wait(future)
            self._record.add(outcome.timing)
            if outcome.errors:
                first = min(outcome.errors)
                raise _named(outcome.errors[first], start + first, reading)
            rows |= {start + place: found for place, found in outcome.rows.items()}
        return rows

    def _require_fitting(self, reading: Reading, *, n_parts: int) -> None:
        """Refuse more tokens than the queue may ever hold; of one part the engine does."""
        n_tokens = sum(len(window.ids) for window in reading.windows)
        limit = self.settings.max_queue_tokens
        if n_parts > 1 and n_tokens > limit:
            raise BatchTooLargeError(
                f"{n_tokens} tokens in one request, but the limit is {limit}", param="input"
            )

    async def answer(
        self, content: Callable[[], Mapping[str, Any]], *, n_rows: int = 1
    ) -> Response:
        """Make and write an answer, in the pool if it is large."""
        if n_rows > LARGE_ANSWER_ROWS:
            return await self.in_pool(lambda: JSONResponse(content()))
        return JSONResponse(content())

    async def _wait(self, future: Future[Outcome]) -> Outcome:
        """Wait for the engine, but no longer than the client does, nor beyond the deadline."""
        outcome = asyncio.wrap_future(future)  # cancelled, it cancels the engine's
        gone = asyncio.ensure_future(self._gone())
        either: set[asyncio.Future[Any]] = {outcome, gone}
        try:
            await asyncio.wait(
                either,
                timeout=self._time_left_s(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if outcome.done():
                return outcome.result()
            if gone.done():
                raise ClientClosedError("the client closed the connection")
            raise self._too_late()
        finally:
            gone.cancel()
            outcome.cancel()

    async def _disconnect(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _time_left_s(self) -> float:
        used_s = self._record.total_s - self._began_s
        return max(0.0, self.settings.request_timeout_s - used_s)

    def _too_late(self) -> DeadlineError:
        return DeadlineError(
            f"the answer was not ready in {self.settings.request_timeout_s:g} s; send fewer or "
            "shorter texts, ask again when the service is less busy, or raise request_timeout_s"
        )


async def open_call(request: Request) -> Call:
    """Give a route its :class:`Call`.

    Raises
    ------
    NotReadyError
        The model is still loading.
    """
    catalog = getattr(request.app.state, "catalog", None)
    if catalog is None:
        raise NotReadyError("the model is still loading", retry_after_s=NOT_READY_RETRY_S)
    return Call(request, catalog)


CallOf = Annotated[Call, Depends(open_call)]


def _named(error: SplineLLMError, window: int | None, reading: Reading) -> SplineLLMError:
    """Name the input that a window is of."""
    return error if window is None else blame(error, reading.names[reading.owners[window]])
