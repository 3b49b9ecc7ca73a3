"""The command ``splinellm watch``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splinellm.cli import options
from splinellm.cli.messages import counted, say
from splinellm.cli.streaming import keep_inputs
from splinellm.cli.tables import effects_table, wrapped
from splinellm.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np

    from splinellm.learn.classifier import Classifier
    from splinellm.table import FeatureTable

DRIFTED = 3
"""Exit code: compared, and different."""


def watch(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="File that extract wrote, or, with --classifier, predict."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            envvar="SPLINELLM_WATCH_OUTPUT",
            help="Write a reference of the table, .json.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="SPLINELLM_REFERENCE",
            help="Compare the table with this reference.",
            show_default=False,
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="SPLINELLM_WATCH_CLASSIFIER",
            help="Folder or boxed name: watch its scores, and of features those that it reads.",
            show_default=False,
        ),
    ] = None,
    json_document: Annotated[
        bool,
        typer.Option("--json", envvar="SPLINELLM_JSON", help="All columns, as one JSON document."),
    ] = False,
    largest: Annotated[
        int, typer.Option(min=1, envvar="SPLINELLM_LARGEST", help="Columns that are listed.")
    ] = 15,
    quiet: options.Quiet = False,
) -> None:
    """Make a reference of a table, or say whether a table has drifted from one.

    A reference holds quantiles and moments of every feature, of lengths and of a classifier's
    scores, no rows and no texts; serve --drift-reference compares what it reads with it. A table
    has drifted if a column's KS distance is beyond what chance brings once in a thousand tables
    of as many independent rows: exit code 3, else 0. At least 100 rows are needed.
    """
    if (output is None) == (reference is None):
        raise typer.BadParameter("give -o to make a reference, or --reference to compare with one")
    keep_inputs([table], output)
    from splinellm.learn.watching import (
        Sketch,
        columns_of,
        read_sketch,
        score_columns,
        watched_values,
        write_sketch,
    )

    sketch = None if reference is None else read_sketch(reference)
    chosen = None if classifier is None else _load(classifier)
    features, n_tokens, scores = _read(
        table, chosen, () if chosen is None else score_columns(chosen.card)
    )
    sha256 = None if chosen is None else chosen.card.classifier_sha256
    if sketch is None:
        names = columns_of(features, None if chosen is None else chosen.card)
        values = watched_values(names, n_tokens, scores, features)
        source = None if features is None else features.provenance
        made = Sketch.of(names, values, source, sha256)
        assert output is not None  # noqa: S101 (or there is a reference)
        write_sketch(made, output)
        if not quiet:
            say(f"wrote {output}: {counted(len(names), 'column')} of {counted(len(values), 'row')}")
        return
    if sketch.classifier != sha256:
        raise ArtifactError(
            f"'{reference}' is of {'no' if sketch.classifier is None else 'another'} classifier",
            hint="give both the same --classifier",
        )
    if sketch.provenance is not None and features is not None:
        difference = sketch.provenance.first_difference(features.provenance)
        if difference:
            raise ArtifactError(f"the table does not match '{reference}': {difference}")
    found = sketch.drift(watched_values(sketch.names, n_tokens, scores, features))
    if json_document:
        typer.echo(json.dumps(found.to_dict(), allow_nan=False))
    else:
        verdict = "drifted" if found.value > 1 else "no drift"
        worst = found.distances.max()
        typer.echo(
            wrapped(
                f"{verdict}: largest KS distance {worst:.3f}, limit {found.limit:.3f} "
                f"({found.n_rows[0]:,} and {found.n_rows[1]:,} rows)"
            )
        )
        typer.echo("")
        typer.echo(
            effects_table(found.names, found.effects, found.distances, found.largest(largest))
        )
    if found.value > 1:
        raise typer.Exit(DRIFTED)


def _load(name: str) -> Classifier:
    from splinellm.learn.artifact import load_classifier

    return load_classifier(name)


def _read(
    path: str, classifier: Classifier | None, wanted: tuple[str, ...]
) -> tuple[FeatureTable | None, np.ndarray, dict[str, np.ndarray]]:
    """Features, if the table has any that are watched; lengths; and scores by column."""
    import numpy as np

    from splinellm.io.table_columns import read_columns, read_table
    from splinellm.layout import N_TOKENS
    from splinellm.learn.pooled import Pooled
    from splinellm.learn.watching import score_columns

    if classifier is not None:
        told = read_columns(path, optional=(*wanted, N_TOKENS))
        if set(told) == {*wanted, N_TOKENS}:  # of predict
            arrays = {name: np.array(told[name], np.float64) for name in told}
            return None, arrays.pop(N_TOKENS), arrays
        if isinstance(classifier, Pooled) or classifier.card.normalisation is not None:
            raise ArtifactError(
                f"'{classifier.card.name}' judges texts, and '{path}' has no {wanted[0]}",
                hint=f"splinellm predict {classifier.card.name} INPUT -o FILE writes it",
            )
    table = read_table(path)
    table.provenance.require_prompts("the table")
    if classifier is None:
        return table, table.n_tokens, {}
    found = classifier.predict_table(table)
    source = classifier.card.provenance
    position = {name: i for i, name in enumerate(classifier.card.classes)}
    scores = {
        column: found.probabilities[:, position[column.partition(".")[2]]]
        for column in score_columns(classifier.card)
    }
    return table.select(source.layers, source.features), table.n_tokens, scores
