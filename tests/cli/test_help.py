"""Both ways of asking for help, of every command."""

from __future__ import annotations

import pytest

from splinellm.cli import run

COMMANDS = ["extract", "train", "evaluate", "predict", "serve", "bench", "models"]


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS), ["models", "pull"], ["models", "path"]]
)
def test_h_is_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "-h"]) == 0
    short = capsys.readouterr()
    assert run([*command, "--help"]) == 0
    assert capsys.readouterr().out == short.out
    assert short.out.startswith(" ".join(["Usage: splinellm", *command]))
    assert "-h, --help" in short.out
