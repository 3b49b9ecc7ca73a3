"""The command ``splinellm predict``."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from splinellm.cli import loading, options
from splinellm.cli.streaming import Input, check_prediction_output, stream
from splinellm.io.formats import output_suffixes


def predict(
    classifier: Annotated[
        str,
        typer.Argument(
            metavar="CLASSIFIER", help="Folder that train wrote, or name of a boxed classifier."
        ),
    ],
    input_path: Input,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            envvar="SPLINELLM_OUTPUT",
            metavar="OUTPUT",
            callback=check_prediction_output,
            help=f"{output_suffixes(features=False)}, or - for JSON lines on standard output.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            envvar="SPLINELLM_MODEL",
            metavar="NAME",
            help="Where the classifier's model is, if not where it was when it was trained.",
        ),
    ] = None,
    text_column: options.TextColumn = "text",
    input_format: options.InputFormatOption = None,
    columns: options.Columns = None,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    on_error: options.OnErrorOption = options.OnError.FAIL,
    batch_tokens: options.BatchTokens = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    quiet: options.Quiet = False,
) -> None:
    """Classify every row of INPUT: texts, or what extract made of them.

    Every input column but features is kept, or those of --columns, in input order; n_tokens,
    truncated, predicted and probability.<class> are added, or, where a row can have several labels,
    predicted.<label> and probability.<label>. Texts are read with the model and the settings that
    the classifier was trained with; features that extract wrote need no model.

    Bad rows and runs that fail leave the same files as with extract.
    """
    from splinellm.io.feature_reader import open_features
    from splinellm.io.readers import open_source  # Arrow is slow to import, --help is not
    from splinellm.learn.annotation import FeatureClassification, TextClassification, added_schema
    from splinellm.learn.artifact import load_classifier
    from splinellm.plan import Plan

    trained = load_classifier(classifier)
    is_reserved = frozenset(added_schema(trained.card).names).__contains__
    run = partial(stream, input_path=input_path, output=output, on_error=on_error, quiet=quiet)
    reading: dict[str, Any] = {
        "format": input_format,
        "is_reserved": is_reserved,
        "columns": options.column_names(columns),
        "delimiter": delimiter,
        "encoding": encoding,
    }
    features = open_features(input_path, text_column=text_column, **reading)
    if features is not None:
        provenance = features.provenance
        run(features, load=lambda: FeatureClassification(trained, provenance))
        return
    fitted_on = trained.card.provenance
    settings = {
        **Plan.of(fitted_on).settings(),
        "model": fitted_on.model if model is None else model,
        "dtype": fitted_on.dtype,
        "batch_tokens": batch_tokens,
        "device": device,
        "device_map": device_map,
    }
    run(
        open_source(input_path, text_column=text_column, **reading),
        load=lambda: TextClassification(trained, loading.load_extractor(**settings)),
    )
