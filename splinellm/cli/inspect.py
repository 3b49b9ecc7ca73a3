"""The command ``splinellm inspect``: one prompt on the terminal, as JSON, or as a page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splinellm.cli import loading, options
from splinellm.cli.messages import say
from splinellm.cli.pictures import check_page, write_bytes
from splinellm.errors import InputFileError

if TYPE_CHECKING:
    from splinellm.extraction.inspection import Judge

NO_CLASSIFIER = "none"
_MOST_PATH = 1024


def inspect(
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT|-|FILE",
            help="Text, - for standard input, or a file. JSON with messages is a conversation.",
        ),
    ],
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            "--classifier",
            envvar="SPLINELLM_INSPECT_CLASSIFIER",
            metavar="NAME",
            help="Folder or boxed classifier whose verdict is shown; may be given more than once. "
            "toxicity and domain by default; none for none.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = "smollm2-135m",
    layers: options.Layers = None,
    features: options.Features = "paper",
    max_tokens: options.MaxTokens = None,
    chat_template: options.ChatTemplate = None,
    dtype: options.DtypeOption = options.Dtype.AUTO,
    device: options.Device = "auto",
    threads: options.Threads = None,  # noqa: ARG001 (its callback does it)
    html: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="SPLINELLM_HTML",
            callback=check_page,
            help="Write one page that needs no network.",
            show_default=False,
        ),
    ] = None,
    json_document: Annotated[
        bool, typer.Option("--json", envvar="SPLINELLM_JSON", help="One JSON document.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Look at one prompt: tokens, features over layers, dimension, verdicts and their words.

    Verdicts come with their thresholds; classifiers that train --pool made tell where in the text a
    class is. Of a conversation, such a classifier judges every message by itself.
    """
    from splinellm.learn.artifact import load_classifier

    prompt = _read(text)
    names = [name for name in classifier or ["toxicity", "domain"] if name != NO_CLASSIFIER]
    judges: list[Judge] = [load_classifier(name, chat_template=chat_template) for name in names]
    extractor = loading.load_extractor(
        model=model,
        layers=layers,
        features=features,
        max_tokens=max_tokens,
        dtype=dtype.value,
        device=device,
        **({} if chat_template is None else {"chat_template": chat_template}),
    )
    found = extractor.inspect(prompt, judges)
    if html is not None:
        from splinellm.learn.inspection_page import page_of

        write_bytes(page_of(found).encode("utf-8"), html)
        if not quiet:
            say(f"wrote {html}")
    if json_document:
        typer.echo(json.dumps(found.to_dict(), allow_nan=False))
    elif html is None:
        from splinellm.cli.inspection_text import lines_of

        typer.echo("\n".join(lines_of(found, in_colour=sys.stdout.isatty())))


def _read(text: str) -> Any:
    """The prompt that an argument stands for."""
    if text == "-":
        return _prompt(sys.stdin.buffer.read(), "standard input")
    is_path = len(text) <= _MOST_PATH and "\0" not in text and "\n" not in text
    if is_path and Path(text).is_file():
        try:
            return _prompt(Path(text).read_bytes(), f"'{text}'")
        except OSError as error:
            raise InputFileError(f"cannot read '{text}': {error.strerror or error}") from error
    return _messages(text) or text


def _prompt(data: bytes, name: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(f"{name} is not UTF-8") from error
    return _messages(text) or text.removesuffix("\n")


def _messages(text: str) -> Any:
    """A conversation, if that is what a text is the JSON of."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = value.get("messages")
    is_list = isinstance(value, list) and bool(value)
    return value if is_list and all(isinstance(x, dict) and "role" in x for x in value) else None
