from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from splinellm import __version__
from splinellm.backbone import builtin
from splinellm.cli import app
from tests.cli.conftest import Result

Cli = Callable[..., Result]


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, f"{name} {child}".strip())


ALL_COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_option_has_help_and_an_environment_twin(name: str) -> None:
    for parameter in ALL_COMMANDS[name].params:
        assert parameter.help
        if parameter.param_type_name == "option" and parameter.name not in ("help", "version"):
            option = max(parameter.opts, key=len)
            assert parameter.envvar == "SPLINELLM_" + option.strip("-").upper().replace("-", "_")


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.stdout.decode()) == (0, f"splinellm {__version__}\n")


def test_nothing_asked_for_shows_help_on_stderr(cli: Cli) -> None:
    result = cli()
    assert (result.code, result.stdout) == (2, b"")
    assert "extract" in result.stderr


def test_models_lists_and_pulls(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPLINELLM_CACHE", str(tmp_path))
    monkeypatch.setenv("SPLINELLM_OFFLINE", "1")
    path = builtin.BUILTIN_MODELS[builtin.DEFAULT_MODEL].path
    listed = cli("models").stdout.decode().splitlines()[1]
    assert listed.startswith("smollm2-135m  -  ")
    assert listed.endswith(str(path))
    result = cli("models", "pull", "smollm2-135m")
    assert (result.code, result.stdout) == (1, b"")
    assert "not cached" in result.stderr
    path.parent.mkdir(parents=True)
    path.touch()
    assert "  cached  " in cli("models").stdout.decode()
    result = cli("models", "pull", "smollm2-135m")
    assert (result.code, result.stdout.decode(), result.stderr) == (0, f"{path}\n", "")


def test_unknown_model_is_one_line(cli: Cli) -> None:
    result = cli("models", "pull", "gpt-17")
    assert result.code == 1
    assert result.stderr.startswith("splinellm: error: no built-in model is called 'gpt-17'")
