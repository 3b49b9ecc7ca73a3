"""How commands write pictures: pages that need no network, and still images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from splinellm.errors import ConfigurationError, OutputError

if TYPE_CHECKING:
    from types import ModuleType

PAGES = (".html",)
IMAGES = (".png", ".svg")


class Theme(StrEnum):
    """Light or dark."""

    LIGHT = "light"
    DARK = "dark"


def check_picture(path: str | None) -> str | None:
    """Refuse a file of another kind before anything is computed."""
    if path is not None and Path(path).suffix.lower() not in (*PAGES, *IMAGES):
        raise typer.BadParameter(f"'{path}' is none of {', '.join((*PAGES, *IMAGES))}")
    return path


def check_page(path: str | None) -> str | None:
    """Refuse what is no page."""
    if path is not None and Path(path).suffix.lower() not in PAGES:
        raise typer.BadParameter(f"'{path}' is no .html")
    return path


def load_plots() -> ModuleType:
    """The package of pictures.

    Raises
    ------
    ConfigurationError
        Plotly is not installed.
    """
    try:
        from splinellm import plots
    except ImportError as error:
        raise ConfigurationError(
            "pictures need plotly, which is not installed", hint="pip install 'splinellm[plots]'"
        ) from error
    return plots


def write_picture(figure: Any, path: str) -> None:
    """Write a figure as a page that holds all it needs, or as an image.

    Raises
    ------
    ConfigurationError
        An image is wanted, and there is nothing to draw it with.
    OutputError
        The file cannot be written.
    """
    if Path(path).suffix.lower() in IMAGES:
        data = _image(figure, Path(path).suffix.lower().removeprefix("."))
    else:
        page = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
        data = page.replace("<html>", '<html lang="en">', 1).encode("utf-8")
    write_bytes(data, path)


def write_bytes(data: bytes, path: str) -> None:
    """Write a whole file, or say why not."""
    from splinellm.io.unfinished import replace_whole  # --help needs none of it

    try:
        replace_whole(path, data)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def _image(figure: Any, kind: str) -> bytes:
    hint = "pip install 'splinellm[plots]', install Chromium (apt install chromium), or write .html"
    try:
        import kaleido  # noqa: F401
        from choreographer.errors import BrowserDepsError, BrowserFailedError, ChromeNotFoundError
    except ImportError as error:
        raise ConfigurationError(
            f"a .{kind} needs kaleido, which is not installed", hint=hint
        ) from error
    try:
        return bytes(figure.to_image(format=kind, scale=2 if kind == "png" else 1))
    except (ChromeNotFoundError, BrowserFailedError, BrowserDepsError, RuntimeError) as error:
        raise ConfigurationError(
            f"a .{kind} is drawn by a browser, which was not found or did not start", hint=hint
        ) from error
    except TimeoutError as error:
        raise OutputError(
            f"the browser did not draw the .{kind} in time", hint="write .html, or draw less"
        ) from error
