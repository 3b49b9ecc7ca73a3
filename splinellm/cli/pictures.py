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
IMAGES = (".png", ".svg", ".pdf")


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
        data = _page(figure).encode("utf-8")
    write_bytes(data, path)


def _page(figure: Any) -> str:
    """A figure with a title, which scrolls by itself where the window is narrower."""
    drawn = figure.to_html(include_plotlyjs=True, full_html=False, config={"displaylogo": False})
    # Of plotly's own spelling: what is somebody else's in it is escaped, and tags are its breaks.
    title = (figure.layout.title.text or "splinellm").replace("<br>", " ")
    ground = figure.layout.template.layout.paper_bgcolor or "white"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n"
        f"<style>body {{ margin: 0; background: {ground} }} main {{ overflow-x: auto }}</style>\n"
        f'</head>\n<body>\n<main tabindex="0">{drawn}</main>\n</body>\n</html>\n'
    )


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
