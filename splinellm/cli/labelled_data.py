"""Labelled data of ``train`` and ``evaluate``: arguments, reading, groups, features, figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splinellm.cli import loading, options
from splinellm.cli.command_line import command_line
from splinellm.cli.messages import counted, say
from splinellm.cli.progress import AllRead, progress_bar
from splinellm.cli.streaming import input_of
from splinellm.errors import ConfigurationError, LabelError

if TYPE_CHECKING:
    import numpy as np

    from splinellm.extraction import SplineExtractor
    from splinellm.learn.classifier import Classifier
    from splinellm.learn.dataset import Dataset
    from splinellm.learn.labels import Labels
    from splinellm.learn.metrics import Target
    from splinellm.learn.pooled_training import PooledSettings
    from splinellm.provenance import Provenance
    from splinellm.table import FeatureTable

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Labelled texts: anything that extract reads, or what extract made of them.",
    ),
]
Label = Annotated[
    str,
    typer.Option(
        metavar="COL[,COL]", envvar="SPLINELLM_LABEL", help="Column, or columns, to be learnt."
    ),
]
Positive = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL",
        envvar="SPLINELLM_POSITIVE",
        help="Of one label column, the label of the positive class; every other label is of the "
        "negative class.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="COL",
        envvar="SPLINELLM_GROUP",
        help="Rows with the same value here are never on both sides of a split.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, envvar="SPLINELLM_SEED", help="Of shuffles.")]


def names(label: str) -> list[str]:
    """Split a list of column names."""
    found = [name.strip() for name in label.split(",") if name.strip()]
    if not found:
        raise typer.BadParameter("--label names no column")
    return found


def extractor_settings(
    model: str,
    layers: str | None,
    features: str | None,
    max_tokens: int | None,
    batch_tokens: int | None,
    dtype: options.Dtype,
    device: str,
    messages_column: str | None = None,
    count: options.Count = options.Count.ALL,
    chat_template: str | None = None,
) -> dict[str, Any]:
    """Gather the options of the extractor."""
    chat = {} if messages_column is None else {"count": count.value, "chat_template": chat_template}
    return {
        **chat,
        "model": model,
        "layers": layers,
        "features": features,
        "max_tokens": max_tokens,
        "batch_tokens": batch_tokens,
        "dtype": dtype.value,
        "device": device,
    }


def read(
    data: list[str],
    text_column: str,
    on_error: options.OnError,
    columns: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    messages_column: str | None = None,
    count: options.Count = options.Count.ALL,
) -> Dataset:
    """Read the data and say how many rows were left out."""
    from splinellm.learn.dataset import read_dataset

    options.require_messages(count, messages_column)
    rows = read_dataset(
        input_of(data),
        text_column=text_column if messages_column is None else messages_column,
        holds_messages=messages_column is not None,
        count=count.value,
        on_error=on_error.value,
        columns=options.column_names(columns),
        delimiter=delimiter,
        encoding=encoding,
    )
    if rows.n_skipped:
        were = "was" if rows.n_skipped == 1 else "were"
        say(f"warning: {counted(rows.n_skipped, 'row')} that cannot be used {were} left out")
    if not rows.columns:
        raise LabelError(f"'{rows.name}' has no rows")
    return rows


def groups_of(rows: Dataset, group: str | None) -> np.ndarray | None:
    """Group near-duplicate texts, and what the user says belongs together."""
    from splinellm.learn.splits import merged_groups, near_duplicates

    groupings: list[Any] = []
    if rows.texts is not None:
        groupings.append(near_duplicates(rows.texts))
    if group is not None:
        groupings.append(rows.column(group))
    return merged_groups(groupings)


def group_numbers(rows: Dataset, column: str) -> np.ndarray | None:
    """Number the values of a column."""
    from splinellm.learn.splits import merged_groups

    return merged_groups([rows.column(column)])


def features_of(
    rows: Dataset, settings: dict[str, Any], *, default_features: str, quiet: bool
) -> FeatureTable:
    """Take the file's own features, or compute them."""
    if rows.table is not None:
        return _selected(rows.table, settings)
    return _computed(rows, _load(settings, default_features), quiet=quiet)


def features_and_hidden_states(
    rows: Dataset, settings: dict[str, Any], *, default_features: str, quiet: bool
) -> tuple[FeatureTable, np.ndarray]:
    """Compute features and mean hidden states with one loaded model."""
    from splinellm.extraction.hidden_states import mean_hidden_states

    if rows.table is None:
        extractor = _load(settings, default_features)
        table = _computed(rows, extractor, quiet=quiet)
    else:  # the same model and limits as its features
        source = rows.table.provenance
        extractor = loading.load_extractor(
            model=source.model, dtype=source.dtype, max_tokens=source.max_tokens
        )
        table = _selected(rows.table, settings)
    prompts = rows.prompts
    with progress_bar(AllRead(len(prompts)), quiet=quiet) as listener:
        return table, mean_hidden_states(extractor, prompts, on_progress=listener)


