"""The command ``splinellm train``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from splinellm.cli import labelled_data, options
from splinellm.cli.messages import say


class Estimator(StrEnum):
    """Estimators; see :func:`splinellm.learn.estimators.plain_estimator`."""

    LOGISTIC = "logistic"
    FOREST = "forest"
    BOOSTING = "boosting"


def train(
    data: labelled_data.Data,
    label: labelled_data.Label,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            envvar="SPLINELLM_OUTPUT",
            help="Folder for the classifier; its name becomes the classifier's.",
        ),
    ],
    group: labelled_data.Group = None,
    tune_across: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="SPLINELLM_TUNE_ACROSS",
            help="Tune and calibrate on folds that keep the values of this column whole, for use "
            "on sources that were not trained on.",
        ),
    ] = None,
    estimator: Annotated[
        Estimator,
        typer.Option(
            envvar="SPLINELLM_ESTIMATOR",
            help="Logistic regression (C tuned), random forest, or gradient boosting.",
        ),
    ] = Estimator.LOGISTIC,
    target_precision: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="P",
            envvar="SPLINELLM_TARGET_PRECISION",
            help="Choose each class' threshold for this precision.",
        ),
    ] = None,
    target_recall: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="R",
            envvar="SPLINELLM_TARGET_RECALL",
            help="Choose each class' threshold for this recall.",
        ),
    ] = None,
    normalise: Annotated[
        bool,
        typer.Option(
            envvar="SPLINELLM_NORMALISE",
            help="Read texts without what hides words: invisible characters, lookalike letters, "
            "stretched and spaced words. The classifier will do so wherever it is used.",
        ),
    ] = False,
    seed: labelled_data.Seed = 0,
    model: options.Model = "smollm2-135m",
    layers: options.Layers = None,
    features: options.LearntFeatures = None,
    text_column: options.TextColumn = "text",
    columns: options.Columns = None,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    on_error: options.OnErrorOption = options.OnError.FAIL,
    max_tokens: options.MaxTokens = None,
    batch_tokens: options.BatchTokens = None,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train a classifier on labelled texts, or on a table that extract made of them.

    One label column with two or more classes, or several columns of 0/1 separated by commas. A
    fifth of the rows is kept aside first, and what the classifier does on them is printed. Near
    duplicates, and rows of one --group, are never on both sides.
    """
    if target_precision is not None and target_recall is not None:
        raise typer.BadParameter("choose one of --target-precision and --target-recall")
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"'{output}' is a file; a classifier is a folder")
    from splinellm.learn.artifact import save_classifier
    from splinellm.learn.metrics import Target
    from splinellm.learn.training import train as fit
    from splinellm.normalisation import VERSION

    settings = labelled_data.extractor_settings(
        model, layers, features, max_tokens, batch_tokens, dtype, device
    )
    rows = labelled_data.read(data, text_column, on_error, columns, delimiter, encoding)
    if normalise:
        rows = rows.normalised()
    labels = rows.labels(labelled_data.names(label))
    groups = labelled_data.groups_of(rows, group)
    target = None
    if target_precision is not None:
        target = Target("precision", target_precision)
    elif target_recall is not None:
        target = Target("recall", target_recall)
    classifier = fit(
        labelled_data.features_of(rows, settings, default_features="blocks", quiet=quiet),
        labels,
        name=output.name,
        estimator=estimator.value,
        groups=groups,
        tuning_groups=None
        if tune_across is None
        else labelled_data.group_numbers(rows, tune_across),
        target=target,
        data=rows.describe(),
        normalisation=VERSION if normalise else None,
        seed=seed,
    )
    card = save_classifier(classifier, output).card
    typer.echo(labelled_data.figures_table(card.metrics["held out"], card.thresholds))
    if "target_not_reached" in card.settings:
        say(f"warning: no threshold reaches the target for {card.settings['target_not_reached']}")
    if not quiet:
        say(f"classifier written to {output}")
