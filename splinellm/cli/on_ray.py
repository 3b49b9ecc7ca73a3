"""Runs here or on Ray: the options of the latter, and such a run and its end."""

from __future__ import annotations

import sys
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splinellm.bounds import bounds_of
from splinellm.cli import options
from splinellm.cli.messages import counted, say, say_error
from splinellm.cli.progress import progress_bar
from splinellm.cli.streaming import share_of, stream, terminable, told_options
from splinellm.errors import ConfigurationError, ResumeError, SplineLLMError
from splinellm.io.formats import names_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from splinellm.io.inputs import Input
    from splinellm.io.pipeline import Annotator, Listener
    from splinellm.io.rows import Source
    from splinellm.io.shared_run import SharedRun
    from splinellm.io.shares import Share
    from splinellm.ray.spreading import Outcome

_MOST_SHARES = 256
"""A file each; workers take the next one when they are done with one."""


def _check_workers(text: str | None) -> str | None:
    if text is not None and bounds_of(text) is None:
        raise typer.BadParameter(f"'{text}' is no number of workers: N, or MIN-MAX, such as 1-16")
    return text


Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        envvar="SPLINELLM_BATCH_RAY",
        metavar="local|auto|ADDRESS",
        help="Share the work out on Ray: on this machine, on the cluster it belongs to, or on one "
        "at HOST:PORT. OUTPUT is a folder; bad rows go into its folder _rejects.",
        show_default=False,
    ),
]
RayWorkers = Annotated[
    str | None,
    typer.Option(
        "--ray-workers",
        envvar="SPLINELLM_BATCH_RAY_WORKERS",
        metavar="N|MIN-MAX",
        callback=_check_workers,
        help="Each has the model in its memory. By default as many as there is room for.",
        show_default=False,
    ),
]
RayCpus = Annotated[
    float,
    typer.Option(
        "--ray-cpus",
        envvar="SPLINELLM_BATCH_RAY_CPUS",
        min=0.01,
        metavar="F",
        help="Of a worker, and so many threads; --threads says another number.",
    ),
]
RayGpus = Annotated[
    float,
    typer.Option(
        "--ray-gpus",
        envvar="SPLINELLM_BATCH_RAY_GPUS",
        min=0.0,
        metavar="F",
        help="Of a worker; 0.5 lets two share one. Without, it computes on processors.",
    ),
]
RowNumbersOption = Annotated[
    bool | None,
    typer.Option(
        "--row-numbers/--no-row-numbers",
        envvar="SPLINELLM_ROW_NUMBERS",
        help="Add the column row, counted from 0 over all rows read. By default with --ray.",
        show_default=False,
    ),
]


ROW_NUMBERS = "row_numbers"


@dataclass(frozen=True)
class Cluster:
    """Where a run is shared out.

    Parameters
    ----------
    address : str
        ``local`` starts one.
    at_least, at_most : int or None
        Workers.
    n_cpus, n_gpus : float
        Of a worker.
    threads : int
        Of a worker.
    """

    address: str
    at_least: int
    at_most: int | None
    n_cpus: float
    n_gpus: float
    threads: int

    @classmethod
    def of(
        cls,
        address: str | None,
        workers: str | None,
        n_cpus: float,
        n_gpus: float,
        threads: int | None,
    ) -> Cluster | None:
        """Read the options; None without ``--ray``."""
        if address is None:
            return None
        least, most = bounds_of(workers or "") or (1, None)
        return cls(address, least, most, n_cpus, n_gpus, threads or max(1, int(n_cpus)))

    def require(self, given: Input, output: str, shard: str | None) -> None:
        """Refuse what cannot be shared out, before anything slow is imported."""
        from splinellm.ray.cluster import import_ray

        if shard is not None:
            raise typer.BadParameter(
                "--ray does all shares, --shard one of them: give one of the two"
            )
        if not names_folder(output):
            raise typer.BadParameter(f"--ray writes into a folder, -o FOLDER/, not to '{output}'")
        if given.is_stream:
            raise typer.BadParameter(
                f"--ray reads files, and '{given.shown}' can be read only once"
            )
        try:
            import_ray()
        except ConfigurationError as error:
            raise typer.BadParameter(str(error)) from error


def wants_row_numbers(wanted: bool | None, cluster: Cluster | None) -> bool:
    """Whether rows are numbered: on request, and where files are read in any order."""
    return cluster is not None if wanted is None else wanted


