"""The command ``splinellm extract``."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from splinellm.cli import loading, options
from splinellm.cli.messages import BROKEN_PIPE, say, say_error, silence_stdout
from splinellm.cli.progress import progress_bar
from splinellm.errors import ConfigurationError, SplineLLMError
from splinellm.io.formats import output_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from splinellm.io.output_file import OutputFile
    from splinellm.io.rows import Source
    from splinellm.io.sink import StandardOutput

# --granularity and --resume belong here once the extractor and the sink know them.


def _check_output(output: str) -> str:
    try:
        output_format(output)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    return output


def extract(
    input_path: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help=".jsonl, .csv, .tsv or .txt (a prompt a line), each also .gz; .parquet; a folder "
            "of Parquet files; or - for standard input, read as JSON lines if it begins with {, "
            "else as a prompt a line.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            envvar="SPLINELLM_OUTPUT",
            metavar="OUTPUT",
            callback=_check_output,
            help=".parquet, .npz, .csv or .jsonl (the last two also .gz), or - for JSON lines on "
            "standard output.",
        ),
    ],
    model: options.Model = "smollm2-135m",
    layers: options.Layers = None,
    features: options.Features = "paper",
    text_column: options.TextColumn = "text",
    input_format: options.InputFormatOption = None,
    on_error: options.OnErrorOption = options.OnError.FAIL,
    max_tokens: options.MaxTokens = None,
    batch_tokens: options.BatchTokens = None,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dimension_rule: options.DimensionRuleOption = options.DimensionRule.RELATIVE,
    dimension_threshold: options.DimensionThreshold = 0.1,
    allow_special_tokens: options.AllowSpecialTokens = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute the features of every row of INPUT.

    Every input column is kept, in input order; n_tokens, truncated and the features are added.

    Until the run succeeds, everything is in OUTPUT.partial. Bad rows (text missing, empty or not
    text, a line that cannot be parsed) stop the run; with --on-error skip they go with the reason
    to OUTPUT.rejects.jsonl, or to standard error if OUTPUT is standard output.
    """
    settings = {
        "model": model,
        "layers": layers,
        "features": features,
        "max_tokens": max_tokens,
        "batch_tokens": batch_tokens,
        "dtype": dtype.value,
        "device": device,
        "device_map": device_map,
        "dimension_rule": dimension_rule.value,
        "dimension_threshold": dimension_threshold,
        "allow_special_tokens": allow_special_tokens,
    }
    from splinellm.io.readers import open_source  # Arrow is slow to import, --help is not
    from splinellm.io.sink import open_sink

    kind = None if input_format is None else input_format.value
    with closing(open_source(input_path, text_column=text_column, format=kind)) as source:
        try:
            sink = open_sink(output, input_path)
        except ConfigurationError as error:
            raise typer.BadParameter(str(error)) from error
        with _terminable(), _reporting(sink, output):
            _run(source, sink, settings, on_error, quiet=quiet)
    if not quiet or sink.n_rejected:
        say(_summary(sink, output))


def _run(
    source: Source,
    sink: StandardOutput | OutputFile,
    settings: dict[str, Any],
    on_error: options.OnError,
    *,
    quiet: bool,
) -> None:
    from splinellm.io.pipeline import extract_rows

    try:
        extractor = loading.load_extractor(**settings)
    except BaseException:
        sink.abandon()
        raise
    with progress_bar(source, quiet=quiet) as listener:
        extract_rows(source, sink, extractor, on_error=on_error.value, on_progress=listener)


@contextmanager
def _reporting(sink: StandardOutput | OutputFile, output: str) -> Iterator[None]:
    """On a failure, say in the same line what is left of the run."""
    try:
        yield
    except SplineLLMError as error:
        say_error(f"{error}{_kept(sink, output)}")
        raise typer.Exit(1) from error
    except BrokenPipeError as error:  # `| head` has seen enough
        silence_stdout()
        raise typer.Exit(BROKEN_PIPE) from error
    except _Terminated as error:
        say(f"terminated{_kept(sink, output)}")
        raise typer.Exit(143) from error
    except KeyboardInterrupt as error:
        say(f"interrupted{_kept(sink, output)}")
        raise typer.Exit(130) from error


def _kept(sink: StandardOutput | OutputFile, output: str) -> str:
    if not sink.n_rows:
        return ""
    where = "were written" if output == "-" else f"are in {output}.partial"
    return f"; {sink.n_rows:,} rows {where}"


def _summary(sink: StandardOutput | OutputFile, output: str) -> str:
    written = f"{sink.n_rows:,} rows written"
    if not sink.n_rejected:
        return written
    see = "see above" if output == "-" else f"see {output}.rejects.jsonl"
    return f"{written}, {sink.n_rejected:,} rejected, {see}"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers and `timeout` send it: leave a readable file, like at Ctrl-C."""


@contextmanager
def _terminable() -> Iterator[None]:
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
