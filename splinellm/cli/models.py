"""The commands ``splinellm models``, ``models pull`` and ``models path``."""

from __future__ import annotations

from typing import Annotated

import typer

from splinellm.cli.messages import say
from splinellm.cli.tables import table

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the built-in models: name, whether cached, size, description and path."""
    if context.invoked_subcommand is not None:
        return
    from splinellm.backbone.builtin import list_models

    rows = [
        (
            m.name,
            "cached" if m.cached else "-",
            f"{m.size_bytes / 1e6:.0f} MB",
            m.description,
            str(m.path),
        )
        for m in list_models()
    ]
    typer.echo(table(("NAME", "CACHED", "SIZE", "DESCRIPTION", "PATH"), rows))


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in the list of models.")],
) -> None:
    """Fetch a built-in model into the cache, check its hash, and print its path."""
    from splinellm.backbone.builtin import BUILTIN_MODELS
    from splinellm.backbone.builtin import pull as fetch

    model = BUILTIN_MODELS.get(name)
    if model is not None and not model.path.is_file():
        say(f"fetching {name}, {model.size_bytes / 1e6:.0f} MB")
    typer.echo(fetch(name))


@app.command()
def path(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="As in the list of models; or a folder, or a cached hub id."
        ),
    ],
) -> None:
    """Print the folder of a model, for AutoModelForCausalLM.from_pretrained and the like.

    A built-in model is fetched and unpacked if it is not there yet.
    """
    from splinellm.backbone.folders import model_path

    typer.echo(model_path(name))
