"""The file that settings come from: TOML, JSON or .env. No error quotes it: it may hold keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from splinellm.errors import ConfigurationError


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
        if path.suffix == ".toml":
            values: Mapping[str, Any] = TomlConfigSettingsSource(settings_cls, path).toml_data
        elif path.suffix == ".json":
            values = JsonConfigSettingsSource(settings_cls, path).json_data
        else:
            return DotEnvSettingsSource(settings_cls, env_file=path)
    except (OSError, ValueError, TypeError) as error:
        # No more of the content than where: a line may hold a key.
        line = re.search(r"\bline (\d+)\b", str(error)) if isinstance(error, ValueError) else None
        reason = f": its line {line[1]} is no {path.suffix[1:].upper()}" if line else ""
        raise ConfigurationError(f"the settings file '{path}' cannot be read{reason}") from None
    unknown = sorted(set(values) - set(settings_cls.model_fields))
    if unknown:
        raise ConfigurationError(f"'{path}': there is no setting '{unknown[0]}'")
    source = TomlConfigSettingsSource if path.suffix == ".toml" else JsonConfigSettingsSource
    return source(settings_cls, path)
