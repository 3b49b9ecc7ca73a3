"""The command ``splinellm extract``."""

from __future__ import annotations

from typing import Annotated

import typer

from splinellm.cli import loading, options
from splinellm.cli.streaming import Input, check_feature_output, stream

# --granularity and --resume belong here once the extractor and the sink know them.


def extract(
    input_path: Input,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            envvar="SPLINELLM_OUTPUT",
            metavar="OUTPUT",
            callback=check_feature_output,
            help=".parquet, .npz, .csv or .jsonl (the last two also .gz), or - for JSON lines on "
            "standard output.",
        ),
    ],
    model: options.Model = "smollm2-135m",
    layers: options.Layers = None,
    features: options.Features = "paper",
    text_column: options.TextColumn = "text",
    input_format: options.InputFormatOption = None,
    on_error: options.OnErrorOption = options.OnError.FAIL,
    max_tokens: options.MaxTokens = None,
    batch_tokens: options.BatchTokens = None,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    dimension_rule: options.DimensionRuleOption = options.DimensionRule.RELATIVE,
    dimension_threshold: options.DimensionThreshold = 0.1,
    allow_special_tokens: options.AllowSpecialTokens = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute the features of every row of INPUT.

    Every input column is kept, in input order; n_tokens, truncated and the features are added.

    Until the run succeeds, everything is in OUTPUT.partial. Bad rows (text missing, empty or not
    text, a line that cannot be parsed) stop the run; with --on-error skip they go with the reason
    to OUTPUT.rejects.jsonl, or to standard error if OUTPUT is standard output.
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
    from splinellm.io.features import FeatureAnnotator
    from splinellm.io.readers import open_source  # Arrow is slow to import, --help is not

    kind = None if input_format is None else input_format.value
    stream(
        open_source(input_path, text_column=text_column, format=kind),
        input_path,
        output,
        lambda: FeatureAnnotator(loading.load_extractor(**settings)),
        on_error=on_error,
        quiet=quiet,
    )
