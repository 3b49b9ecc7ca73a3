"""The commands ``splinellm classifiers [NAME]`` and ``splinellm classifiers set-threshold``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from splinellm.cli import options
from splinellm.cli.figures import figures_table
from splinellm.cli.labelled_data import Positive, one_target, read
from splinellm.cli.messages import say, say_written
from splinellm.cli.progress import AllRead, progress_bar
from splinellm.cli.tables import table, wrapped
from splinellm.errors import InputFileError, LabelError

if TYPE_CHECKING:
    from splinellm.learn.card import Card
    from splinellm.learn.classifier import Classifier
    from splinellm.learn.dataset import Dataset

_SHOW = "show"


class _NamesOrCommands(TyperGroup):
    """What is no command is the name of a classifier."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or the one that shows what is named."""
        if args and args[0] not in self.commands:
            args = [_SHOW, *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    rich_markup_mode=None, cls=_NamesOrCommands, subcommand_metavar="[NAME | set-threshold ...]"
)


@app.callback(invoke_without_command=True)
def classifiers(context: typer.Context) -> None:
    """List the boxed classifiers; with NAME, or a folder, show its figures and weaknesses."""
    if context.invoked_subcommand is not None:
        return
    from splinellm.learn.artifact import boxed_names, load_card

    cards = [load_card(name) for name in boxed_names()]
    rows = [
        (
            card.name,
            card.kind,
            ", ".join(card.classes),
            card.provenance.model,
            _areas(card),
            f"{len(card.weaknesses)} known",
        )
        for card in cards
    ]
    typer.echo(table(("NAME", "KIND", "CLASSES", "MODEL", "ROC-AUC", "WEAKNESSES"), rows))


@app.command(_SHOW, hidden=True)
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Boxed classifier, or folder.")],
) -> None:
    """Show a classifier's figures and weaknesses."""
    from splinellm.learn.artifact import load_card
    from splinellm.learn.thresholds import OWN_DATA
    from splinellm.report.cells import no_threshold

    card = load_card(name)
    told = f"{card.name}: {card.kind}, {', '.join(card.classes)}; reads {card.provenance.model}"
    typer.echo(wrapped(told, indent="  "))
    for label, value in card.deciding_thresholds.items():
        chosen = card.settings.get("threshold_for", "the default")
        typer.echo(wrapped(f"threshold of {label}: {value:.4f} ({chosen})", indent="  "))
    if not card.deciding_thresholds:
        typer.echo(wrapped(no_threshold(card.metrics.get("held out", {})), indent="  "))
    for metric, title in ((OWN_DATA, "chosen on your rows"), ("held out", "held out")):
        if metric in card.metrics:
            typer.echo(figures_table(card.metrics[metric], card.thresholds, title=title))
    if card.weaknesses:
        typer.echo("known weaknesses:")
    for weakness in card.weaknesses:
        typer.echo(wrapped(f"- {weakness}", indent="  "))


