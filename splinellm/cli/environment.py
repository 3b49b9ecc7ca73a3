"""Variables of the environment that nothing reads, most likely because they are misspelled."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from splinellm.cli.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "SPLINELLM_"
_OTHERS = frozenset([f"{PREFIX}CACHE", f"{PREFIX}OFFLINE"])
"""Read, though no option's twins."""
_KUBERNETES = re.compile(
    PREFIX + r"(?:\w+_)?(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_(?:TCP|UDP)\w*)?)"
)
"""What it puts into every container beside a service called splinellm."""


def warn_of_unknown_variables(command: Any, environment: Mapping[str, str] | None = None) -> None:
    """Say which variables with our prefix nothing reads; never their values.

    Parameters
    ----------
    command : click's command
        The whole command line: every option has its twin.
    environment : mapping of str to str, optional
        That of the process by default.
    """
    names = os.environ if environment is None else environment
    found = sorted(name for name in names if name.startswith(PREFIX))
    if not found:
        return
    known = {*_OTHERS, *_twins(command)}
    unknown = [name for name in found if name not in known and not _KUBERNETES.fullmatch(name)]
    if unknown:
        known |= _settings_of_the_service()  # slow to import, so only now
    for name in unknown:
        if name not in known:
            close = get_close_matches(name, sorted(known), n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            say(f"warning: nothing reads the variable {name}{hint}")


def _twins(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter.envvar, str):
            yield parameter.envvar
    for child in getattr(command, "commands", {}).values():
        yield from _twins(child)


def _settings_of_the_service() -> set[str]:
    try:
        from service.settings import ENVIRONMENT_PREFIX, Settings
    except ModuleNotFoundError:  # its libraries are an extra; nothing is known for sure
        return {f"{PREFIX}API_KEYS"}
    return {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
