"""The command ``splinellm train``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splinellm.cli import fairness, labelled_data, options
from splinellm.cli.figures import card_tables, length_warning, target_warnings
from splinellm.cli.messages import say, say_written
from splinellm.cli.pictures import check_page
from splinellm.io.formats import FORMATS

if TYPE_CHECKING:
    from splinellm.learn.classifier import Classifier
    from splinellm.table import FeatureTable


_OTHER_SUFFIXES = (
    "gz zip skops pkl pickle joblib onnx pt pth bin safetensors gguf html md toml yaml yml"
)
_FILE_SUFFIXES = frozenset(
    [
        *(suffix for known in FORMATS for suffix in (*known.suffixes, *known.input_suffixes)),
        *(f".{name}" for name in _OTHER_SUFFIXES.split()),
    ]
)
"""Names that end so are files' to everybody."""


def _check_page(report: Path | None) -> Path | None:
    check_page(None if report is None else str(report))
    return report


class Pool(StrEnum):
    """How scores of windows are pooled; see :class:`splinellm.learn.pooling.Pooling`."""

    MEAN = "mean"
    MAX = "max"
    LOG_SUM_EXP = "log-sum-exp"
    AGREEING = "agreeing"


class Estimator(StrEnum):
    """Estimators; see :func:`splinellm.learn.estimators.plain_estimator`."""

    LOGISTIC = "logistic"
    FOREST = "forest"
    BOOSTING = "boosting"