def carry_out(
    rows: Callable[[Share | None], Source[Any]],
    load: Callable[[], Annotator[Any]],
    given: Input,
    output: str,
    *,
    shard: str | None,
    cluster: Cluster | None,
    **run: Any,
) -> bool:
    """Write every row of an input with its added columns, here or on a cluster.

    Parameters
    ----------
    rows : callable
        Opens a share of the input, or all of it.
    shard : str or None
        ``I/N``: do one share alone.
    cluster : Cluster or None
        Where all shares are done, if not in this process.
    given, output, load, **run
        See :func:`splinellm.cli.streaming.stream`.

    Returns
    -------
    bool
        Whether some rows were computed by an earlier run.
    """
    if cluster is None:
        share = share_of(shard, output)
        return stream(rows(share), given, output, load, share=share, **run)
    cluster.require(given, output, shard)
    return _spread(cluster, rows, load, given, output, **run)


def _spread(
    cluster: Cluster,
    rows: Callable[[Share | None], Source[Any]],
    load: Callable[[], Annotator[Any]],
    given: Input,
    output: str,
    *,
    on_error: options.OnError,
    asked: Mapping[str, object],
    resume: bool,
    force: bool,
    quiet: bool,
    kept: str | None = None,  # noqa: ARG001 (the folder's record tells what is done)
) -> bool:
    from splinellm.io.shared_run import SharedRun
    from splinellm.io.shares import count_chunks
    from splinellm.ray.cluster import connected
    from splinellm.ray.spreading import Pool, Spreading, Work

    with closing(rows(None)) as source:  # what is wrong with it is known before Ray starts
        n_chunks = count_chunks(source, partial(rows, None))
    work = Work(
        given=given,
        output=output,
        open=rows,
        load=load,
        on_error=on_error.value,
        asked=told_options(asked),
        force=force,
        use_threads=partial(options.use_threads, cluster.threads),
        n_chunks=n_chunks,
    )
    pool = Pool(cluster.at_least, cluster.at_most, cluster.n_cpus, cluster.n_gpus)
    run = None
    try:
        n_shares = min(max(1, n_chunks), _MOST_SHARES)
        with (
            terminable(),
            SharedRun(output, given, work.asked, n_shares, resume=resume) as run,
        ):
            n_before = run.n_rows
            is_done = not run.missing()
            done = _Done(run)
            with (
                redirect_stdout(sys.stderr),  # Ray prints there what it says of workers
                connected(cluster.address) as ray,
                terminable(),  # again: Ray has its own mind about signals
                progress_bar(done, quiet=quiet) as listener,
            ):
                done.listener = listener
                Spreading(ray, run, work, pool, done)()
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    except SplineLLMError as error:
        say_error(str(error) if isinstance(error, ResumeError) else f"{error}{_kept(run, output)}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        is_terminated = type(error) is not KeyboardInterrupt
        say(f"{'terminated' if is_terminated else 'interrupted'}{_kept(run, output)}")
        raise typer.Exit(143 if is_terminated else 130) from error
    n_recalled = n_before + done.n_recalled
    if not quiet or run.n_rejected:
        say(_summary(run, output, n_recalled, is_done=is_done))
    return n_recalled > 0


def _summary(run: SharedRun, output: str, n_recalled: int, *, is_done: bool) -> str:
    rows = counted(run.n_rows, "row")
    written = f"already done: {rows} in {output}" if is_done else f"{rows} written"
    if n_recalled and not is_done:
        written += f", {n_recalled:,} of them computed before"
    if run.n_rejected:
        written += f", {run.n_rejected:,} rejected, see {output.rstrip('/')}/_rejects"
    return f"{written}; nothing to compute" if is_done else written


def _kept(run: SharedRun | None, output: str) -> str:
    if run is None or not run.has_results:
        return ""
    shares = f"{run.n_done} of {counted(run.n_shares, 'share')}"
    return f"; {shares} are in {output}, --resume goes on with what is there"


class _Done:
    """Hears of each share that is done: for the bar, and to say each warning once.

    Parameters
    ----------
    run : SharedRun
        Knows how many there are.
    """

    def __init__(self, run: SharedRun) -> None:
        self.n_recalled = 0
        self.listener: Listener | None = None
        self._run = run
        self._said: set[str] = set()

    def __call__(self, outcome: Outcome) -> None:
        self.n_recalled += outcome.n_recalled
        for text in outcome.said:
            if text not in self._said:
                self._said.add(text)
                say(f"warning: {text}")
        if self.listener is not None:
            self.listener(outcome.n_rows, outcome.n_tokens)

    @property
    def n_read(self) -> int:
        """Rows of the shares that are done."""
        return self._run.n_rows

    def progress(self) -> float:
        """Share of the shares that are done."""
        return self._run.n_done / self._run.n_shares
