"""The command ``splinellm extract``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from splinellm.cli import loading, options
from splinellm.cli.streaming import (
    InputArguments,
    check_feature_output,
    csv_types_of,
    input_of,
    max_wait_of,
    share_of,
    stream,
)
from splinellm.errors import ConfigurationError
from splinellm.io.formats import output_format, output_suffixes, require_layout, require_precision


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
    granularity: options.GranularityOption = options.Granularity.PROMPT,
    layout: options.LayoutOption = options.Layout.COLUMNS,
    precision: options.PrecisionOption = options.Precision.FLOAT32,
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
    dimension_rule: options.DimensionRuleOption = options.DimensionRule.RELATIVE,
    dimension_threshold: options.DimensionThreshold = 0.1,
    allow_special_tokens: options.AllowSpecialTokens = False,
    threads: options.Threads = None,  # noqa: ARG001 (its callback does it)
    resume: options.Resume = False,
    shard: options.Shard = None,
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
    from splinellm.io.token_rows import TextlessSource, is_token_column
    from splinellm.layout import is_own_column, list_columns

    try:
        require_layout(output_format(output), layout.value)
        require_precision(output_format(output), precision.value)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error
    by_token = granularity is not options.Granularity.PROMPT
    share = share_of(shard, output)
    is_added = is_token_column(column, messages=holds_messages) if by_token else is_own_column
    lists = list_columns(features, granularity.value) if layout is options.Layout.LIST else ()
    source = open_source(
        given,
        text_column=column,
        format=input_format,
        is_reserved=lambda name: name in lists or is_added(name),
        columns=options.column_names(columns),
        delimiter=delimiter,
        encoding=encoding,
        share=share,
        holds_messages=holds_messages,
        csv_types=reading["csv_types"],
        max_wait_s=max_wait_of(output),
    )
    stream(
        TextlessSource(source, column) if by_token else source,
        given,
        output,
        lambda: FeatureAnnotator(
            loading.load_extractor(**settings),
            granularity.value,
            holds_messages=holds_messages,
            layout=layout.value,
            precision=precision.value,
        ),
        on_error=on_error,
        quiet=quiet,
        resume=resume,
        share=share,
        force=force,
        asked={
            **settings,
            **reading,
            "granularity": granularity.value,
            "layout": layout.value,
            "precision": precision.value,
        },
    )
