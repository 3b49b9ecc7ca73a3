"""The command ``splinellm predict``."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from splinellm.cli import checks, loading, on_ray, options
from splinellm.cli.messages import say
from splinellm.cli.on_ray import ROW_NUMBERS, Cluster, carry_out, wants_row_numbers
from splinellm.cli.streaming import (
    InputArguments,
    check_prediction_output,
    csv_types_of,
    input_of,
    max_wait_of,
)
from splinellm.errors import ConfigurationError
from splinellm.io.formats import output_suffixes

if TYPE_CHECKING:
    from collections.abc import Callable

    from splinellm.io.pipeline import Annotator
    from splinellm.io.rows import Chunk, Source
    from splinellm.io.shares import Share
    from splinellm.learn.classifier import Classifier

PERSON = "person"
"""See :data:`splinellm.learn.cascade.PERSON`, which is slow to import."""


class Overflow(StrEnum):
    """What happens to long texts; see :data:`splinellm.extraction.windows.Overflow`."""

    WINDOWS = "windows"
    ERROR = "error"
    TRUNCATE = "truncate"


def predict(
    classifier: Annotated[
        str,
        typer.Argument(
            metavar="CLASSIFIER", help="Folder that train wrote, or name of a boxed classifier."
        ),
    ],
    inputs: InputArguments,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            envvar="SPLINELLM_PREDICT_OUTPUT",
            metavar="OUTPUT",
            callback=check_prediction_output,
            help=f"{output_suffixes(features=False)}, FOLDER/ for a Parquet file in it, or - for "
            "JSON lines on standard output.",
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
    escalate: Annotated[
        str | None,
        typer.Option(
            metavar="B",
            envvar="SPLINELLM_ESCALATE",
            help="Let classifier B read the rows that this one is uncertain of (see train "
            "--abstain); 'person' marks them for a person. decided_by says who decided.",
        ),
    ] = None,
    spans: Annotated[
        bool,
        typer.Option(
            "--spans",
            envvar="SPLINELLM_SPANS",
            help="Add where in the text a class is; for classifiers that train --pool made.",
        ),
    ] = False,
    overflow: Annotated[
        Overflow | None,
        typer.Option(
            envvar="SPLINELLM_PREDICT_OVERFLOW",
            help="A text beyond the classifier's token limit: read all of it in overlapping "
            "windows, refuse its row, or cut it. windows by default.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold",
            envvar="SPLINELLM_PREDICT_THRESHOLD",
            metavar="F|CLASS=F[,...]",
            help="Probability from which a class is said to be there, in this run: of all classes, "
            "or by class. That of the classifier's card by default.",
            show_default=False,
        ),
    ] = None,
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
    batch_tokens: options.BatchTokens = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
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
    """Classify every row of INPUT: texts, or what extract made of them.

    Every input column but features is kept, or those of --columns, in input order; n_tokens,
    truncated, predicted and probability.<class> are added, or, where a row can have several labels,
    predicted.<label> and probability.<label>. Texts are read with the model and the settings that
    the classifier was trained with; features that extract wrote need no model.

    With --spans, a column with begin, end (in code points), label and score of what was found is
    added; with --escalate, the columns are those of the classifier that decided, and decided_by is
    its name. --threshold holds for both. Parquet files tell what thresholds were in force.

    Bad rows and runs that fail leave the same files as with extract.
    """
    from splinellm.io.feature_reader import open_features
    from splinellm.io.readers import open_source  # Arrow is slow to import, --help is not
    from splinellm.io.row_numbers import RowNumbers
    from splinellm.learn.annotation import FeatureClassification, added_schema
    from splinellm.learn.artifact import load_classifier
    from splinellm.learn.cascade import Cascade, require_bands
    from splinellm.learn.predictions import DECIDED_BY
    from splinellm.token_index import ROW

    _require_one_classifier(inputs)
    given = input_of(inputs, input_format)
    cluster = Cluster.of(ray, ray_workers, ray_cpus, ray_gpus, threads)
    is_numbered = wants_row_numbers(row_numbers, cluster)
    thresholds = checks.thresholds_of(threshold)
    trained = _with_thresholds(load_classifier(classifier), thresholds)
    holds_messages = messages_column is not None
    _require_able(trained, spans=spans, count=count.value)
    if escalate is not None:
        require_bands(trained.card)
    options.require_messages(count, messages_column)
    other = None if escalate in (None, PERSON) else load_classifier(str(escalate))
    if other is not None:
        other = _with_thresholds(other, thresholds)
        _require_able(other, spans=spans, count=count.value)
    types = csv_types_of(csv_types, given, output).value
    added = added_schema(trained.card, spans=spans).names
    own = [*added, *([] if escalate is None else [DECIDED_BY]), *([ROW] if is_numbered else [])]
    is_reserved = frozenset(own).__contains__
    asked = {
        "the classifier": _told_of(trained),
        "the second classifier": other and _told_of(other),
        "escalate": escalate,
        "spans": spans,
        "overflow": overflow,
        "threshold": threshold,
        "model": model,
        "text_column": text_column,
        "messages_column": messages_column,
        "count": count.value,
        "chat_template": None if chat_template is None else str(chat_template),
        "input_format": input_format,
        "delimiter": delimiter,
        "encoding": encoding,
        "csv_types": types,
        "batch_tokens": batch_tokens,
        "device": device,
        "device_map": device_map,
        **({ROW_NUMBERS: True} if is_numbered else {}),
    }

    def run(
        rows: Callable[[Share | None], Source[Any]], load: Callable[[], Annotator[Any]]
    ) -> bool:
        return carry_out(
            rows,
            (lambda: RowNumbers(load())) if is_numbered else load,
            given,
            output,
            shard=shard,
            cluster=cluster,
            on_error=on_error,
            quiet=quiet,
            resume=resume,
            force=force,
            kept=columns,
            asked=asked,
        )

    reading: dict[str, Any] = {
        "format": input_format,
        "is_reserved": is_reserved,
        "columns": options.column_names(columns),
        "delimiter": delimiter,
        "encoding": encoding,
        "csv_types": types,
    }
    column = text_column if messages_column is None else messages_column
    open_table = partial(open_features, given, text_column=column, **reading)
    features = open_table()
    if features is not None:
        features.close()
        if escalate is not None:
            raise typer.BadParameter("--escalate needs the texts, not features of them")
        provenance = features.provenance
        run(
            lambda share: cast("Source[Any]", open_table(share=share)),
            lambda: FeatureClassification(trained, provenance),
        )
        return
    if not holds_messages:
        _require_texts(trained, other)
    ways: dict[str, Any] = {
        "batch_tokens": batch_tokens,
        "device": device,
        "device_map": device_map,
        **({} if chat_template is None else {"chat_template": chat_template}),
    }
    told = None if overflow is None else overflow.value

    def annotator(of: Classifier, where: str | None) -> Annotator[Chunk]:
        return _annotator(
            of,
            where,
            spans=spans,
            overflow=told,
            holds_messages=holds_messages,
            count=count.value,
            **ways,
        )

    def rows(share: Share | None) -> Source[Any]:
        return open_source(
            given,
            text_column=column,
            holds_messages=holds_messages,
            max_wait_s=max_wait_of(output),
            share=share,
            **reading,
        )

    if escalate is None:
        run(rows, lambda: annotator(trained, model))
        return
    made: list[Cascade] = []

    def cascade() -> Cascade:
        second = None if other is None else annotator(other, None)
        name = PERSON if other is None else other.card.name
        made.append(Cascade(annotator(trained, model), trained.card, second, name))
        return made[0]

    was_resumed = run(rows, cascade)
    if made and made[0].steps[0].read and not quiet:  # else others have made theirs, or before
        say(f"since it went on: {made[0].summary()}" if was_resumed else made[0].summary())


def _require_one_classifier(inputs: list[str]) -> None:
    """Refuse a second classifier, which would be taken for a file."""
    from splinellm.learn.artifact import CARD_FILE, boxed_names

    boxed = boxed_names()
    for name in inputs:
        path = Path(name)
        if (path / CARD_FILE).is_file() or (name in boxed and not path.exists()):
            raise typer.BadParameter(
                f"'{name[:80]}' is a classifier, too, and a run asks one: run predict once for "
                "each, with --row-numbers, which joins what they write (or let --escalate ask a "
                "second where the first is uncertain)"
            )


def _told_of(classifier: Classifier) -> str:
    """What tells a classifier from others, and from itself trained anew."""
    return f"{classifier.card.name} ({classifier.card.classifier_sha256[:16]})"


def _with_thresholds(
    classifier: Classifier, thresholds: float | dict[str, float] | None
) -> Classifier:
    if thresholds is None:
        return classifier
    try:
        return classifier.with_threshold(thresholds)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="--threshold") from error


def _annotator(
    classifier: Classifier,
    model: str | None,
    *,
    spans: bool,
    overflow: str | None,
    holds_messages: bool,
    count: Any,
    **ways: Any,
) -> Annotator[Chunk]:
    """Load a classifier's model, from `model` if that is somewhere else by now."""
    from splinellm.learn.annotation import TextClassification
    from splinellm.plan import Plan

    fitted_on = classifier.card.provenance
    settings = {
        **Plan.of(fitted_on).settings(),
        "model": fitted_on.model if model is None else model,
        "dtype": fitted_on.dtype,
        **ways,
    }
    chosen: Any = overflow or "windows"
    return TextClassification(
        classifier,
        loading.load_extractor(**settings),
        holds_messages=holds_messages,
        spans=spans,
        overflow=chosen,
        count=count,
    )


def _require_able(classifier: Classifier, *, spans: bool, count: str) -> None:
    """Refuse what a classifier cannot do before its model is loaded."""
    card = classifier.card
    if spans and card.pooling is None:
        raise typer.BadParameter(
            f"--spans is for classifiers of train --pool; '{card.name}' is none"
        )
    try:
        card.require_count(count, option="--count")
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error


def _require_texts(*classifiers: Classifier | None) -> None:
    """Refuse texts for classifiers of conversations: each row would be bad."""
    for one in classifiers:
        if one is not None and not one.card.reads_texts:
            raise typer.BadParameter(
                f"{one.card.of_conversations('--count')}: name their column with --messages-column"
            )