def _load(settings: dict[str, Any], default_features: str) -> SplineExtractor:
    features = settings["features"] or default_features
    return loading.load_extractor(**(settings | {"features": features}))


def _computed(rows: Dataset, extractor: SplineExtractor, *, quiet: bool) -> FeatureTable:
    prompts = rows.prompts
    with progress_bar(AllRead(len(prompts)), quiet=quiet) as listener:
        return extractor.extract(prompts, on_progress=listener)


def _selected(table: FeatureTable, settings: dict[str, Any]) -> FeatureTable:
    """Of an extracted table, what --layers and --features ask for."""
    from splinellm.schema import FeatureSelection, parse_layers

    layers, features = settings["layers"], settings["features"]
    return table.select(
        None if layers is None else parse_layers(layers, table.provenance.n_layers),
        None if features is None else FeatureSelection.parse(features).names,
    )


def made_of(
    context: typer.Context, rows: Dataset, provenance: Provenance, **told: object
) -> dict[str, str]:
    """What a report says of how it was made."""
    from splinellm.report.figures import columns_of, made_of

    return made_of(
        command_line(context),
        rows.name,
        rows.sha256,
        len(next(iter(rows.columns.values()))),
        provenance,
        **told,
        features=columns_of(provenance.layers, provenance.features),
    )


def require_texts(rows: Dataset, option: str) -> None:
    """Refuse features of prompts where those of tokens are needed."""
    if rows.table is not None:
        raise ConfigurationError(
            f"'{rows.name}' holds features, and {option} reads texts", hint="give it the texts"
        )
    if rows.conversations is not None:
        raise ConfigurationError(
            f"{option} trains on texts, not on conversations",
            hint="train on the texts with --text-column; predict reads what is said in "
            "--messages-column with such a classifier",
        )


def marks_of(rows: Dataset, column: str, *, normalise: bool) -> list[np.ndarray | None]:
    """Annotated characters of every row's text as it will be read."""
    from splinellm.learn.annotated import as_read, read_marks

    texts = rows.texts or []
    marks = [
        read_marks(value, text, row)
        for row, (value, text) in enumerate(zip(rows.column(column), texts, strict=True), 1)
    ]
    if not normalise:
        return marks
    return [
        None if mark is None else as_read(mark, text)
        for mark, text in zip(marks, texts, strict=True)
    ]


def pooled_settings(
    pool: Any,
    window: int,
    stride: int,
    sharpness: float,
    agreeing: int,
    *,
    hybrid: bool,
    augment: bool,
    components: int,
    seed: int,
) -> PooledSettings:
    """Gather the options of pooled classifiers; without a pool, the whole text is one window."""
    from splinellm.learn.pooled_training import PooledSettings
    from splinellm.learn.pooling import Pooling

    pooling = (
        Pooling("mean", None)
        if pool is None
        else Pooling(pool, window, stride, sharpness, agreeing)
    )
    return PooledSettings(
        pooling,
        hybrid=hybrid,
        augment=augment and pool is not None,
        n_components=components or None,
        seed=seed,
    )


def pooled(
    rows: Dataset,
    labels: Labels,
    settings: dict[str, Any],
    wanted: PooledSettings,
    *,
    compose: bool,
    marks: list[np.ndarray | None] | None,
    common: dict[str, Any],
    quiet: bool,
) -> Classifier:
    """Train a pooled classifier on the rows' texts, and on what is composed of them if wanted."""
    from splinellm.learn.composing import Composition
    from splinellm.learn.pooled_training import train_pooled

    texts = rows.texts or []
    composition = None
    if compose:
        groupings = {name: common[name] for name in ("groups", "tuning_groups")}
        composition = Composition.of(texts, labels, **groupings, seed=wanted.seed)
    extractor = _load(settings, "blocks")
    n_texts = len(texts) + (0 if composition is None else len(composition))
    with progress_bar(AllRead(n_texts), quiet=quiet) as listener:
        return train_pooled(
            texts,
            labels,
            extractor,
            settings=wanted,
            composition=composition,
            marks=marks,
            on_progress=listener,
            **common,
        )


def one_target(
    precision: float | None, recall: float | None, fpr: float | None
) -> Callable[[], Target | None]:
    """Make sure that at most one target was given; it is made later, as that imports much."""
    given = {"precision": precision, "recall": recall, "fpr": fpr}
    found = [(measure, value) for measure, value in given.items() if value is not None]
    if len(found) > 1:
        options = " and ".join(f"--target-{measure}" for measure, _ in found)
        raise typer.BadParameter(f"choose one of {options}")

    def make() -> Target | None:
        from splinellm.learn.metrics import Target

        measures: Any = found[0] if found else None
        return None if measures is None else Target(*measures)

    return make
