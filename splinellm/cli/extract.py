"""The command ``splinellm extract``."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splinellm.cli import loading, on_ray, options
from splinellm.cli.on_ray import ROW_NUMBERS, Cluster, carry_out, wants_row_numbers
from splinellm.cli.streaming import (
    InputArguments,
    check_feature_output,
    csv_types_of,
    input_of,
    max_wait_of,
)
from splinellm.errors import ConfigurationError
from splinellm.io.formats import output_format, output_suffixes, require_layout, require_precision

if TYPE_CHECKING:
    from splinellm.io.pipeline import Annotator
    from splinellm.io.rows import Source
    from splinellm.io.shares import Share


class Granularity(StrEnum):
    """What a row of the output stands for."""

    PROMPT = "prompt"
    PREFIX = "prefix"
    TOKEN = "token"  # noqa: S105 (no secret)


class Layout(StrEnum):
    """How features are laid out; see :mod:`splinellm.layout`."""

    COLUMNS = "columns"
    LIST = "list"
    TENSOR = "tensor"


class Precision(StrEnum):
    """What features are rounded to; see :mod:`splinellm.precision`."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"


class DimensionRule(StrEnum):
    """When an attention weight counts towards the intrinsic dimension."""

    RELATIVE = "relative"
    ABSOLUTE = "absolute"


def _check_dimension_threshold(threshold: float) -> float:
    if not 0.0 < threshold < 1.0:
        raise typer.BadParameter(f"{threshold} is not between 0 and 1")
    return threshold


