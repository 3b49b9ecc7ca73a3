"""What the commands share that read rows, add columns and write them: one run, and its end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from splinellm.cli.messages import BROKEN_PIPE, counted, say, say_error, silence_stdout
from splinellm.cli.options import CsvTypes, OnError
from splinellm.cli.progress import progress_bar
from splinellm.errors import ConfigurationError, ResumeError, SplineLLMError
from splinellm.io.formats import STANDARD_STREAM, input_suffixes, names_folder, output_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from splinellm.io.finished import Finished
    from splinellm.io.inputs import Input
    from splinellm.io.output_file import OutputFile
    from splinellm.io.pipeline import Annotator
    from splinellm.io.rows import ChunkT, Source
    from splinellm.io.shares import Share
    from splinellm.io.sink import StandardOutput

InputArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help=f"Files: {input_suffixes()} (.txt: a prompt a line); folders of such; patterns in "
        "quotes, such as 'data/**/*.csv'; or - for standard input, read as JSON lines if it begins "
        "with {, as CSV if its first line is a header with the text column, else as a prompt a "
        "line.",
    ),
]
_MAX_WAIT_S = 0.4


def check_feature_output(output: str) -> str:
    """Refuse an output whose format is unknown."""
    return _check_output(output, features=True)


def check_prediction_output(output: str) -> str:
    """Refuse an output whose format is unknown, or for features only."""
    return _check_output(output, features=False)


def _check_output(output: str, *, features: bool) -> str:
    try:
        output_format(output, features=features)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    return output


def input_of(arguments: list[str], format: str | None = None) -> Input:  # noqa: A002 (as open_source)
    """Look up what INPUT names."""
    from splinellm.io.inputs import find_input  # Arrow is slow to import, --help is not

    try:
        return find_input(arguments, format)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error


def keep_inputs(given: Sequence[str], written: Path | None) -> None:
    """Refuse to write over what is read, by whatever path, before anything is computed."""
    if written is not None and written.exists():
        from splinellm.io.sink import require_kept  # --help needs none of it

        try:
            require_kept(input_of(list(given)), written, [written])
        except ConfigurationError as error:
            raise typer.BadParameter(str(error)) from error


def stream(
    source: Source[ChunkT],
    given: Input,
    output: str,
    load: Callable[[], Annotator[ChunkT]],
    *,
    on_error: OnError,
    quiet: bool,
    resume: bool = False,
    share: Share | None = None,
    force: bool = False,
    kept: str | None = None,
    asked: Mapping[str, object] | None = None,
) -> bool:
    """Write every row of a source with its added columns, and say how it went.

    Parameters
    ----------
    source : Source
        Open; it is closed at the end.
    given : Input
        Where the source comes from; the output must not replace it.
    output : str
        A file, a folder, or ``-`` for standard output.
    load : callable
        Makes the annotator; called when everything else is known to be in order.
    on_error : OnError
        What happens at a bad row.
    quiet : bool
        Whether to leave out the progress bar and the final count.
    resume : bool
        Whether to go on with what an earlier run computed.
    share : Share, optional
        Of the input, that the source reads.
    force : bool
        Whether an output that is there is replaced whatever it holds.
    kept : str, optional
        The columns of the input that go into the output; all by default.
    asked : mapping of str to object, optional
        Options that change a number or a column; a run that goes on must have the same.

    Returns
    -------
    bool
        Whether some rows were computed by an earlier run.
    """
    from splinellm.io.sink import open_sink  # Arrow is slow to import, --help is not

    told = told_options(asked or {})
    with closing(source):
        try:
            sink = open_sink(
                output,
                given,
                asked=told,
                resume=resume,
                share=share,
                force=force,
                kept="all" if kept is None else kept,
            )
        except ConfigurationError as error:
            raise typer.BadParameter(str(error)) from error
        with terminable(), _reporting(sink):
            done = _run(source, sink, load, on_error, quiet=quiet)
    if done is not None:
        if not quiet or done.n_rejected:
            say(_already(done, sink))
        return True
    if not quiet or sink.n_rejected:
        say(_summary(sink))
    return sink.journal is not None and sink.journal.n_recalled > 0


def csv_types_of(wanted: CsvTypes, given: Input, output: str) -> CsvTypes:
    """Decide whether columns of CSV get types.

    From pipe to pipe, rows must leave before the last one is known; CSV itself has no types.
    """
    if wanted is not CsvTypes.AUTO:
        return wanted
    is_stream = output == STANDARD_STREAM and given.is_stream
    is_text = is_stream or output_format(output).has_delimiter
    return CsvTypes.TEXT if is_text else CsvTypes.INFER


def max_wait_of(output: str) -> float | None:
    """How long a row may wait for others, in seconds: not long where somebody may be waiting.

    In a file, chunks must be those of any other run with this input, to go on with one.
    """
    return _MAX_WAIT_S if output == STANDARD_STREAM else None


def share_of(text: str | None, output: str) -> Share | None:
    """Read ``--shard``, which needs a folder to write into."""
    from splinellm.io.shares import Share

    if text is None:
        return None
    if not names_folder(output):
        raise typer.BadParameter(f"--shard writes into a folder, -o FOLDER/, not to '{output}'")
    try:
        return Share.parse(text)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error


def told_options(asked: Mapping[str, object]) -> dict[str, str]:
    """Settings in the words of the command line."""
    return {_option(name): _told(value) for name, value in asked.items()}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}" if name.isidentifier() else name


def _told(value: object) -> str:
    return "the default" if value is None else str(value)


def _run(
    source: Source[ChunkT],
    sink: StandardOutput | OutputFile,
    load: Callable[[], Annotator[ChunkT]],
    on_error: OnError,
    *,
    quiet: bool,
) -> Finished | None:
    """Do the run, or find that an earlier one has done all of it."""
    from splinellm.io.pipeline import annotate_rows

    try:
        annotator = load()
        done = None if sink.journal is None else sink.finished(annotator.schema)
        if done is not None and not (done.n_rejected and on_error is OnError.FAIL):
            sink.abandon()
            return done
    except BaseException:
        sink.abandon()
        raise
    with progress_bar(source, quiet=quiet) as listener:
        annotate_rows(source, sink, annotator, on_error=on_error.value, on_progress=listener)
    return None


@contextmanager
def _reporting(sink: StandardOutput | OutputFile) -> Iterator[None]:
    """On a failure, say in the same line what is left of the run."""
    try:
        yield
    except SplineLLMError as error:
        # What refuses to go on with them has said where they are.
        say_error(str(error) if isinstance(error, ResumeError) else f"{error}{_kept(sink)}")
        raise typer.Exit(1) from error
    except BrokenPipeError as error:  # `| head` has seen enough
        silence_stdout()
        raise typer.Exit(BROKEN_PIPE) from error
    except _Terminated as error:
        say(f"terminated{_kept(sink)}")
        raise typer.Exit(143) from error
    except KeyboardInterrupt as error:
        say(f"interrupted{_kept(sink)}")
        raise typer.Exit(130) from error


def _kept(sink: StandardOutput | OutputFile) -> str:
    if sink.journal is None:
        were = "was" if sink.n_rows == 1 else "were"
        return f"; {counted(sink.n_rows, 'row')} {were} written" if sink.n_rows else ""
    if not sink.journal.n_rows:
        return ""
    where = sink.places.shown_partial
    n_rows = sink.journal.n_rows
    are, them = ("is", "it") if n_rows == 1 else ("are", "them")
    return f"; {counted(n_rows, 'row')} {are} in {where}, --resume goes on with {them}"


def _summary(sink: StandardOutput | OutputFile) -> str:
    written = f"{counted(sink.n_rows, 'row')} written"
    if sink.journal is not None and sink.journal.n_recalled:
        written += f", {sink.journal.n_recalled:,} of them computed before"
    if not sink.n_rejected:
        return written
    see = "see above" if sink.journal is None else f"see {sink.places.shown_rejects}"
    return f"{written}, {sink.n_rejected:,} rejected, {see}"


def _already(done: Finished, sink: StandardOutput | OutputFile) -> str:
    assert sink.journal is not None  # noqa: S101 (nothing is known of standard output)
    rows = f"already done: {counted(done.n_rows, 'row')} in {sink.places.shown}"
    if done.n_rejected:
        rows += f", {done.n_rejected:,} rejected, see {sink.places.shown_rejects}"
    return f"{rows}; nothing to compute"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and `timeout` send it: end in order, like at Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Make of SIGTERM what Ctrl-C is, while the block runs."""

    def terminate(_number: int, _frame: object) -> NoReturn:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
