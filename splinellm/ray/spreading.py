"""A run's shares done by a pool of Ray actors, each with a model of its own.

Shares are those of ``--shard``, and an actor does one as that does: with the chunks of a single
run, so with its numbers, into a file of its own, gone on with where a worker that is no more left
it. Rows never pass through Ray. Actors read and write by themselves, so there is nobody whom they
could starve of processors.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splinellm.errors import ClusterError, InUseError, SplineLLMError
from splinellm.io.journal import made_by_of
from splinellm.io.pipeline import Annotator, OnError, annotate_rows
from splinellm.io.sink import open_sink
from splinellm.ray.cluster import require_room

if TYPE_CHECKING:
    from splinellm.io.inputs import Input
    from splinellm.io.output_file import OutputFile
    from splinellm.io.rows import Source
    from splinellm.io.shared_run import SharedRun
    from splinellm.io.shares import Share
    from splinellm.io.sink import StandardOutput

MOST_LOSSES = 3
"""So many workers may end over one share; then it is the share that ends them."""
_LOOK_S = 1.0
_WAIT_FOR_LOCK_S = 90.0
"""Longer than a lease lives, of a worker on a machine that is gone."""


@dataclass(frozen=True)
class Work:
    """What is to be done with each share; travels to the workers.

    Parameters
    ----------
    given : Input
        What is read.
    output : str
        The folder.
    open : callable
        Share to source, which its caller closes.
    load : callable
        Makes the annotator, once for each worker.
    on_error : {"fail", "skip"}
        What happens at a bad row.
    asked : mapping of str to str
        Settings of the run.
    force : bool
        Whether files that are there are replaced whatever they hold.
    use_threads : callable
        Called before anything is computed.
    n_chunks : int
        Of the whole input, counted once for all shares.
    folder : str
        Which relative paths start from.
    """

    given: Input
    output: str
    open: Callable[[Share], Source[Any]]
    load: Callable[[], Annotator[Any]]
    on_error: OnError
    asked: Mapping[str, str]
    force: bool
    use_threads: Callable[[], object]
    n_chunks: int
    folder: str = field(default_factory=os.getcwd)


@dataclass(frozen=True)
class Outcome:
    """What became of a share.

    Parameters
    ----------
    n_rows, n_rejected, n_recalled, n_tokens : int
        Rows written, bad rows, rows that were computed before, and tokens that were read.
    said : tuple of str
        Warnings.
    error : SplineLLMError, optional
        Why it is not done.
    """

    n_rows: int = 0
    n_rejected: int = 0
    n_recalled: int = 0
    n_tokens: int = 0
    said: tuple[str, ...] = ()
    error: SplineLLMError | None = None


class Worker:
    """Does one share after the other; an actor.

    Parameters
    ----------
    work : Work
        What is to be done.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._annotator: Annotator[Any] | None = None

    def load(self) -> dict[str, str] | SplineLLMError:
        """Load the model, and say what numbers come from."""
        try:
            if not Path(self._work.folder).is_dir():
                raise ClusterError(
                    f"a worker's machine has no folder '{self._work.folder}'",
                    hint="put input and output on a disk that all machines share, or at URIs",
                )
            os.chdir(self._work.folder)
            self._work.use_threads()
            self._annotator = self._work.load()
        except SplineLLMError as error:
            return error
        return made_by_of(self._annotator.schema)

    def run(self, share: Share) -> Outcome:
        """Do a share, from where another worker left it."""
        work, n_tokens = self._work, 0

        def count(_prompts: int, tokens: int) -> None:
            nonlocal n_tokens
            n_tokens += tokens

        assert self._annotator is not None  # noqa: S101 (load() comes first)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                counted = replace(share, n_chunks=work.n_chunks)
                with closing(work.open(counted)) as source:
                    sink = _sink(work, share)
                    annotate_rows(
                        source, sink, self._annotator, on_error=work.on_error, on_progress=count
                    )
            except SplineLLMError as error:
                return Outcome(error=error)
        n_recalled = 0 if sink.journal is None else sink.journal.n_recalled
        said = tuple(str(each.message) for each in caught)
        return Outcome(sink.n_rows, sink.n_rejected, n_recalled, n_tokens, said)


def _sink(work: Work, share: Share) -> OutputFile | StandardOutput:
    """Open a share's file; who is thought to be gone may hold it for a while."""
    until = time.monotonic() + _WAIT_FOR_LOCK_S
    while True:
        try:
            return open_sink(
                work.output,
                work.given,
                asked=work.asked,
                resume=True,
                share=share,
                force=work.force,
            )
        except InUseError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_S)


@dataclass(frozen=True)
class Pool:
    """How many workers there are, and what each may have.

    Parameters
    ----------
    at_least, at_most : int or None
        The first are asked for at once, as a cluster that grows needs it; more are started while
        there is room. None is as many as there is room for.
    n_cpus, n_gpus : float
        Of a worker; parts of one are possible.
    """

    at_least: int = 1
    at_most: int | None = None
    n_cpus: float = 1.0
    n_gpus: float = 0.0


