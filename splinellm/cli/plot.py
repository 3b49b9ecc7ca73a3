"""The command ``splinellm plot``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splinellm.cli import options
from splinellm.cli.messages import say
from splinellm.cli.pictures import Theme, check_picture, load_plots, write_picture

if TYPE_CHECKING:
    from types import ModuleType

    from splinellm.table import FeatureTable


class Kind(StrEnum):
    """What is drawn."""

    LAYERS = "layers"
    EFFECTS = "effects"
    MAP = "map"
    TOKENS = "tokens"
    DIMENSION = "dimension"
    PREFIX = "prefix"


class Method(StrEnum):
    """Of a map."""

    PCA = "pca"
    TSNE = "tsne"
    UMAP = "umap"


def plot(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="File that extract wrote.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            envvar="SPLINELLM_PLOT_OUTPUT",
            metavar="FILE",
            callback=check_picture,
            help=".html (needs no network), .png, .svg or .pdf (need Chromium).",
        ),
    ],
    kind: Annotated[Kind, typer.Option(envvar="SPLINELLM_KIND", help="What is drawn; see above.")],
    color: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="SPLINELLM_COLOR",
            help="Column that tells rows apart.",
            show_default=False,
        ),
    ] = None,
    between: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            envvar="SPLINELLM_BETWEEN",
            help="effects: two values of the column, where it has others.",
            show_default=False,
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME]",
            envvar="SPLINELLM_PLOT_FEATURES",
            help="Of those in the table.",
            show_default=False,
        ),
    ] = None,
    layers: options.Layers = None,
    row: Annotated[
        int, typer.Option(min=0, envvar="SPLINELLM_ROW", help="tokens, prefix: which prompt.")
    ] = 0,
    method: Annotated[Method, typer.Option(envvar="SPLINELLM_METHOD", help="Of the map.")] = (
        Method.TSNE
    ),
    text_column: options.TextColumn = "text",
    title: Annotated[
        str, typer.Option(envvar="SPLINELLM_TITLE", help="Written above.", show_default=False)
    ] = "",
    theme: Annotated[Theme, typer.Option(envvar="SPLINELLM_THEME", help="Of the picture.")] = (
        Theme.LIGHT
    ),
    quiet: options.Quiet = False,
) -> None:
    """Draw a table of features.

    layers: features over layers, median and quartiles of each value of the column. effects: how far
    apart two values are, by layer and feature. map: prompts as points, texts under the pointer.
    tokens: the tokens of a prompt, coloured (of extract --granularity token). dimension: intrinsic
    dimension against context length (token or prefix). prefix: features of a prompt as it is read
    (prefix).
    """
    from splinellm.io.table_columns import read_with_columns

    names = options.column_names(features)
    labels_between = None if between is None else [name.strip() for name in between.split(",")]
    if labels_between is not None and len(labels_between) != 2:
        raise typer.BadParameter(f"--between takes two values, A,B, not '{between}'")
    if kind is Kind.TOKENS and names is not None and len(names) > 1:
        raise typer.BadParameter(f"--kind tokens shows one feature, not '{features}'")
    plots = load_plots()
    wanted = [] if color is None else [color]
    found, columns = read_with_columns(
        table, wanted, optional=[text_column] if kind is Kind.MAP else []
    )
    if kind is Kind.EFFECTS and color is None:
        raise typer.BadParameter("--kind effects needs --color COL, a column with two values")
    if layers is not None:
        from splinellm.schema import parse_layers

        found = found.select(layers=parse_layers(layers, found.provenance.n_layers))
    labels = None if color is None else ["" if x is None else x for x in columns[color]]
    figure = _drawn(
        plots,
        kind,
        found,
        labels=labels,
        label_name=color or "",
        texts=columns.get(text_column),
        between=labels_between,
        features=names,
        row=row,
        method=method.value,
        common={"title": title, "theme": theme.value},
    )
    write_picture(figure, output)
    if not quiet:
        say(f"wrote {output}")


def _drawn(
    plots: ModuleType,
    kind: Kind,
    table: FeatureTable,
    *,
    labels: list[Any] | None,
    label_name: str,
    texts: list[Any] | None,
    between: list[str] | None,
    features: Any,
    row: int,
    method: str,
    common: dict[str, str],
) -> Any:
    if kind is Kind.LAYERS:
        return plots.layers_picture(table, labels, features=features, **common)
    if kind is Kind.EFFECTS:
        return plots.effects_picture(table, labels, between=between, features=features, **common)
    if kind is Kind.MAP:
        chosen = table if features is None else table.select(features=features)
        return plots.map_picture(
            chosen, labels, method=method, texts=texts, label_name=label_name, **common
        )
    if kind is Kind.TOKENS:
        feature = None if not features else features[0]
        layer = table.schema.layers[0] if len(table.schema.layers) == 1 else None
        return plots.tokens_picture(table, row=row, feature=feature, layer=layer, **common)
    if kind is Kind.DIMENSION:
        return plots.dimension_picture(table, **common)
    return plots.prefix_picture(table, row=row, features=features, **common)
