"""The command that is running, as one could type it again."""

from __future__ import annotations

import shlex
from enum import Enum
from typing import Any

import typer

# What Typer raises for bad usage. Its common base has no public name in all supported versions.
UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def command_line(context: typer.Context) -> str:
    """Spell the running command with all that was not left at its default.

    What came from the environment is an option here, so that the line works anywhere.

    Parameters
    ----------
    context : typer.Context
        Of the command.
    """
    parts = ["splinellm", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        source = context.get_parameter_source(str(parameter.name))
        if value is None or source is None or source.name.startswith("DEFAULT"):
            continue
        if parameter.param_type_name == "argument":
            parts += [_spelled(one) for one in _each(value)]
        elif isinstance(value, bool):
            chosen = parameter.opts if value else parameter.secondary_opts
            parts.extend(chosen[:1])
        else:
            for one in _each(value):
                parts += [parameter.opts[0], _spelled(one)]
    return shlex.join(parts)


def _each(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list | tuple) else [value]


def _spelled(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)
