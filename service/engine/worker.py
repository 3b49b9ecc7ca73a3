"""The engine: one thread that owns a model and answers every prompt it took."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread

from service.engine.admission import Refusal, no_room
from service.engine.batch import Batch
from service.engine.contracts import (
    EngineLimits,
    EngineListener,
    Outcome,
    SilentListener,
)
from service.engine.errors import InferenceError, ShuttingDownError
from service.engine.estimate import Speed
from service.engine.health import RETRY_S, Health
from service.engine.queue import Entry, Queue
from service.engine.request import Request
from service.errors import NotReadyError
from splinellm.errors import SplineLLMError
from splinellm.extraction.base import Reader
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.plan import Plan

SILENT = SilentListener()
_DEAD = "the engine of a model has stopped"

_logger = logging.getLogger(__name__)


class Engine:
    """Batch the prompts of many requests, and compute them one batch after the other.

    A request is taken as a whole or refused at once. What is taken is always answered: with an
    outcome, with an error if the engine stops before, or not at all if its future is cancelled,
    which frees its place in the queue. A thread that ends is started anew: what it was at is
    computed prompt by prompt, what waits is still computed.

    Parameters
    ----------
    name : str
        Of the model, for the listener and the log.
    reader_of : callable
        Gives the reader of a plan, such as an extractor; called for every batch, and should keep
        those it made.
    limits : EngineLimits
        How much to take on.
    listener : EngineListener
        Hears what happens.
    clock : callable
        Seconds, never running backwards.
    """

    def __init__(
        self,
        name: str,
        reader_of: Callable[[Plan], Reader],
        limits: EngineLimits | None = None,
        listener: EngineListener = SILENT,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.limits = limits or EngineLimits()
        self._reader_of = reader_of
        self._listener = listener
        self._clock = clock
        self._changed = Condition()  # guards all that follows
        self._queue = Queue()
        self._speed = Speed()
        self._health = Health(self.limits.max_wait_s, clock)
        self._batch: Batch | None = None
        self._suspects: list[list[Entry]] = []  # prompts with which the thread ended
        self._open: set[Request] = set()  # taken and not answered
        self._running_tokens = 0
        self._had_company = False
        self._is_stopping = False
        self._is_finished = False
        self._is_dead = False
        self._thread = self._make_thread()

    def _make_thread(self) -> Thread:
        return Thread(target=self._run, name=f"engine {self.name}", daemon=True)

    def start(self) -> None:
        """Start the thread; prompts may have been submitted before."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether prompts are being taken and computed."""
        with self._changed:
            return self._thread.is_alive() and not self._is_stopping and not self._health.is_lost

    @property
    def trouble(self) -> str | None:
        """Why no requests are taken now, if so, though they may be later."""
        with self._changed:
            return self._health.trouble

    @property
    def answers(self) -> bool:
        """Whether requests are taken now."""
        return self.alive and self.trouble is None

    @property
    def queued_inputs(self) -> int:
        """Prompts that wait."""
        return self._queue.n_inputs

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait."""
        return self._queue.n_tokens

    def submit(self, plan: Plan, prompts: Sequence[TokenizedPrompt]) -> Future[Outcome]:
        """Put the prompts of one request in the queue, all or none.

        Parameters
        ----------
        plan : Plan
            What to compute.
        prompts : sequence of TokenizedPrompt
            At least one, cut to the plan's length.

        Returns
        -------
        Future of Outcome
            May be cancelled at any time.

        Raises
        ------
        PromptTooLongError, BatchTooLargeError
            A prompt, or all together, would not even fit the empty queue.
        QueueFullError
            There is no room now, or the wait would be too long.
        NotReadyError
            The model does not answer, or its thread has ended for good.
        ShuttingDownError
            The engine is stopping or has stopped.
        """
        if not prompts:
            raise ValueError("a request needs a prompt")
        now = self._clock()
        request = Request(plan, prompts, now)
        entries = [Entry(request, i, prompt, now) for i, prompt in enumerate(request.prompts)]
        with self._changed:
            refusal = self._refusal(entries)
            if refusal is None:
                self._open.add(request)
                self._queue.add(entries)
                self._changed.notify_all()
        if refusal is not None:
            reason, error = refusal
            self._tell(lambda: self._listener.rejected(self.name, reason, len(entries)))
            raise error
        request.future.add_done_callback(lambda _: self._on_done(request))
        return request.future

    def close(self) -> None:
        """Take nothing more; what waits is still computed."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> bool:
        """Take nothing more, compute what waits, and fail what is left after `timeout_s`.

        Returns
        -------
        bool
            Whether the thread ended in time.
        """
        self.close()
        ends_s = time.monotonic() + timeout_s
        joined: Thread | None = None
        while self._thread.ident is not None and self._thread is not joined:  # it may start another
            joined = self._thread
            joined.join(max(0.0, ends_s - time.monotonic()))
        has_ended = not self._thread.is_alive()
        self._finish(ShuttingDownError("the service is shutting down"))
        return has_ended

    def estimated_wait_s(self) -> float:
        """Estimate how long a prompt that comes now will wait."""
        with self._changed:
            return self._speed.seconds(self._queue.n_tokens + self._running_tokens)

    # What follows up to _run is called with the lock held, but for _on_done.

    def _refusal(self, entries: Sequence[Entry]) -> Refusal | None:
        """Say why a request cannot be taken."""
        if self._is_dead:
            return "trouble", NotReadyError(_DEAD, retry_after_s=RETRY_S)
        if self._is_stopping:
            return "stopping", ShuttingDownError("the service is shutting down")
        if trouble := self._health.trouble:
            return "trouble", NotReadyError(trouble, retry_after_s=RETRY_S)
        return no_room(entries, self._queue, self.limits, self.estimated_wait_s())

    def _budget(self, plan: Plan) -> int:
        budget = self.limits.max_batch_tokens or math.inf
        with contextlib.suppress(Exception):  # the batch will fail with it, and be answered
            # Read anew each time: running out of memory lowers it.
            budget = min(budget, self._reader_of(plan).batch_tokens)
        return 1 if budget == math.inf else int(budget)

    def _wait_s(self, budget: int) -> float:
        """Tell how long the next batch may still wait for more prompts; 0 or less: not at all."""
        if self._is_stopping or not self.limits.batch_wait_s:
            return 0.0
        # Who is alone, and was at the last batch, would wait for nobody.
        is_crowded = self._had_company or len(self._open) > 1
        if not is_crowded or self._queue.has_batch(budget):
            return 0.0
        return self._queue.oldest.arrived_s + self.limits.batch_wait_s - self._clock()

    def _on_done(self, request: Request) -> None:
        with self._changed:
            self._open.discard(request)
            cancelled = request.future.cancelled()
            n_dropped = self._queue.remove(request) if cancelled else 0
        if cancelled:
            request.future.set_running_or_notify_cancel()  # for concurrent.futures.wait
        if n_dropped:
            self._tell(lambda: self._listener.dropped(self.name, n_dropped))

    # The thread.

    def _run(self) -> None:
        try:
            while entries := self._next_entries():
                self._serve(entries)
        except BaseException as error:  # noqa: BLE001  # whatever it is, callers must not hang
            self._log("the thread has ended", error)
            self._on_death()
        else:
            self._finish(ShuttingDownError("the engine has stopped"))

    def _on_death(self) -> None:
        """Go on in another thread, unless that has been no use."""
        batch, self._batch = self._batch, None
        with self._changed:
            goes_on = self._health.died() and not self._is_finished
            self._is_dead = not goes_on and not self._is_finished
            self._running_tokens = 0
            if goes_on and batch is not None and len(batch.prompts) > 1:
                self._suspects += batch.apart()
        if not goes_on:
            self._finish(NotReadyError(_DEAD, retry_after_s=RETRY_S))
            return
        if batch is not None and len(batch.prompts) == 1:
            self._blame(batch, *batch.prompts)
            batch.answer(0.0)
        self._tell(lambda: self._listener.restarted(self.name))
        with self._changed:  # stop() takes a thread that has not begun for one that has ended
            thread = self._make_thread()
            thread.start()
            self._thread = thread

    def _next_entries(self) -> list[Entry]:
        """Wait for the next batch; an empty one if there will be none."""
        with self._changed:
            self._running_tokens = 0
            while True:
                if self._suspects:
                    return self._suspects.pop()
                if self._queue:
                    budget = self._budget(self._queue.oldest.request.plan)
                    wait_s = self._wait_s(budget)
                    if wait_s <= 0:
                        break
                    self._changed.wait(wait_s)
                elif self._is_stopping:
                    return []
                elif self._health.is_failing:
                    self._changed.wait(RETRY_S)
                    if not self._queue and not self._is_stopping:
                        self._look_again()
                else:
                    self._changed.wait()
            self._had_company = len(self._open) > 1
            entries = self._queue.take(budget)
            self._running_tokens = sum(entry.n_tokens for entry in entries)
            return entries

    def _serve(self, entries: list[Entry]) -> None:
        start_s = self._clock()
        batch = self._batch = Batch(entries, start_s)
        with self._changed:
            self._health.begin()
        try:
            batch.compute(self._reader_of)
        except Exception as error:  # noqa: BLE001  # of torch, of the driver, of a tokenizer
            self._log("a batch failed and is retried prompt by prompt", error)
            self._tell(lambda: self._listener.batch_retried(self.name, len(entries)))
            self._retry(batch)
            inference_s = self._clock() - start_s
        else:
            inference_s = self._clock() - start_s
            with self._changed:
                self._speed.add(batch.n_tokens, inference_s)
        self._note(batch)
        report = batch.answer(inference_s)
        self._batch = None
        self._tell(lambda: self._listener.batch_done(self.name, report))

    def _retry(self, batch: Batch) -> None:
        for key in batch.prompts:
            try:
                batch.compute(self._reader_of, only=key)
            except SplineLLMError as error:
                batch.results[key] = error
            except Exception as error:  # noqa: BLE001  # as above
                self._log("a prompt failed", error)
                self._blame(batch, key)

    @staticmethod
    def _blame(batch: Batch, key: bytes) -> None:
        batch.results[key] = InferenceError("the model failed on this prompt")

    def _note(self, batch: Batch) -> None:
        """Learn from a batch how the model is; if all failed, see whether it is the prompts."""
        found = batch.results
        good = next((k for k, it in found.items() if not isinstance(it, SplineLLMError)), None)
        all_failed = all(isinstance(it, InferenceError) for it in found.values())
        fails = all_failed and not self._health.answers(self._reader_of)
        with self._changed:
            self._health.end()
            if good is not None:
                self._health.succeeded(batch.plan, batch.prompts[good])
            elif fails:
                self._health.is_failing = True

    def _look_again(self) -> None:
        """Try the model while nobody is waiting; the lock is held, and let go meanwhile."""
        self._health.begin()
        self._changed.release()
        try:
            answers = self._health.answers(self._reader_of)
        finally:
            self._changed.acquire()
        self._health.end()
        self._health.is_failing = not answers

    def _finish(self, error: SplineLLMError) -> None:
        """Answer what is still open; the second call finds nothing to do."""
        with self._changed:
            is_first = not self._is_finished
            self._is_stopping = self._is_finished = True
            self._queue.clear()
            self._suspects.clear()
            left = list(self._open)
        n_left = sum(len(request.prompts) for request in left if request.fail(copy.copy(error)))
        if is_first:
            self._tell(lambda: self._listener.stopped(self.name, n_left))

    def _tell(self, event: Callable[[], None]) -> None:
        try:
            event()
        except Exception as error:  # noqa: BLE001  # a metric must not cost an answer
            self._log("the listener failed", error)

    def _log(self, event: str, error: BaseException) -> None:
        # The error's kind and place, but not its message, which may quote a prompt.
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}:{last.lineno}"
        _logger.log(logging.ERROR, "%s: %s (%s, %s)", self.name, event, type(error).__name__, place)
