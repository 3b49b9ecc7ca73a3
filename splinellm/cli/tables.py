"""Tables of text on standard output."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from splinellm.shown import shown

if TYPE_CHECKING:
    import numpy as np

    from splinellm.learn.comparing import Effects

SPACE = 2
"""Blanks between columns."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int | None = None
) -> str:
    """Lay out rows below their headings.

    Piped, every row is one plain line. On a terminal cells wrap between words; columns for which
    there is no room come below the others, beside the first column once more.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : iterable of sequence of str
        A cell for each column.
    numbers_from : int, optional
        First of the columns that hold numbers, which are aligned to the right.
    """
    columns = [shown(name) for name in columns]  # names of classes and files are anybody's
    cells = [[shown(cell) for cell in row] for row in rows]
    width = seen_width()
    texts = [[name, *(row[i] for row in cells)] for i, name in enumerate(columns)]
    extents = [Extent.of(column) for column in texts]
    parts = []
    whole = [{i: one.most for i, one in enumerate(extents)}]
    for part in whole if width is None else _parts(extents, width):
        chosen = sorted(part)
        parts.append(
            _grid(
                [columns[i] for i in chosen],
                [[row[i] for i in chosen] for row in cells],
                [part[i] for i in chosen],
                [numbers_from is not None and i >= numbers_from for i in chosen],
                is_seen=width is not None,
            )
        )
    return "\n\n".join(parts)


def seen_width() -> int | None:
    """Columns of the terminal that standard output is; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(text: str, *, indent: str = "") -> str:
    """A line of text, on a terminal as several of its width; words stay whole, and nothing acts.

    Parameters
    ----------
    text : str
        One line.
    indent : str
        Before all lines but the first.
    """
    text = shown(text)
    width = seen_width()
    if width is None or len(text) <= width:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False)


@dataclass(frozen=True)
class Extent:
    """Characters that a column takes.

    Parameters
    ----------
    least : int
        Its longest word.
    most : int
        Its longest cell.
    """

    least: int
    most: int

    @classmethod
    def of(cls, cells: Iterable[str]) -> Extent:
        """Of a heading and cells."""
        from rich.cells import cell_len  # slow to import

        found = list(cells)
        words = (cell_len(word) for cell in found for word in cell.split())
        return cls(max(words, default=0), max(map(cell_len, found)))


def _parts(extents: Sequence[Extent], width: int) -> list[dict[int, int]]:
    """Columns that stand beside each other, and how wide each is: the first in every part."""
    first = min(extents[0].least, width // 2)
    room = width - first - SPACE  # beside the first column
    least = [min(one.least, room) for one in extents]
    groups: list[list[int]] = [[]]
    for i in range(1, len(extents)):
        taken = sum(least[j] + SPACE for j in groups[-1])
        if groups[-1] and taken + least[i] > room:
            groups.append([])
        groups[-1].append(i)
    parts = []
    for group in groups:
        ends = {0: (first, extents[0].most)}
        ends |= {i: (least[i], max(least[i], extents[i].most)) for i in group}
        parts.append(_shared(ends, width - SPACE * len(group)))
    return parts


def _shared(ends: dict[int, tuple[int, int]], width: int) -> dict[int, int]:
    """Widths between least and most: the narrow ones get all that they can use."""

    def capped(at: int) -> dict[int, int]:
        return {i: max(least, min(most, at)) for i, (least, most) in ends.items()}

    return next(
        (found for at in range(width, 0, -1) if sum((found := capped(at)).values()) <= width),
        capped(0),
    )


def _grid(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    widths: Sequence[int],
    are_numbers: Sequence[bool],
    *,
    is_seen: bool,
) -> str:
    from rich.console import Console  # slow to import, --help is not
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, SPACE, 0, 0), header_style="bold")
    for name, of_column, is_number in zip(columns, widths, are_numbers, strict=True):
        justify: Literal["left", "right"] = "right" if is_number else "left"
        grid.add_column(Text(name), justify=justify, overflow="fold", width=of_column)
    for row in rows:
        grid.add_row(*map(Text, row))  # Text: brackets in a name are no markup
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        force_terminal=is_seen,
        width=sum(widths) + SPACE * len(widths),
        height=25,  # without which rich takes no width for a dumb terminal
    )
    console.print(grid)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def effects_table(
    names: Sequence[str], effects: Effects, distances: np.ndarray, chosen: Iterable[int]
) -> str:
    """Lay out how far apart some columns of two tables are."""
    rows = [
        (
            names[i],
            f"{effects.size[i]:+.2f}",
            f"{effects.low[i]:+.2f}",
            f"{effects.high[i]:+.2f}",
            f"{distances[i]:.3f}",
        )
        for i in chosen
    ]
    return table(["column", "g", "from", "to", "KS"], rows, numbers_from=1)
