"""The command ``splinellm compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splinellm.cli import options
from splinellm.cli.messages import say
from splinellm.cli.pictures import check_page, load_plots, write_picture
from splinellm.cli.tables import effects_table, wrapped

if TYPE_CHECKING:
    from splinellm.learn.comparing import Comparison


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="File that extract wrote.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    html: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="SPLINELLM_HTML",
            callback=check_page,
            help="Write the effects as a picture, too.",
            show_default=False,
        ),
    ] = None,
    json_document: Annotated[
        bool,
        typer.Option("--json", envvar="SPLINELLM_JSON", help="All effects, as one JSON document."),
    ] = False,
    largest: Annotated[
        int, typer.Option(min=1, envvar="SPLINELLM_LARGEST", help="Effects that are listed.")
    ] = 15,
    seed: Annotated[int, typer.Option(min=0, envvar="SPLINELLM_SEED", help="Of the halves.")] = 0,
    quiet: options.Quiet = False,
) -> None:
    """Say how far the prompts of table B are from those of table A.

    For every layer and feature that both have: Hedges' g, the difference of means in pooled
    standard deviations, with a 95 % interval (not corrected for the number of columns), and the
    largest gap between the distributions (KS). As a whole: ROC-AUC of a classifier that tells the
    tables apart, on rows that it has not seen, and its p-value. Two samples of the same texts give
    p below 0.05 once in twenty times.
    """
    from splinellm.io.table_columns import read_table
    from splinellm.learn.comparing import compare as measure

    first, second = read_table(a), read_table(b)
    found = measure(first, second, seed=seed)
    models = first.provenance.model, second.provenance.model
    if found.difference is not None and models[0] != models[1]:
        say(
            f"warning: model is {models[1]}, not {models[0]}: the difference is one of models, not "
            "of prompts; FeatureTable.align in Python has the layers and features of both"
        )
    elif found.difference is not None:
        say(f"note: the tables differ in what they come from: {found.difference}")
    if html is not None:
        names = Path(a).name, Path(b).name
        title = f"{names[0]} → {names[1]}: AUC {100 * found.roc_auc:.1f}, p = {found.p_value:.2g}"
        write_picture(load_plots().comparison_picture(found, title=title), html)
        if not quiet:
            say(f"wrote {html}")
    if json_document:
        typer.echo(json.dumps({"a": a, "b": b, **found.to_dict()}, allow_nan=False))
        return
    typer.echo(wrapped(_told(found)))
    typer.echo("")
    typer.echo(effects_table(found.names, found.effects, found.distances, found.largest(largest)))


def _told(found: Comparison) -> str:
    n, m = found.n_rows
    verdict = "are told apart" if found.p_value < 0.05 else "are not told apart"
    return (
        f"{n:,} and {m:,} rows {verdict}: AUC {100 * found.roc_auc:.1f} on rows not seen, "
        f"p = {found.p_value:.2g}"
    )
