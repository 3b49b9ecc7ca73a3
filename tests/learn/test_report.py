"""What is rendered from templates: the report's page, and the READMEs of classifiers."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from splinellm.learn.artifact import BOXED_FOLDER, boxed_names
from splinellm.learn.classifier import Card
from splinellm.learn.evaluation import Score
from splinellm.learn.readme import readme_of
from splinellm.learn.report import write_report


class Cells(HTMLParser):
    """Texts of headings and cells, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open = tag
        if tag in ("tr", "h1", "h2"):
            self.rows.append([])
        if tag in ("td", "th", "h1", "h2"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open in ("td", "th", "h1", "h2"):
            self.rows[-1][-1] += data.strip()


def test_the_page_has_a_line_per_item_and_a_column_per_class(tmp_path: Path) -> None:
    scores = [
        Score("features", "all", "a<b>", (0.5, 0.7)),
        Score("features", "all", "c", (1.0,)),
        Score("baseline", "length & co", "c", (0.25,)),
    ]
    write_report(scores, tmp_path / "report.html", title="<script>x</script>")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    cells = Cells()
    cells.feed(page)
    assert cells.rows == [
        ["<script>x</script>"],
        ["Features"],
        ["", "a<b>", "c"],
        ["all", "60.00 ± 14.14", "100.00 ± 0.00"],
        ["Baseline"],
        ["", "c"],
        ["length & co", "25.00 ± 0.00"],
    ]


@pytest.mark.parametrize("name", boxed_names())
def test_a_boxed_readme_is_what_its_card_says(name: str) -> None:
    folder = BOXED_FOLDER / name
    written = (folder / "README.md").read_text(encoding="utf-8")
    assert readme_of(Card.from_json((folder / "card.json").read_bytes())) == written
