"""The command ``splinellm evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splinellm.cli import fairness, labelled_data, options
from splinellm.cli.messages import say
from splinellm.cli.streaming import keep_inputs
from splinellm.cli.tables import wrapped
from splinellm.cli.train import Estimator

if TYPE_CHECKING:
    from splinellm.learn.dataset import Dataset
    from splinellm.learn.evaluation import Score
    from splinellm.learn.labels import Labels
    from splinellm.learn.splits import Split


def _check_report(report: Path | None) -> Path | None:
    # Known from the start, so not to be found out after an hour of work.
    if report is not None and report.suffix not in (".html", ".csv", ".json"):
        raise typer.BadParameter(f"a report is .html, .csv or .json, not '{report.name}'")
    return report


def evaluate(
    context: typer.Context,
    data: labelled_data.Data,
    label: labelled_data.Label,
    positive: labelled_data.Positive = None,
    group: labelled_data.Group = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="SPLINELLM_LEAVE_OUT",
            help="Instead of random folds, leave out the rows of each value of this column in "
            "turn: what a classifier does on a source it was not trained on.",
        ),
    ] = None,
    estimator: Annotated[
        Estimator, typer.Option(envvar="SPLINELLM_ESTIMATOR", help="What learns the features.")
    ] = Estimator.LOGISTIC,
    folds: Annotated[int, typer.Option(min=2, envvar="SPLINELLM_FOLDS", help="Of a split.")] = 5,
    repeats: Annotated[
        int, typer.Option(min=1, envvar="SPLINELLM_REPEATS", help="Of the split, reshuffled.")
    ] = 1,
    ablations: Annotated[
        bool,
        typer.Option(
            envvar="SPLINELLM_ABLATIONS",
            help="Also measure each layer, the first layers, and each feature.",
        ),
    ] = True,
    hidden: Annotated[
        bool,
        typer.Option(
            envvar="SPLINELLM_HIDDEN",
            help="Also measure the mean hidden state, which takes another pass of the model.",
        ),
    ] = True,
    labelled_shares: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            envvar="SPLINELLM_LABELLED_SHARES",
            help="Self-training with these shares of the labels, such as 0.5,0.1,0.01.",
        ),
    ] = "",
    subgroups: fairness.Subgroups = None,
    identity_terms: fairness.IdentityTerms = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="SPLINELLM_REPORT",
            callback=_check_report,
            help="Also write .html (with figures), .csv or .json.",
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
    """Measure how well features separate classes, beside baselines on the same splits.

    Prints ROC-AUC (in percent, one class against the rest, mean and standard deviation over
    splits) of all features, of length alone, of TF-IDF and of the mean hidden state with logistic
    regression, then by layer, by first layers and by feature; and of all features the AUCs that
    tell of bias towards groups of people, of each group that has rows enough.
    """
    from splinellm.learn.evaluation import evaluate as measure
    from splinellm.learn.evaluation import length_warning
    from splinellm.learn.fairness import out_of_fold_subgroups
    from splinellm.learn.out_of_fold import OutOfFold

    if leave_out is not None and group is not None:
        raise typer.BadParameter("--leave-out and --group exclude each other")
    shares = _shares(labelled_shares)
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
    keep_inputs(data, report)
    rows = labelled_data.read(
        data, text_column, on_error, columns, delimiter, encoding, messages_column, count
    )
    labels = rows.labels(labelled_data.names(label), positive=positive)
    splits = _splits(rows, labels, group, leave_out, folds, repeats, seed)
    members = fairness.members_of(rows, labels, subgroups, identity_terms)
    kept = OutOfFold(len(labels))
    if hidden and rows.texts is not None:
        table, states = labelled_data.features_and_hidden_states(
            rows, settings, default_features="paper", quiet=quiet
        )
    else:
        table = labelled_data.features_of(rows, settings, default_features="paper", quiet=quiet)
        states = None
    scores: list[Score] = []
    for name, part in splits.items():
        if name:
            typer.echo(wrapped(f"left out: {name} ({len(part[0][1]):,} rows)"))
        n_before = len(scores)
        for score in measure(
            table,
            labels,
            part,
            texts=rows.texts,
            hidden=states,
            estimator=estimator.value,
            ablations=ablations,
            labelled_shares=shares,
            kept=kept,
        ):
            scores.append(score)
            typer.echo(wrapped(_line(score)))
        if name and len(scores) == n_before:
            say(f"warning: '{name}' has no figure: it, or all the rest, are rows of one class")
    found = out_of_fold_subgroups(kept, labels, members)
    if found:
        typer.echo(fairness.subgroups_table(found))
    warning = length_warning(scores)
    if warning:
        say(f"warning: {warning}")
    if report is None:
        return
    from splinellm.report import evaluation_page, report_records, write_records, write_report

    if report.suffix != ".html":
        write_records(report_records(scores, found), report)
        return
    made_of = labelled_data.made_of(
        context, rows, table.provenance, label=label, splits=sum(map(len, splits.values()))
    )
    page = evaluation_page(
        scores, title=f"{rows.name}: {label}", made_of=made_of, labels=labels, kept=kept,
        subgroups=found, warning=warning,
    )  # fmt: skip
    write_report(page, report)


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise typer.BadParameter(f"cannot read shares '{text[:80]}'") from error


def _splits(
    rows: Dataset,
    labels: Labels,
    group: str | None,
    leave_out: str | None,
    folds: int,
    repeats: int,
    seed: int,
) -> dict[str, list[Split]]:
    from splinellm.learn.splits import leave_one_out, stratified_splits

    if leave_out is not None:
        return {name: [split] for name, split in leave_one_out(rows.column(leave_out)).items()}
    groups = labelled_data.groups_of(rows, group)
    return {"": stratified_splits(labels, groups, n_splits=folds, n_repeats=repeats, seed=seed)}


def _line(score: Score) -> str:
    spread = f" ± {100 * score.std:.2f}" if len(score.values) > 1 else ""
    return f"{score.section:<15} {score.item:<22} {score.label:<18} {100 * score.mean:6.2f}{spread}"
