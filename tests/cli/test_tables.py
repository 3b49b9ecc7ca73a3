"""Tables as a program gets them, and as a person sees them."""

from __future__ import annotations

import sys

import pytest

from splinellm.cli.figures import figures_table
from splinellm.cli.tables import table, wrapped
from splinellm.learn.artifact import load_card

COLUMNS = ("", "rows", "share")
ROWS = [("[red]toxic", "1,200", "9.50%"), ("y" * 300, "7", "100.00%")]


def test_piped_a_row_is_a_line_whatever_its_length() -> None:
    heading, first, second = table(COLUMNS, ROWS, numbers_from=1).splitlines()
    assert heading.split() == ["rows", "share"]
    assert first.split() == ["[red]toxic", "1,200", "9.50%"]
    assert second.split() == ["y" * 300, "7", "100.00%"]
    assert "\x1b" not in heading
    ends = {line.rindex(cell) + len(cell) for line, cell in ((heading, "share"), (first, "9.50%"))}
    assert ends == {len(second)}  # numbers end together


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is a terminal of 80 columns, without colours."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_cells_wrap_to_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = table(COLUMNS, ROWS, numbers_from=1).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.count("y") for line in lines) == 300


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_words_and_figures_stay_whole() -> None:
    intervals = [f"{share:.2f}% [{share - 1:.2f}%, 100.00%]" for share in range(40, 90, 7)]
    headings = ("", *(f"measure_{i}" for i in range(len(intervals))))
    lines = table(headings, [("toxicity-geometry", *intervals)], numbers_from=1).splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    for part in (*headings, *intervals):
        for word in part.split():
            assert word in words
    assert words.count("toxicity-geometry") == lines.count("") + 1 > 1  # beside every part


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_a_column_beyond_its_width_is_folded() -> None:
    path = "/".join(f"folder{i}" for i in range(30))
    lines = table(("NAME", "SIZE", "PATH"), [("minilm-l6", "83 MB", path)]).splitlines()
    assert max(map(len, lines)) <= 80
    assert path in "".join(line[len("minilm-l6") + 2 :] for line in lines)


@pytest.mark.usefixtures("terminal")
def test_lines_of_text_wrap_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "- " + "a weakness that is told at length, with 0.12 and near-misses; " * 4
    lines = wrapped(text, indent="  ").splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(lines).split() == text.split()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert wrapped(text) == text


@pytest.mark.usefixtures("terminal")
def test_held_out_figures_of_many_classes_fit_a_terminal() -> None:
    card = load_card("domain")
    lines = figures_table(card.metrics["held out"], card.thresholds).splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert {"instructions", "positives", "precision", "threshold"} < set(words)
    for row in card.metrics["held out"].values():
        if isinstance(row, dict):
            assert f"{row['roc_auc']:.2%}" in words


def test_names_of_classes_do_nothing_to_a_terminal() -> None:
    name = "a\x00\x1b[31m\u202eb\nc"
    told = table(["", name], [(name, name)], numbers_from=1) + wrapped(name)
    assert len(told.splitlines()) == 2
    assert not set(told) & {"\x00", "\x1b", "\u202e"}
