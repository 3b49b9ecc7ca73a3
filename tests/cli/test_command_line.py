"""The command that is running, as one could type it again."""

from __future__ import annotations

import shlex
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from splinellm.cli.command_line import command_line

LINES = [
    ["a b.csv", "c.csv", "--label", "x", "--label", "y", "--no-quick"],
    ["a.csv", "--size", "3"],
]


@pytest.mark.parametrize("arguments", LINES)
def test_it_is_what_was_typed(arguments: list[str]) -> None:
    app = typer.Typer()

    @app.command("learn")
    def learn(
        context: typer.Context,
        files: list[str],
        label: Annotated[list[str] | None, typer.Option()] = None,
        quick: Annotated[bool, typer.Option("--quick/--no-quick")] = True,
        size: int = 1,
    ) -> None:
        typer.echo(command_line(context))

    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    program, _, *rest = shlex.split(result.output)
    assert program == "splinellm"
    assert rest == arguments
