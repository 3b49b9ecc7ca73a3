"""A report as one page that loads nothing: tables, figures, and what they were made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splinellm.errors import OutputError
from splinellm.io.unfinished import replace_whole
from splinellm.learn.rendering import render
from splinellm.shown import shown

_LONGEST = 200


@dataclass(frozen=True)
class Cell:
    """What is written in a table, and where a reader who sorts finds it.

    Parameters
    ----------
    text : str
        As it is shown.
    order : float, optional
        Number to sort by; without it, the text is.
    """

    text: str
    order: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows with a name each.

    Parameters
    ----------
    columns : sequence of str
        Headings; the first is of the names.
    rows : sequence of (str, sequence of Cell)
        A name, and a cell for each further column.
    caption : str
        What the numbers are.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture and what it says to those who do not see it.

    Parameters
    ----------
    figure : plotly Figure
        Of :mod:`splinellm.plots`.
    caption : str
        Below it.
    """

    figure: Any
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    name: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Page:
    """A report.

    Parameters
    ----------
    title : str
        Of the page.
    summary : str
        Below the title.
    made_of : mapping of str to str
        Command, data, versions: what one needs to make it again.
    sections : sequence of Section
        In their order.
    """

    title: str
    summary: str
    made_of: Mapping[str, str]
    sections: Sequence[Section] = field(default_factory=tuple)

    def to_html(self) -> str:
        """Render; whatever names and labels hold is shown as text."""
        return render(
            "report.html.j2",
            _shown,
            _drawn,
            package="splinellm.report",
            page=self,
            plotly=_plotly() if any(one.figures for one in self.sections) else "",
        )


def write_report(page: Page, path: Path) -> None:
    """Write a page.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    write_text(page.to_html(), path)


def write_text(text: str, path: Path) -> None:
    """Write a whole file, or say why not."""
    try:
        replace_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}") from error


def _shown(text: object, limit: int = _LONGEST) -> str:
    return shown(text, limit)


def _drawn(figure: Any, place: str) -> Any:
    """A figure's own HTML, in which plotly spells what would end a script."""
    from markupsafe import Markup

    config = {"displaylogo": False, "responsive": False}
    html = figure.to_html(include_plotlyjs=False, full_html=False, div_id=place, config=config)
    return Markup(html)  # noqa: S704 (of plotly, whose texts are escaped)


def _plotly() -> Any:
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())  # noqa: S704 (plotly's own script)
