"""The file that settings come from: TOML, JSON or .env. No error quotes it: it may hold keys."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

from splinellm.errors import ConfigurationError

_ENCODING = "utf-8-sig"  # editors of Windows begin a file with a byte order mark
_READERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}


def file_source(settings_cls: type[BaseSettings], path: Path) -> PydanticBaseSettingsSource:
    """Read a file, whatever its format; a field that does not exist is a typo.

    Raises
    ------
    ConfigurationError
        There is no such file, it cannot be read, or it names a setting that does not exist.
    """
    if not path.is_file():
        raise ConfigurationError(f"the settings file '{path}' does not exist")
    try:
        if path.suffix not in _READERS:
            return DotEnvSettingsSource(settings_cls, env_file=path, env_file_encoding=_ENCODING)
        text = path.read_text(encoding=_ENCODING)
        values: Any = _READERS[path.suffix](text) if text.strip() else {}
        if not isinstance(values, dict):
            raise TypeError
    except (OSError, ValueError, TypeError) as error:
        # No more of the content than where: a line may hold a key.
        line = re.search(r"\bline (\d+)\b", str(error)) if isinstance(error, ValueError) else None
        reason = f": its line {line[1]} is no {path.suffix[1:].upper()}" if line else ""
        raise ConfigurationError(f"the settings file '{path}' cannot be read{reason}") from None
    unknown = sorted(set(values) - set(settings_cls.model_fields))
    if unknown:
        raise ConfigurationError(f"'{path}': there is no setting '{unknown[0]}'")
    return InitSettingsSource(settings_cls, values)
