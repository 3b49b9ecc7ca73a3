"""The command ``splinellm serve``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from splinellm.cli import options
from splinellm.cli.messages import say
from splinellm.errors import ConfigurationError


class ImageParts(StrEnum):
    """What becomes of images in moderations."""

    REPORT = "report"
    ERROR = "error"


class PerspectiveUnknown(StrEnum):
    """What becomes of attributes and languages that nothing scores."""

    OMIT = "omit"
    ERROR = "error"


class TokenIds(StrEnum):
    """Whether embeddings are made of token ids."""

    ACCEPT = "accept"
    REFUSE = "refuse"


class Overflow(StrEnum):
    """What happens to a text that is too long to be judged at once."""

    ERROR = "error"
    TRUNCATE = "truncate"
    WINDOW = "window"


class LogLevel(StrEnum):
    """From which level on events are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _option(name: str, text: str, metavar: str | None = None) -> Any:
    """An option with its environment twin; what it defaults to is :mod:`service.settings`' affair.

    Limits are checked there, too, since they also come from the environment and from files.
    """
    twin = "SPLINELLM_" + name.upper().replace("-", "_")
    return typer.Option(f"--{name}", envvar=twin, metavar=metavar, help=text, show_default=False)


def serve(
    host: Annotated[
        str | None, _option("host", "Address to listen on. 127.0.0.1 by default.", "ADDRESS")
    ] = None,
    port: Annotated[int | None, _option("port", "8000 by default; 0 for any.", "PORT")] = None,
    model: Annotated[
        str | None,
        _option("model", "Models, the default first; names as in extract.", "NAME[,NAME...]"),
    ] = None,
    classifiers: Annotated[
        str | None,
        _option(
            "classifiers",
            "Boxed names or folders; models that they need are loaded, too. By default the boxed "
            "ones.",
            "NAME[,NAME...]",
        ),
    ] = None,
    cascade: Annotated[
        str | None,
        _option(
            "cascade",
            "Texts that classifier A is uncertain of (see train --abstain) are read by B in the "
            "same request; the last step may be 'person', who decides what is left.",
            "A:B[:person][,...]",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        _option("threshold", "Thresholds in place of the cards'.", "NAME=0.8|NAME:CLASS=0.8[,...]"),
    ] = None,
    drift_reference: Annotated[
        str | None,
        _option(
            "drift-reference",
            "References that watch made: what a classifier judges is compared with its own.",
            "NAME=FILE[,...]",
        ),
    ] = None,
    drift_window: Annotated[
        int | None,
        _option("drift-window", "Inputs that are compared. 500 by default.", "N"),
    ] = None,
    perspective_attributes: Annotated[
        str | None,
        _option(
            "perspective-attributes",
            "Whose class scores an attribute of Perspective's format.",
            "TOXICITY=NAME:CLASS[,...]",
        ),
    ] = None,
    moderation_categories: Annotated[
        str | None,
        _option(
            "moderation-categories",
            "Whose class scores a category of OpenAI's moderations.",
            "hate=NAME:CLASS[,...]",
        ),
    ] = None,
    dtype: Annotated[options.Dtype | None, _option("dtype", "As in extract.")] = None,
    device: Annotated[
        str | None, _option("device", "As in extract.", "auto|cpu|cuda|cuda:N|mps")
    ] = None,
    device_map: Annotated[str | None, _option("device-map", "As in extract.", "MAP")] = None,
    allow_special_tokens: Annotated[
        bool | None, _option("allow-special-tokens", "As in extract.")
    ] = None,
    chat_template: Annotated[
        Path | None,
        _option("chat-template", "Jinja template that renders conversations.", "FILE"),
    ] = None,
    max_batch_tokens: Annotated[
        int | None,
        _option(
            "max-batch-tokens",
            "Of a batch, padding included. Chosen for the device by default.",
            "N",
        ),
    ] = None,
    prefix_cache_bytes: Annotated[
        int | None,
        _option(
            "prefix-cache-bytes",
            "For what texts begin with, of each model; 0 for none. 268435456 by default.",
            "BYTES",
        ),
    ] = None,
    batch_wait_ms: Annotated[
        float | None,
        _option("batch-wait-ms", "How long a prompt waits for company. 5 by default.", "MS"),
    ] = None,
    max_queue_inputs: Annotated[
        int | None,
        _option("max-queue-inputs", "Prompts that may wait; then 429. 1024 by default.", "N"),
    ] = None,
    max_queue_tokens: Annotated[
        int | None, _option("max-queue-tokens", "Their tokens. 524288 by default.", "N")
    ] = None,
    max_client_batch_size: Annotated[
        int | None, _option("max-client-batch-size", "Inputs of a request. 256 by default.", "N")
    ] = None,
    max_input_tokens: Annotated[
        int | None, _option("max-input-tokens", "Of one input. 1024 by default.", "N")
    ] = None,
    max_input_chars: Annotated[
        int | None, _option("max-input-chars", "Of one input. 65536 by default.", "N")
    ] = None,
    payload_limit: Annotated[
        int | None, _option("payload-limit", "Bytes of a request. 2000000 by default.", "BYTES")
    ] = None,
    max_header_bytes: Annotated[
        int | None,
        _option("max-header-bytes", "Of a request's line and headers. 32768 by default.", "BYTES"),
    ] = None,
    max_connections: Annotated[
        int | None, _option("max-connections", "Open at once; then 503. 512 by default.", "N")
    ] = None,
    overflow: Annotated[
        Overflow | None,
        _option(
            "overflow",
            "A text beyond --max-input-tokens that is to be judged: refuse it, cut it, or read it "
            "in windows. error by default.",
        ),
    ] = None,
    image_parts: Annotated[
        ImageParts | None,
        _option(
            "image-parts",
            "In moderations: name them beside the text's verdict, or refuse them. report by "
            "default.",
        ),
    ] = None,
    perspective_unknown: Annotated[
        PerspectiveUnknown | None,
        _option(
            "perspective-unknown",
            "Attributes and languages that are not scored: leave them out, or refuse them. omit by "
            "default.",
        ),
    ] = None,
    token_ids: Annotated[
        TokenIds | None,
        _option(
            "token-ids",
            "As input of embeddings: read or refuse them, since clients send ids of another "
            "tokenizer. accept by default.",
        ),
    ] = None,
    header_timeout_s: Annotated[
        float | None,
        _option("header-timeout-s", "For line and headers to arrive. 10 by default.", "S"),
    ] = None,
    body_timeout_s: Annotated[
        float | None,
        _option("body-timeout-s", "For a body to arrive; then 408. 30 by default.", "S"),
    ] = None,
    stream_timeout_s: Annotated[
        float | None,
        _option("stream-timeout-s", "A text may grow for so long. 600 by default.", "S"),
    ] = None,
    request_timeout_s: Annotated[
        float | None,
        _option("request-timeout-s", "An answer that takes longer is 504. 60 by default.", "S"),
    ] = None,
    drain_timeout_s: Annotated[
        float | None,
        _option("drain-timeout-s", "For accepted requests after SIGTERM. 30 by default.", "S"),
    ] = None,
    rate_limit_per_minute: Annotated[
        int | None,
        _option("rate-limit-per-minute", "Requests of each key. Unlimited by default.", "N"),
    ] = None,
    cors_origins: Annotated[
        str | None,
        _option("cors-origins", "Whose pages may ask. None by default.", "ORIGIN[,ORIGIN...]"),
    ] = None,
    public_pages: Annotated[
        bool | None,
        typer.Option(
            "--public-pages/--no-public-pages",
            envvar="SPLINELLM_PUBLIC_PAGES",
            show_default=False,
            help="Whether the page, /docs and /openapi.json are sent without a key. True "
            "by default.",
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        _option("root-path", "Path that a proxy serves this below, such as /splinellm.", "PATH"),
    ] = None,
    trusted_proxies: Annotated[
        str | None,
        _option(
            "trusted-proxies",
            "Addresses or networks whose X-Forwarded-For says who the client is. None by default.",
            "ADDRESS[,ADDRESS...]",
        ),
    ] = None,
    log_level: Annotated[LogLevel | None, _option("log-level", "info by default.")] = None,
    cpu_threads: Annotated[
        int | None, _option("cpu-threads", "For tokens and JSON. 2 by default.", "N")
    ] = None,
    threads: Annotated[
        int | None,
        _option("threads", "Of the forward pass, as in extract. All cores by default.", "N"),
    ] = None,
    ray: Annotated[
        str | None,
        _option(
            "ray",
            "Serve with replicas on Ray: on this machine, on the cluster it belongs to, or on one "
            "at HOST:PORT. Alone it means local.",
            "local|auto|ADDRESS",
        ),
    ] = None,
    ray_replicas: Annotated[
        str | None,
        _option(
            "ray-replicas",
            "Each has the models in its memory; MIN-MAX as requests come. 1 by default.",
            "N|MIN-MAX",
        ),
    ] = None,
    ray_cpus: Annotated[
        float | None,
        _option(
            "ray-cpus",
            "Of a replica, as Ray counts them; a forward pass has as many threads, at least one. "
            "0.1 by default.",
            "F",
        ),
    ] = None,
    ray_gpus: Annotated[
        float | None, _option("ray-gpus", "Of a replica. 0 by default.", "F")
    ] = None,
    ray_target_requests: Annotated[
        float | None,
        _option(
            "ray-target-requests",
            "Requests at once of a replica; more start another, up to MAX. 8 by default.",
            "N",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        _option("config", "Settings from a .toml, .json or .env file; options win.", "FILE"),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            envvar="SPLINELLM_PRINT_CONFIG",
            help="Print the settings as JSON and end; what serving would refuse before it loads "
            "a model is refused.",
        ),
    ] = False,
) -> None:
    """Serve features and verdicts over HTTP until SIGTERM or Ctrl-C.

    API keys come from SPLINELLM_API_KEYS, as name:key,name:key, or from FILE, never from an
    option, which every user of the machine could read. Without keys everybody may ask.

    Events are logged as JSON lines on standard error; texts are not.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    del given["print_config"]
    try:
        from service.settings import load_settings
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the service needs {error.name}", hint="pip install 'splinellm[service]'"
        ) from error
    try:
        settings = load_settings(**given)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    if print_config:
        _warn_of(settings)
        typer.echo(settings.describe())
        return
    if not settings.api_keys and settings.host not in ("127.0.0.1", "::1", "localhost"):
        say("warning: no SPLINELLM_API_KEYS: whoever reaches this address may ask")
    raise typer.Exit(_serve(settings))


def _warn_of(settings: Any) -> None:
    """Refuse what serving would refuse before it loads a model, and warn of what it warns of.

    Raises
    ------
    SplineLLMError
        As serving would.
    """
    from service.chosen import choose, require_models

    chosen = choose(settings)
    for warning in [*chosen.warnings, *require_models(settings, chosen)]:
        say(f"warning: {warning}")
    if settings.ray is not None:
        from service.ray_app import import_serve

        import_serve()


def _serve(settings: Any) -> int:
    if settings.ray is not None:
        from splinellm.ray.cluster import import_ray

        import_ray()  # known to be missing before the models' libraries are imported
        from service.ray_server import serve_on_ray

        return serve_on_ray(settings)
    from service.server import serve as serve_until_signal

    return serve_until_signal(settings)