def train(
    context: typer.Context,
    data: labelled_data.Data,
    label: labelled_data.Label,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            envvar="SPLINELLM_TRAIN_OUTPUT",
            help="Folder for the classifier; its name becomes the classifier's.",
        ),
    ],
    positive: labelled_data.Positive = None,
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
    target_fpr: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="F",
            envvar="SPLINELLM_TARGET_FPR",
            help="Choose each class' threshold so that at most this share of the rows without the "
            "class is flagged.",
        ),
    ] = None,
    abstain: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            envvar="SPLINELLM_ABSTAIN",
            help="Call this share of rows around each threshold uncertain; predict --escalate "
            "gives these to another classifier, or to a person.",
        ),
    ] = None,
    pool: Annotated[
        Pool | None,
        typer.Option(
            envvar="SPLINELLM_POOL",
            help="Score windows of tokens and pool the scores, for texts of any length: the mean, "
            "the highest, a smooth highest (log-sum-exp), or the mean of the --agreeing highest.",
        ),
    ] = None,
    window: Annotated[
        int,
        typer.Option(
            min=1,
            envvar="SPLINELLM_WINDOW",
            help="With --pool, tokens of a window.",
        ),
    ] = 16,
    stride: Annotated[
        int,
        typer.Option(
            min=1,
            envvar="SPLINELLM_STRIDE",
            help="With --pool, tokens from one window to the next.",
        ),
    ] = 8,
    sharpness: Annotated[
        float,
        typer.Option(
            min=0.0,
            envvar="SPLINELLM_SHARPNESS",
            help="Of log-sum-exp.",
        ),
    ] = 3.0,
    agreeing: Annotated[
        int,
        typer.Option(
            min=1,
            envvar="SPLINELLM_AGREEING",
            help="Windows that must agree.",
        ),
    ] = 3,
    augment: Annotated[
        bool,
        typer.Option(
            envvar="SPLINELLM_AUGMENT",
            help="With --pool, put half of the training texts among clean ones.",
        ),
    ] = True,
    compose: Annotated[
        bool,
        typer.Option(
            envvar="SPLINELLM_COMPOSE",
            help="With --pool, also learn from short texts inside longer clean ones, each read as "
            "one text. Of two classes the first stands for clean, of several labels having none.",
        ),
    ] = False,
    components: Annotated[
        int,
        typer.Option(
            min=0,
            envvar="SPLINELLM_COMPONENTS",
            help="With --pool or --hybrid, principal components that windows are reduced to; 0 for "
            "none.",
        ),
    ] = 300,
    spans: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="SPLINELLM_TRAIN_SPANS",
            help="With --pool, column of annotated characters: a JSON list of offsets, or of "
            "[begin, end] pairs; empty where nobody annotated.",
        ),
    ] = None,
    hybrid: Annotated[
        bool,
        typer.Option(
            envvar="SPLINELLM_HYBRID",
            help="Add a lexicon of words and letters beside the geometry; the card gives figures "
            "of either alone.",
        ),
    ] = False,
    normalise: Annotated[
        bool,
        typer.Option(
            envvar="SPLINELLM_NORMALISE",
            help="Read texts without what hides words: invisible characters, lookalike letters, "
            "stretched and spaced words. The classifier will do so wherever it is used.",
        ),
    ] = False,
    subgroups: fairness.Subgroups = None,
    identity_terms: fairness.IdentityTerms = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="SPLINELLM_TRAIN_REPORT",
            callback=_check_page,
            help="Also write a page, .html, with figures and a learning curve.",
        ),
    ] = None,
    seed: labelled_data.Seed = 0,
    model: options.Model = "smollm2-135m",
    layers: options.Layers = None,
    features: options.LearntFeatures = None,
    text_column: options.TextColumn = "text",
    messages_column: options.MessagesColumn = None,
    count: options.CountOption = options.Count.ALL,
    chat_template: options.ChatTemplate = None,
    columns: options.Columns = None,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    on_error: options.OnErrorOption = options.OnError.FAIL,
    max_tokens: options.MaxTokens = None,
    batch_tokens: options.BatchTokens = None,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.Device = "auto",
    threads: options.Threads = None,  # noqa: ARG001 (its callback does it)
    quiet: options.Quiet = False,
) -> None:
    """Train a classifier on labelled texts, or on a table that extract made of them.

    One label column with two or more classes, or several columns of 0/1 separated by commas. A
    fifth of the rows is kept aside first, and what the classifier does on them is printed. Near
    duplicates, and rows of one --group, are never on both sides.
    """
    target_of = labelled_data.one_target(target_precision, target_recall, target_fpr)
    is_pooled = pool is not None or hybrid
    if is_pooled and estimator is not Estimator.LOGISTIC:
        raise typer.BadParameter("--pool and --hybrid are for --estimator logistic")
    if spans is not None and pool is None:
        raise typer.BadParameter("--spans needs --pool: windows are what it labels")
    if compose and pool is None:
        raise typer.BadParameter("--compose needs --pool: windows find a short text in a long one")
    _require_folder(output)
    from splinellm.learn.artifact import save_classifier
    from splinellm.learn.composing import COMPOSED
    from splinellm.learn.out_of_fold import OutOfFold
    from splinellm.learn.training import require_thresholds_decide
    from splinellm.learn.training import train as fit
    from splinellm.learn.trials import FEW_ROWS, N_FOLDS
    from splinellm.normalisation import VERSION

    settings = labelled_data.extractor_settings(
        model,
        layers,
        features,
        max_tokens,
        batch_tokens,
        dtype,
        device,
        messages_column,
        count,
        chat_template,
    )
    rows = labelled_data.read(
        data, text_column, on_error, columns, delimiter, encoding, messages_column, count
    )
    if is_pooled:
        labelled_data.require_texts(rows, "--hybrid" if pool is None else "--pool")
    marks = None if spans is None else labelled_data.marks_of(rows, spans, normalise=normalise)
    if normalise:
        rows = rows.normalised()
    labels = rows.labels(labelled_data.names(label), positive=positive)
    require_thresholds_decide(labels, target_of(), abstain)
    kept = OutOfFold(len(labels))
    table: FeatureTable | None = None
    common: dict[str, Any] = {
        "name": output.name,
        "groups": labelled_data.groups_of(rows, group),
        "tuning_groups": None
        if tune_across is None
        else labelled_data.group_numbers(rows, tune_across),
        "target": target_of(),
        "abstain": abstain,
        "data": rows.describe(),
        "normalisation": VERSION if normalise else None,
        "members": fairness.members_of(rows, labels, subgroups, identity_terms),
        "kept": kept,
    }
    classifier: Classifier
    if is_pooled:
        wanted = labelled_data.pooled_settings(
            None if pool is None else pool.value,
            window,
            stride,
            sharpness,
            agreeing,
            hybrid=hybrid,
            augment=augment,
            components=components,
            seed=seed,
        )
        classifier = labelled_data.pooled(
            rows,
            labels,
            settings,
            wanted,
            compose=compose,
            marks=marks,
            common=common,
            quiet=quiet,
        )
    else:
        table = labelled_data.features_of(rows, settings, default_features="blocks", quiet=quiet)
        classifier = fit(table, labels, estimator=estimator.value, seed=seed, **common)
    card = save_classifier(classifier, output).card
    for part in card_tables(card):
        typer.echo(part)
    unreached = card.settings.get("target_not_reached", [])
    for line in target_warnings(common["target"], card.metrics["held out"], unreached):
        say(line)
    warning = length_warning(card)
    if warning is not None and not quiet:
        say(warning)
    if COMPOSED in card.data and not quiet:
        clean = f"of class '{card.classes[0]}'" if card.kind == "binary" else "without a label"
        say(
            f"{card.data[COMPOSED]:,} short texts inside longer ones {clean} were learned from as "
            "well; figures are of texts as they are"
        )
    if len(labels) < FEW_ROWS and not quiet:
        say(
            f"{len(labels):,} rows are few: every figure is over {N_FOLDS} splits, and its "
            "interval says how far it can be trusted"
        )
    if report is not None:
        from splinellm.report import training_page, write_report
        from splinellm.report.training import Learned

        made_of = labelled_data.made_of(context, rows, card.provenance, label=label)
        learned = None if table is None else Learned(table, common["groups"], seed)
        page = training_page(classifier, made_of=made_of, labels=labels, kept=kept, learned=learned)
        write_report(page, report)
    if not quiet:
        say_written(output)


def _require_folder(output: Path) -> None:
    """Refuse what is a file, or is called like one: a classifier is a folder."""
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"'{output}' is a file; a classifier is a folder")
    if not output.is_dir() and output.suffix.lower() in _FILE_SUFFIXES:
        raise typer.BadParameter(
            f"'{output}' is called like a file; a classifier is a folder, such as "
            f"'{output.with_suffix('')}'"
        )
