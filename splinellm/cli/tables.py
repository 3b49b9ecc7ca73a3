"""Tables of text on standard output."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from splinellm.learn.comparing import Effects

PIPED_WIDTH = 10_000
"""Characters of a line that nobody sees: a program must find each row in one."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int | None = None
) -> str:
    """Lay out rows below their headings.

    On a terminal, cells wrap to its width; piped, every row is one plain line.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : iterable of sequence of str
        A cell for each column.
    numbers_from : int, optional
        First of the columns that hold numbers, which are aligned to the right.
    """
    from rich.console import Console  # slow to import, --help is not
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, name in enumerate(columns):
        is_number = numbers_from is not None and position >= numbers_from
        grid.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))  # Text: brackets in a name are no markup
    is_seen = sys.stdout.isatty()
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        force_terminal=is_seen,
        width=shutil.get_terminal_size().columns if is_seen else PIPED_WIDTH,
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