def extract(
    inputs: InputArguments,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            envvar="SPLINELLM_OUTPUT",
            metavar="OUTPUT",
            callback=check_feature_output,
            help=f"{output_suffixes()}, FOLDER/ for a Parquet file in it, or - for "
            "JSON lines on standard output.",
        ),
    ],
    model: options.Model = "smollm2-135m",
    layers: options.Layers = None,
    features: options.Features = "paper",
    granularity: Annotated[
        Granularity,
        typer.Option(
            "--granularity",
            envvar="SPLINELLM_GRANULARITY",
            help="What a row stands for: a prompt; a token, with the features of the prompt up to "
            "it; or a token, with its own sign fraction, hyperplane distance and intrinsic "
            "dimension.",
        ),
    ] = Granularity.PROMPT,
    layout: Annotated[
        Layout,
        typer.Option(
            "--layout",
            envvar="SPLINELLM_LAYOUT",
            help="A column for each layer and feature, such as layer_07.sign_mean; one of lists "
            "for each feature, by layer, in .parquet, .arrow and .jsonl; or, in .npz, one array by "
            "row, layer and feature.",
        ),
    ] = Layout.COLUMNS,
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            envvar="SPLINELLM_PRECISION",
            help="What features are rounded to in .parquet, .arrow and .npz: float16 for files of "
            "about half the size, uint8 to keep sign blocks in 255ths and the others as float16.",
        ),
    ] = Precision.FLOAT32,
    text_column: options.TextColumn = "text",
    messages_column: options.MessagesColumn = None,
    count: options.CountOption = options.Count.ALL,
    chat_template: options.ChatTemplate = None,
    input_format: options.InputFormatOption = None,
    columns: options.Columns = None,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    csv_types: options.CsvTypesOption = options.CsvTypes.AUTO,
    on_error: options.OnErrorOption = options.OnError.FAIL,
    max_tokens: options.MaxTokens = None,
    batch_tokens: options.BatchTokens = None,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dimension_rule: Annotated[
        DimensionRule,
        typer.Option(
            "--dimension-rule",
            envvar="SPLINELLM_DIMENSION_RULE",
            help="Intrinsic dimension: count attention above the threshold times the row's "
            "maximum, or above the threshold itself.",
        ),
    ] = DimensionRule.RELATIVE,
    dimension_threshold: Annotated[
        float,
        typer.Option(
            "--dimension-threshold",
            envvar="SPLINELLM_DIMENSION_THRESHOLD",
            metavar="X",
            callback=_check_dimension_threshold,
            help="Between 0 and 1.",
        ),
    ] = 0.1,
    allow_special_tokens: Annotated[
        bool,
        typer.Option(
            "--allow-special-tokens",
            envvar="SPLINELLM_ALLOW_SPECIAL_TOKENS",
            help="Read special-token strings in a text, such as <|im_start|>, as control tokens.",
        ),
    ] = False,
    threads: options.Threads = None,
    row_numbers: on_ray.RowNumbersOption = None,
    resume: options.Resume = False,
    shard: options.Shard = None,
    ray: on_ray.Ray = None,
    ray_workers: on_ray.RayWorkers = None,
    ray_cpus: on_ray.RayCpus = 1.0,
    ray_gpus: on_ray.RayGpus = 0.0,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute the features of every row of INPUT.

    Every input column is kept, or those of --columns, in input order; n_tokens, truncated and the
    features are added.

    With --granularity prefix or token, every row becomes one per token: row (counted from 0 over
    all rows read), position, token, begin and end (in characters) come first, and the text, which
    the tokens spell, is left out. Tokens of a conversation have role and message (from 0), too.

    Until the run succeeds, everything is in the folder OUTPUT.partial; --resume goes on with what
    a run that did not end has computed there. Bad rows (text missing, empty or not text, a line
    that cannot be parsed) stop the run; with --on-error skip they go with the reason to
    OUTPUT.rejects.jsonl, or to standard error if OUTPUT is standard output.
    """
    settings = {
        "model": model,
        "layers": layers,
        "features": features,
        "max_tokens": max_tokens,
        "batch_tokens": batch_tokens,
        "dtype": dtype.value,
        "device": device,
        "device_map": device_map,
        "dimension_rule": dimension_rule.value,
        "dimension_threshold": dimension_threshold,
        "allow_special_tokens": allow_special_tokens,
    }
    given = input_of(inputs, input_format)
    cluster = Cluster.of(ray, ray_workers, ray_cpus, ray_gpus, threads)
    reading: dict[str, Any] = {
        "text_column": text_column,
        "messages_column": messages_column,
        "input_format": input_format,
        "delimiter": delimiter,
        "encoding": encoding,
        "csv_types": csv_types_of(csv_types, given, output).value,
    }
    holds_messages = messages_column is not None
    if holds_messages:
        settings |= {"count": count.value, "chat_template": chat_template}
    column = text_column if messages_column is None else messages_column
    options.require_messages(count, messages_column)
    from splinellm.io.features import FeatureAnnotator
    from splinellm.io.readers import open_source  # Arrow is slow to import, --help is not
    from splinellm.io.row_numbers import RowNumbers
    from splinellm.io.token_rows import TextlessSource, is_token_column
    from splinellm.layout import is_own_column, list_columns
    from splinellm.token_index import ROW

    try:
        require_layout(output_format(output), layout.value)
        require_precision(output_format(output), precision.value)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    by_token = granularity is not Granularity.PROMPT
    is_numbered = wants_row_numbers(row_numbers, cluster) and not by_token  # tokens always are
    added = is_token_column(column, messages=holds_messages) if by_token else is_own_column
    own = [*list_columns(features, granularity.value)] if layout is Layout.LIST else []
    own += [ROW] if is_numbered else []
    open_share = partial(
        open_source,
        given,
        text_column=column,
        format=input_format,
        is_reserved=lambda name: name in own or added(name),
        columns=options.column_names(columns),
        delimiter=delimiter,
        encoding=encoding,
        holds_messages=holds_messages,
        csv_types=reading["csv_types"],
        max_wait_s=max_wait_of(output),
    )

    def rows(share: Share | None) -> Source[Any]:
        source = open_share(share=share)
        return TextlessSource(source, column) if by_token else source

    def load() -> Annotator[Any]:
        annotator = FeatureAnnotator(
            loading.load_extractor(**settings),
            granularity.value,
            holds_messages=holds_messages,
            layout=layout.value,
            precision=precision.value,
        )
        return RowNumbers(annotator) if is_numbered else annotator

    carry_out(
        rows,
        load,
        given,
        output,
        shard=shard,
        cluster=cluster,
        on_error=on_error,
        quiet=quiet,
        resume=resume,
        force=force,
        kept=columns,
        asked={
            **settings,
            **reading,
            "granularity": granularity.value,
            "layout": layout.value,
            "precision": precision.value,
            **({ROW_NUMBERS: True} if is_numbered else {}),
        },
    )