class _Lost(Exception):  # noqa: N818 (no error of ours: the share is handed out again)
    """A worker is no more."""


class Spreading:
    """Hands out the shares of a run.

    Parameters
    ----------
    ray : module
        Connected.
    run : SharedRun
        What is to be done, and what is done.
    work : Work
        How.
    pool : Pool
        By whom.
    on_progress : callable
        Told what became of each share.

    Attributes
    ----------
    n_lost : int
        Workers that ended before they were told to.
    """

    def __init__(
        self,
        ray: Any,
        run: SharedRun,
        work: Work,
        pool: Pool,
        on_progress: Callable[[Outcome], object],
    ) -> None:
        self._ray = ray
        self._run = run
        self._pool = pool
        self._on_progress = on_progress
        self._waiting = deque(run.missing())
        self._work = ray.put(work)
        self._kind = ray.remote(num_cpus=pool.n_cpus, num_gpus=pool.n_gpus, max_restarts=0)(Worker)
        self._losses: dict[int, int] = {}
        self._busy: dict[Any, tuple[Any, Share | None]] = {}
        """By what an actor will answer: the actor, and its share; none while it loads."""
        self.n_lost = 0

    def __call__(self) -> None:
        """Do all shares that are missing.

        Raises
        ------
        SplineLLMError
            Of the first share that failed; what others have computed is kept.
        """
        require_room(self._ray, self._pool.n_cpus, self._pool.n_gpus)
        if not self._waiting:
            self._compare()
            return
        try:
            while self._waiting or self._busy:
                self._start_workers()
                answers, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=_LOOK_S)
                for answer in answers:
                    self._take(answer)
        finally:
            for actor, _ in self._busy.values():
                self._ray.kill(actor)

    def _compare(self) -> None:
        """Find out whether what is done comes from what the run would use now."""
        actor = self._kind.remote(self._work)
        try:
            self._run.require_made_by(_good(self._told(actor.load.remote())))
        except _Lost as error:
            raise ClusterError("a worker ended over loading the model") from error
        finally:
            self._ray.kill(actor)

    def _start_workers(self) -> None:
        n_loading = sum(share is None for _, share in self._busy.values())
        while n_loading < len(self._waiting) and self._may_start():
            actor = self._kind.remote(self._work)
            self._busy[actor.load.remote()] = actor, None
            n_loading += 1

    def _may_start(self) -> bool:
        n_workers, pool = len(self._busy), self._pool
        if n_workers < pool.at_least:
            return True
        if pool.at_most is not None and n_workers >= pool.at_most:
            return False
        # Ray says a moment later what a worker took that has just been started.
        n_starting = sum(share is None for _, share in self._busy.values())
        free = self._ray.available_resources()
        return all(
            float(free.get(kind, 0.0)) >= wanted * (1 + n_starting)
            for kind, wanted in (("CPU", pool.n_cpus), ("GPU", pool.n_gpus))
            if wanted
        )

    def _take(self, answer: Any) -> None:
        actor, share = self._busy.pop(answer)
        try:
            told = self._told(answer)
        except _Lost:
            self._lose(share)
            return
        if share is None:
            self._run.require_made_by(_good(told))
        else:
            if told.error is not None:
                raise told.error
            self._run.note(share, told.n_rows, told.n_rejected)
            self._on_progress(told)
        if self._waiting:
            following = self._waiting.popleft()
            self._busy[actor.run.remote(following)] = actor, following
        else:
            self._ray.kill(actor)

    def _told(self, answer: Any) -> Any:
        of_ray = self._ray.exceptions
        gone = (
            *(of_ray.RayActorError, of_ray.WorkerCrashedError),
            *(of_ray.NodeDiedError, of_ray.OutOfMemoryError),
        )
        try:
            return self._ray.get(answer)
        except gone as error:
            raise _Lost from error

    def _lose(self, share: Share | None) -> None:
        self.n_lost += 1
        doing = "loading the model" if share is None else f"share {share}"
        number = 0 if share is None else share.number
        self._losses[number] = self._losses.get(number, 0) + 1
        if self._losses[number] >= MOST_LOSSES:
            raise ClusterError(
                f"{MOST_LOSSES} workers ended over {doing}",
                hint="memory may be short: fewer at a time with --ray-workers, or more for each "
                "with --ray-cpus",
            )
        told = f"a worker ended over {doing}; another one goes on with it ({self.n_lost} so far)"
        self._on_progress(Outcome(said=(told,)))
        if share is not None:
            self._waiting.appendleft(share)


def _good(told: dict[str, str] | SplineLLMError) -> dict[str, str]:
    if isinstance(told, SplineLLMError):
        raise told
    return told
