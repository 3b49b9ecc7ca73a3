"""Tables as a program gets them, and as a person sees them."""

from __future__ import annotations

import sys

import pytest

from splinellm.cli.tables import table

COLUMNS = ("", "rows", "share")
ROWS = [("[red]toxic", "1,200", "9.50%"), ("x" * 300, "7", "100.00%")]


def test_piped_a_row_is_a_line_whatever_its_length() -> None:
    heading, first, second = table(COLUMNS, ROWS, numbers_from=1).splitlines()
    assert heading.split() == ["rows", "share"]
    assert first.split() == ["[red]toxic", "1,200", "9.50%"]
    assert second.split() == ["x" * 300, "7", "100.00%"]
    assert "\x1b" not in heading
    ends = {line.rindex(cell) + len(cell) for line, cell in ((heading, "share"), (first, "9.50%"))}
    assert ends == {len(second)}  # numbers end together


def test_on_a_terminal_cells_wrap_to_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    lines = table(COLUMNS, ROWS, numbers_from=1).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.count("x") for line in lines) == 300 + len("x")  # that of toxic
