"""How the arguments of ``splinellm serve`` are read: a lone ``--ray``, unknown options."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import zip_longest
from typing import Any

import typer
from typer.core import TyperCommand

from splinellm.cli.command_line import UsageError


class ServeCommand(TyperCommand):
    """The command, whose option ``--ray`` can stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add what ``--ray`` alone means."""
        told = []
        for one, following in zip_longest(args, args[1:], fillvalue="-"):
            told.append(one)
            if one == "--ray" and following.startswith("-"):
                told.append("local")
        try:
            return super().parse_args(ctx, told)
        except UsageError as error:
            name = getattr(error, "option_name", None)
            if name is not None and (instead := _no_option(str(name))):
                raise typer.BadParameter(f"no such option: {name}; {instead}") from error
            raise


def _no_option(name: str) -> str | None:
    """How a setting is made that is no option, if `name` is nearly the name of one."""
    try:
        from service.settings import ENVIRONMENT_PREFIX, WITHOUT_OPTION
    except ModuleNotFoundError:  # the service's libraries are an extra
        return None
    wanted = name.strip("-").replace("-", "_").casefold()
    near = get_close_matches(wanted, WITHOUT_OPTION, n=1, cutoff=0.7)
    if not near:
        return None
    return (
        f"set the variable {ENVIRONMENT_PREFIX}{near[0].upper()}, or {near[0]} in the file of "
        f"--config: {WITHOUT_OPTION[near[0]]}"
    )
