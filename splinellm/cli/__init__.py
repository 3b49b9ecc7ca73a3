"""The command line. A command is a module; :mod:`~splinellm.cli.options` is what they share.

Nothing slow is imported before a command runs: no torch, transformers, pandas, Arrow or rich.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from splinellm import __version__
from splinellm.cli import (
    bench,
    classifiers,
    compare,
    evaluate,
    extract,
    inspect,
    models,
    plot,
    predict,
    serve,
    train,
    watch,
)
from splinellm.cli.command_line import UsageError
from splinellm.cli.environment import warn_of_unknown_variables
from splinellm.cli.messages import (
    BROKEN_PIPE,
    fill_closed_streams,
    say_error,
    show_log_as_lines,
    show_warnings_as_lines,
    silence_stdout,
)
from splinellm.cli.serve_command import ServeCommand
from splinellm.errors import SplineLLMError

app = typer.Typer(
    name="splinellm",
    help="Spline geometry of large language models: exact features in one forward pass.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # commands inherit them
)
for command in (
    extract.extract,
    train.train,
    evaluate.evaluate,
    predict.predict,
    inspect.inspect,
    plot.plot,
    compare.compare,
    watch.watch,
    bench.bench,
):
    app.command()(command)
app.command(cls=ServeCommand)(serve.serve)
app.add_typer(models.app, name="models")
app.add_typer(classifiers.app, name="classifiers")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"splinellm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version  # its callback did the work
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
    warn_of_unknown_variables(context.command)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 bad usage, 130 interrupted."""
    fill_closed_streams()
    show_warnings_as_lines()
    show_log_as_lines()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : list of str
        Without the program's name.

    Returns
    -------
    int
        The exit code. Errors were reported; exceptions that are bugs pass through.
    """
    try:
        code = int(app(arguments, prog_name="splinellm", standalone_mode=False) or 0)
    except UsageError as error:
        format_message = getattr(error, "format_message", error.__str__)
        told = format_message().replace(": Value error, ", ": ")  # pydantic's, which checks choices
        say_error(_with_pipe(error, told))
        code = int(getattr(error, "exit_code", 2))
    except SplineLLMError as error:
        say_error(error)
        code = 1
    except typer.Abort:  # older versions of Typer make it of Ctrl-C
        code = 130
    return _flush_stdout(code)


def _with_pipe(error: Exception, message: str) -> str:
    """Tell whoever pipes something in, and names no input, how that is named."""
    missing = getattr(getattr(error, "param", None), "name", None)
    if missing != "inputs" or sys.stdin is None or sys.stdin.isatty():
        return message
    return f"{message} To read what is piped in, give - as INPUT, and -o - for JSON lines: - -o -"


def _flush_stdout(code: int) -> int:
    # Now, not at exit, where Python would report a failure in its own words.
    try:
        sys.stdout.flush()
    except OSError as error:
        silence_stdout()
        if isinstance(error, BrokenPipeError):
            return code or BROKEN_PIPE
        if code == 0:  # else it was reported
            say_error(f"cannot write to standard output: {error.strerror or error}")
        return code or 1
    return code
