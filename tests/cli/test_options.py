from __future__ import annotations

import os
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
            option = max(parameter.opts, key=len).strip("-").upper().replace("-", "_")
            of_command = f"SPLINELLM_{name.upper().replace(' ', '_').replace('-', '_')}_{option}"
            of_batches = f"SPLINELLM_BATCH_{option}"  # where the service has a setting of that name
            assert parameter.envvar in (f"SPLINELLM_{option}", of_command, of_batches)


LISTS_IN_THE_SERVICE = ["SPLINELLM_MODEL"]
"""Of which the first is what one name is elsewhere."""


def test_a_twin_means_the_same_in_every_command() -> None:
    meanings: dict[str, set[Any]] = {}
    for name, command in ALL_COMMANDS.items():
        for parameter in command.params:
            if parameter.param_type_name != "option" or parameter.envvar is None:
                continue
            # Where one command writes to is no place for another.
            owner = name if parameter.name in ("output", "report") else ""
            meaning = (owner, parameter.is_flag, parameter.metavar)
            meanings.setdefault(parameter.envvar, set()).add(meaning)
    assert [n for n, m in meanings.items() if len(m) > 1 and n not in LISTS_IN_THE_SERVICE] == []


def test_where_batches_run_is_not_where_the_service_does() -> None:
    pytest.importorskip("pydantic_settings")
    from service.settings import Settings

    settings = {f"SPLINELLM_{name.upper()}" for name in Settings.model_fields if "ray" in name}
    for name in ("extract", "predict"):
        twins = {it.envvar for it in ALL_COMMANDS[name].params if "ray" in str(it.name)}
        assert len(twins) == 4
        assert not twins & settings


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SPLINELLM_API_KEY", "; did you mean SPLINELLM_API_KEYS?"),
        ("SPLINELLM_MAX_TOKEN", "; did you mean SPLINELLM_MAX_TOKENS?"),
        ("SPLINELLM_COLOUR_OF_MOON", ""),
    ],
)
def test_unknown_variable_is_told_of(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.setenv(name, "secret")
    Path("in.txt").write_text("a\n")
    result = cli("extract", "in.txt", "-o", "out.csv", "-q")
    assert result.code == 0
    assert result.stderr == f"splinellm: warning: nothing reads the variable {name}{hint}\n"


def test_known_variables_are_no_news(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEYS", "OFFLINE", "TARGET_FPR", "SERVICE_HOST", "PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(f"SPLINELLM_{name}", "")
    Path("in.txt").write_text("a\n")
    assert cli("extract", "in.txt", "-o", "out.csv", "-q").stderr == ""


def test_output_of_one_command_is_not_that_of_another(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.csv").write_text("text,y\na,0\n")
    monkeypatch.setenv("SPLINELLM_OUTPUT", "out.parquet")
    assert cli("extract", "in.csv").code == 0
    for command in (("train", "in.csv", "--label", "y"), ("predict", "toxicity", "in.csv")):
        result = cli(*command)
        assert result.code == 2
        assert "Missing option '--output'" in result.stderr


@pytest.mark.parametrize("name", ["clf.parquet", "clf.skops", "clf.JSON", "a/clf.csv.gz"])
def test_classifier_is_not_called_like_a_file(cli: Cli, name: str) -> None:
    Path("in.csv").write_text("text,y\na,0\n")
    result = cli("train", "in.csv", "--label", "y", "-o", name)
    assert (result.code, result.stdout) == (2, b"")
    assert f"'{name}' is called like a file; a classifier is a folder" in result.stderr
    assert "one class only" in cli("train", "in.csv", "--label", "y", "-o", "v1.2").stderr


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


def test_threads_are_limited(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    Path("in.txt").write_text("a\n")
    assert cli("extract", "in.txt", "-o", "-", "--threads", "3").code == 0
    assert (told, os.environ["OMP_NUM_THREADS"]) == ([3], "3")
    monkeypatch.setenv("SPLINELLM_THREADS", "2")
    assert cli("extract", "in.txt", "-o", "-").code == 0
    assert told == [3, 2]
    result = cli("extract", "in.txt", "-o", "-", "--threads", "0")
    assert (result.code, "--threads" in result.stderr) == (2, True)