@app.command("set-threshold")
def set_threshold(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Boxed classifier, or folder.")],
    data: Annotated[
        str,
        typer.Option(
            envvar="SPLINELLM_DATA",
            metavar="FILE",
            help="Labelled texts, or what extract made of them.",
        ),
    ],
    label: Annotated[
        str | None,
        typer.Option(
            envvar="SPLINELLM_LABEL",
            metavar="COL[,COL]",
            help="Column of the classes, or of 0 and 1: 'label' by default; of several labels a "
            "column each, called like them.",
        ),
    ] = None,
    positive: Positive = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            envvar="SPLINELLM_CLASSIFIERS_SET_THRESHOLD_OUTPUT",
            metavar="DIR",
            help="New folder; NAME-fpr-0.01 or so by default.",
        ),
    ] = None,
    target_fpr: Annotated[
        float | None,
        typer.Option(
            envvar="SPLINELLM_TARGET_FPR",
            min=0.0,
            max=1.0,
            metavar="F",
            help="Flag at most this share of the others.",
        ),
    ] = None,
    target_precision: Annotated[
        float | None,
        typer.Option(
            envvar="SPLINELLM_TARGET_PRECISION",
            min=0.0,
            max=1.0,
            metavar="P",
            help="Reach this precision.",
        ),
    ] = None,
    target_recall: Annotated[
        float | None,
        typer.Option(
            envvar="SPLINELLM_TARGET_RECALL",
            min=0.0,
            max=1.0,
            metavar="R",
            help="Reach this recall.",
        ),
    ] = None,
    text_column: options.TextColumn = "text",
    on_error: options.OnErrorOption = options.OnError.FAIL,
    force: Annotated[
        bool,
        typer.Option(
            "--force", envvar="SPLINELLM_FORCE", help="Replace a classifier that is in the folder."
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose a classifier's thresholds on labelled rows of your own, and write a new folder.

    The card gets the figures on these rows, with bootstrap intervals. Rows that are too few, or
    that the classifier was trained on, are warned about.
    """
    from splinellm.learn.artifact import CARD_FILE, load_card, load_classifier, save_classifier
    from splinellm.learn.thresholds import OWN_DATA, choose, labels_for, trained_on

    target = one_target(target_precision, target_recall, target_fpr)()
    if target is None:
        raise typer.BadParameter("give --target-fpr, --target-precision or --target-recall")
    card = load_card(name)
    folder = output or Path(f"{card.name}-{target.measure}-{target.value:g}")
    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"'{folder}' is a file; a classifier is a folder")
    if (folder / CARD_FILE).exists() and not force:
        raise typer.BadParameter(f"there is a classifier in '{folder}'; --force replaces it")
    rows = read([data], text_column, on_error)
    columns = [_column(rows, one) for one in _columns(card, label)]
    given = list(zip(*columns, strict=True)) if card.kind == "multilabel" else columns[0]
    given = [list(one) for one in given] if columns[1:] else given
    try:
        labels = labels_for(card, given, len(columns[0]), positive=positive)
    except LabelError as error:
        if card.kind != "binary" or positive is not None:
            raise
        told = f"--positive names the label of yours that stands for '{card.classes[1]}'"
        hint = f"{error.hint}; {told}" if error.hint else told
        raise LabelError(error.message, hint=hint) from None
    classifier = load_classifier(name)  # its model reads only what can be used
    chosen, notes = choose(
        classifier,
        _predictions(classifier, rows, quiet=quiet),
        labels,
        target,
        data=rows.describe(),
        was_trained_on=trained_on(card, rows.texts or [], rows.sha256),
    )
    saved = save_classifier(chosen, folder).card
    typer.echo(figures_table(saved.metrics[OWN_DATA], saved.thresholds, title=OWN_DATA))
    for note in notes:
        say(f"warning: {note}")
    if not quiet:
        say_written(folder)


def _columns(card: Card, label: str | None) -> list[str]:
    if label is not None:
        return [name.strip() for name in label.split(",") if name.strip()]
    return list(card.classes) if card.kind == "multilabel" else ["label"]


def _column(rows: Dataset, name: str) -> list[Any]:
    """A column of labels; where it is missing, say which option names another."""
    try:
        return rows.column(name)
    except InputFileError as error:
        raise InputFileError(error.message, hint="--label names the column of labels") from None


def _predictions(classifier: Classifier, rows: Dataset, *, quiet: bool) -> Any:
    if rows.table is not None:
        return classifier.predict_features(rows.table)
    texts = rows.texts or []
    with progress_bar(AllRead(len(texts)), quiet=quiet) as listener:
        return classifier.predict_texts(texts, on_progress=listener)


def _areas(card: Card) -> str:
    """Held-out ROC-AUC of a class, or the lowest and highest of several."""
    figures = card.metrics.get("held out", {}).values()
    areas = sorted(row["roc_auc"] for row in figures if isinstance(row, dict))
    if not areas:
        return ""
    ends = [f"{area:.1%}" for area in dict.fromkeys((areas[0], areas[-1]))]
    return " to ".join(ends)
