"""Settings of the service: one frozen object, checked as a whole before anything is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.settings_file import file_source
from splinellm.bounds import bounds_of
from splinellm.errors import ConfigurationError

ENVIRONMENT_PREFIX = "SPLINELLM_"
OPENAI_INPUTS = 2048
"""Inputs of one request that OpenAI's clients send."""
PERSON = "person"
"""See :data:`splinellm.learn.cascade.PERSON`, which is slow to import."""
WITHOUT_OPTION: Mapping[str, str] = {
    "api_keys": "whoever uses this machine can read the options of a command",
}
"""Settings that are made by variable or file alone, and why."""
MODERATION_CHARS = 131_072
"""Of a text to be moderated: some 32,768 tokens."""


def _split(value: Any) -> Any:
    """Take ``a,b`` for a list; files may have real lists."""
    if isinstance(value, str):
        return tuple(part for part in map(str.strip, value.split(",")) if part)
    return value


def _split_keys(value: Any) -> Any:
    """Take ``name:key,name2:key2`` or a JSON object for a mapping. Never says what it was given."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            raise ValueError("not a valid JSON object") from None
    pairs = [part.partition(":") for part in _split(value)]
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise ValueError("a name occurs twice")
    return {name: key for name, _, key in pairs}


def _split_pairs(value: Any) -> Any:
    """Take ``a=b,c=d``, and a mapping, for a list of such pairs."""
    if isinstance(value, Mapping):
        return tuple(f"{name}={told}" for name, told in value.items())
    return _split(value)


Pairs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_pairs)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Keys = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_split_keys)]


class Settings(BaseSettings):
    """What ``splinellm serve`` can be told, by option, environment, or file, in this order.

    Every field is an environment variable with the prefix ``SPLINELLM_``; the file, in TOML, JSON
    or .env format, is named by ``SPLINELLM_CONFIG``. See docs/service.md for what each one does.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    config: Path | None = None
    host: str = Field(default="127.0.0.1", min_length=1)  # "" would be every address there is
    port: int = Field(default=8000, ge=0, le=65_535)

    model: Names = ("smollm2-135m",)
    classifiers: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_split)] = None
    cascade: Names = ()
    threshold: Pairs = ()
    drift_reference: Pairs = ()
    drift_window: int = Field(default=500, ge=100)
    perspective_attributes: Pairs = ()
    moderation_categories: Pairs = ()
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    device_map: str | None = None
    allow_special_tokens: bool = False
    chat_template: Path | None = None

    max_batch_tokens: PositiveInt | None = None
    prefix_cache_bytes: NonNegativeInt = 268_435_456
    batch_wait_ms: NonNegativeFloat = 5
    max_queue_inputs: PositiveInt = 1024
    max_queue_tokens: PositiveInt = 524_288
    max_client_batch_size: PositiveInt = 256
    max_input_tokens: PositiveInt = 1024
    max_input_chars: PositiveInt = 65_536
    payload_limit: PositiveInt = 2_000_000
    overflow: Literal["error", "truncate", "window"] = "error"
    image_parts: Literal["report", "error"] = "report"
    perspective_unknown: Literal["omit", "error"] = "omit"
    token_ids: Literal["accept", "refuse"] = "accept"  # noqa: S105 (no secret)

    max_header_bytes: int = Field(default=32_768, ge=1024)
    max_connections: PositiveInt = 512

    header_timeout_s: PositiveFloat = 10
    body_timeout_s: PositiveFloat = 30
    request_timeout_s: PositiveFloat = 60
    stream_timeout_s: PositiveFloat = 600
    drain_timeout_s: NonNegativeFloat = 30

    api_keys: Keys = {}
    rate_limit_per_minute: PositiveInt | None = None
    cors_origins: Names = ()
    public_pages: bool = True
    root_path: str = ""
    trusted_proxies: Names = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    cpu_threads: PositiveInt = 2
    threads: PositiveInt | None = None

    ray: str | None = None
    ray_replicas: str = "1"
    ray_cpus: float = Field(default=0.1, gt=0, le=1024)
    ray_gpus: float = Field(default=0, ge=0, le=1024)
    ray_target_requests: PositiveFloat = 8

    @field_validator(
        "batch_wait_ms",
        "header_timeout_s",
        "body_timeout_s",
        "request_timeout_s",
        "stream_timeout_s",
        "drain_timeout_s",
        "ray_target_requests",
    )
    @classmethod
    def _require_finite(cls, value: float) -> float:
        if value == float("inf"):
            raise ValueError("must be finite")
        return value

    @field_validator("model")
    @classmethod
    def _require_models(cls, model: tuple[str, ...]) -> tuple[str, ...]:
        if not model:
            raise ValueError("names no model")
        if len(set(model)) < len(model):
            raise ValueError("names a model twice")
        return model

    @field_validator("cascade")
    @classmethod
    def _require_chains(cls, cascade: tuple[str, ...]) -> tuple[str, ...]:
        chains = [tuple(one.split(":")) for one in cascade]
        for names in chains:
            if len(names) < 2 or not all(names):
                raise ValueError("is not like 'A:B' or 'A:B:person'")
            if len(set(names)) < len(names):
                raise ValueError(f"'{':'.join(names)[:80]}' names a step twice")
            if PERSON in names[:-1]:
                raise ValueError(f"'{PERSON}' can only be the last step")
        if len({names[0] for names in chains}) < len(chains):
            raise ValueError("two cascades begin with one classifier")
        return cascade

    @field_validator("threshold")
    @classmethod
    def _require_thresholds(cls, threshold: tuple[str, ...]) -> tuple[str, ...]:
        for one in threshold:
            name, _, value = one.rpartition("=")
            if not name or not re.fullmatch(r"\d*\.?\d+", value):
                raise ValueError("is not like 'NAME=0.8' or 'NAME:CLASS=0.8'")
            if float(value) > 1:
                raise ValueError(f"{value[:20]} is not in [0, 1]")
        return threshold

    @field_validator("drift_reference")
    @classmethod
    def _require_references(cls, told: tuple[str, ...]) -> tuple[str, ...]:
        pairs = [one.partition("=") for one in told]
        if not all(name and path for name, _, path in pairs):
            raise ValueError("is not like 'CLASSIFIER=FILE'")
        if len({name for name, _, _ in pairs}) < len(pairs):
            raise ValueError("names a classifier twice")
        return told

    @field_validator("perspective_attributes", "moderation_categories")
    @classmethod
    def _require_mappings(cls, told: tuple[str, ...]) -> tuple[str, ...]:
        pairs = [one.partition("=") for one in told]
        if not all(category and name for category, _, name in pairs):
            raise ValueError("is not like 'CATEGORY=CLASSIFIER:CLASS'")
        if len({category for category, _, _ in pairs}) < len(pairs):
            raise ValueError("names a category twice")
        return told

    @field_validator("api_keys")
    @classmethod
    def _require_usable_keys(cls, keys: dict[str, SecretStr]) -> dict[str, SecretStr]:
        values = [key.get_secret_value() for key in keys.values()]
        if not all(re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) for name in keys):
            raise ValueError("a name is not of 1 to 64 letters, digits, '_', '.' and '-'")
        if not all(value.strip("*") for value in values):
            raise ValueError("a key is empty, or was hidden by --print-config")
        if len(set(values)) < len(values):
            raise ValueError("two names have the same key")
        return keys

    @field_validator("cors_origins")
    @classmethod
    def _require_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"\*|https?://[^/\s*]+", origin) for origin in origins):
            raise ValueError("an origin is neither '*' nor like https://example.org")
        return origins

    @field_validator("root_path")
    @classmethod
    def _require_prefix(cls, root_path: str) -> str:
        prefix = root_path.rstrip("/")
        if prefix and not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}", prefix):
            raise ValueError("is not a path like /splinellm")
        return prefix

    @field_validator("trusted_proxies")
    @classmethod
    def _require_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for one in proxies:
            try:
                _ = one == "*" or ip_network(one)
            except ValueError:
                raise ValueError("a proxy is neither an address, a network, nor '*'") from None
        return proxies

    @field_validator("ray_replicas")
    @classmethod
    def _require_bounds(cls, told: str) -> str:
        if bounds_of(told) is None:
            raise ValueError("is not like '2' or '1-4'")
        return told

    @model_validator(mode="after")
    def _require_possible(self) -> Self:
        """Refuse settings that contradict each other: they would fail under load, not at start."""
        at_least = [
            ("max_queue_inputs", "max_client_batch_size"),
            ("max_queue_tokens", "max_input_tokens"),
            ("max_queue_tokens", "max_batch_tokens"),
            ("payload_limit", "max_input_chars"),
        ]
        for larger, smaller in at_least:
            a, b = getattr(self, larger), getattr(self, smaller)
            if b is not None and a < b:
                raise ValueError(f"{larger} ({a}) is less than {smaller} ({b})")
        if self.batch_wait_ms >= 1000 * self.request_timeout_s:
            raise ValueError("batch_wait_ms is not less than request_timeout_s")
        if self.rate_limit_per_minute is not None and not self.api_keys:
            raise ValueError("rate_limit_per_minute needs api_keys: it is a limit for each key")
        if self.ray is not None and self.port == 0:
            raise ValueError("port 0, any, is not possible with ray")
        return self

    @property
    def replicas(self) -> tuple[int, int]:
        """Least and most copies of the service on Ray."""
        bounds = bounds_of(self.ray_replicas)
        assert bounds is not None  # noqa: S101 (it was required)
        return bounds

    @property
    def cascades(self) -> list[tuple[str, ...]]:
        """Steps of each cascade."""
        return [tuple(one.split(":")) for one in self.cascade]

    @property
    def thresholds(self) -> list[tuple[str, str | None, float]]:
        """Classifier, class (None for all) and threshold."""
        found = []
        for one in self.threshold:
            told, _, value = one.rpartition("=")
            name, _, label = told.partition(":")
            found.append((name, label or None, float(value)))
        return found

    @property
    def references(self) -> dict[str, Path]:
        """File of the reference of each classifier that is watched."""
        pairs = (one.partition("=") for one in self.drift_reference)
        return {name: Path(path) for name, _, path in pairs}

    @property
    def attributes(self) -> list[tuple[str, str, str | None]]:
        """Perspective's attributes with the classifier and class that score them."""
        return [_mapping(one) for one in self.perspective_attributes]

    @property
    def categories(self) -> list[tuple[str, str, str | None]]:
        """OpenAI's categories with the classifier and class that score them."""
        return [_mapping(one) for one in self.moderation_categories]

    @property
    def max_moderation_chars(self) -> int:
        """Of a text to be moderated: what OpenAI's service takes, unless the setting is made."""
        is_set = "max_input_chars" in self.model_fields_set
        return self.max_input_chars if is_set else max(self.max_input_chars, MODERATION_CHARS)

    @property
    def max_openai_inputs(self) -> int:
        """Inputs of a request in OpenAI's formats; computed in several parts."""
        return max(self.max_client_batch_size, OPENAI_INPUTS)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, environment, file."""
        del dotenv_settings, file_secret_settings
        path = init_settings().get("config") or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
        if not path:
            return init_settings, env_settings
        return init_settings, env_settings, file_source(settings_cls, Path(path))

    def describe(self) -> str:
        """All settings as JSON that ``--config`` reads, secrets hidden."""
        return self.model_dump_json(indent=2, exclude={"config"})


def _mapping(told: str) -> tuple[str, str, str | None]:
    category, _, source = told.partition("=")
    name, _, label = source.partition(":")
    return category, name, label or None


def load_settings(**options: Any) -> Settings:
    """Read the settings from options, environment and file.

    Parameters
    ----------
    **options
        Fields of :class:`Settings`; they win over the environment, which wins over the file.

    Raises
    ------
    ConfigurationError
        Names the first setting that is impossible; never a secret.
    """
    try:
        return Settings(**options)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        name = str(first["loc"][0]) if first["loc"] else None
        raise ConfigurationError(f"{name}: {reason}" if name else reason) from None
