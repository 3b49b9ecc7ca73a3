"""Pages of reports: what was measured is in them, names are text, and nothing is loaded."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm.cli.figures import card_tables
from splinellm.learn.evaluation import Score
from splinellm.learn.labels import Labels
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.training import train
from splinellm.report import (
    Cell,
    Page,
    Section,
    Table,
    evaluation_page,
    training_page,
    write_report,
)
from tests.opening import opened
from tests.tables import make

HOSTILE = "</script><script>document.title='taken'</script><b>\u202e\x00🙂"


class Cells(HTMLParser):
    """Texts of headings and cells, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._is_open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._is_open = tag in ("td", "th", "h1", "h2") or (self._is_open and tag == "bdi")
        if tag in ("tr", "h1", "h2"):
            self.rows.append([])
        if tag in ("td", "th", "h1", "h2"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_open = False

    def handle_data(self, data: str) -> None:
        if data.strip() and self._is_open:
            self.rows[-1][-1] += data.strip().replace("\u00a0", " ")


def page_of(*classes: str, **told: Any) -> Page:
    """A page of an evaluation of 60 rows, whose classes are told apart by and large."""
    labels = Labels("multilabel", classes, np.arange(60)[:, None] % 2 * np.ones(len(classes), int))
    kept = OutOfFold(60)
    for name in classes:
        kept.add(
            name, np.arange(60), np.random.default_rng(0).random(60) / 2 + labels.values[:, 0] / 3
        )
    scores = [
        Score("features", "all", classes[0], (0.5, 0.7)),
        Score("features", "all", classes[-1], (1.0,)),
        Score("baseline", "length & co", classes[-1], (0.25,)),
        *(Score("layer", str(layer), classes[0], (0.5 + layer / 10,)) for layer in range(3)),
    ]
    made_of = {"command": f"splinellm evaluate {classes[0]}"}
    return evaluation_page(scores, made_of=made_of, labels=labels, kept=kept, **told)


def test_the_page_has_a_line_per_item_and_a_column_per_class(tmp_path: Path) -> None:
    write_report(page_of("a<b>", "c", title="<script>x</script>"), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>x" not in page
    cells = Cells()
    cells.feed(page)
    assert cells.rows[:7] == [
        ["<script>x</script>"],
        ["Features"],
        ["item", "a<b>", "c"],
        ["all", "60.00 ± 14.14", "100.00 ± 0.00"],
        ["Baseline"],
        ["item", "c"],
        ["length & co", "25.00 ± 0.00"],
    ]
    assert 'data-order="0.6"' in page
    # ROC, precision by recall and reliability of two classes, and one by layer; plotly once.
    assert page.count("<figure>") == 7
    assert page.count("plotly.js v") == 1


def test_without_plotly_the_page_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("splinellm.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("splinellm.plots", raising=False)
    monkeypatch.setitem(sys.modules, "plotly", None)
    page = page_of("a", title="t").to_html()
    assert "splinellm[plots]" in page
    assert "<figure>" not in page


def test_in_a_browser_names_are_text_and_nothing_is_asked_for(tmp_path: Path) -> None:
    page = page_of(HOSTILE, "x" * 100_000, title=HOSTILE)
    write_report(page, tmp_path / "report.html")
    document, asked = opened(tmp_path / "report.html", tmp_path)
    assert asked == []
    assert "<title>taken" not in document
    assert "alert" not in document
    assert document.count('class="main-svg"') >= 7  # plotly drew them
    assert "\u202e" not in document
    # Headings became buttons, which are how rows are sorted.
    assert document.count('<th scope="col"><button>') >= 6
    assert len(document) < 12_000_000


def test_what_a_page_asks_for_is_seen(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text('<img src="http://example.org/x.png">', encoding="utf-8")
    assert opened(tmp_path / "p.html", tmp_path)[1] == ["http://example.org/x.png"]


def test_sorting_puts_numbers_in_order_and_gaps_last(tmp_path: Path) -> None:
    rows = [("a", [Cell("9", 9.0)]), ("b", [Cell("too few")]), ("c", [Cell("10", 10.0)])]
    page = Page("t", "", {}, [Section("s", tables=[Table(["name", "n"], rows)])]).to_html()
    click = "<script>document.querySelectorAll('th button')[1].click()</script></body>"
    (tmp_path / "p.html").write_text(page.replace("</body>", click), encoding="utf-8")
    document, _ = opened(tmp_path / "p.html", tmp_path)
    cells = Cells()
    cells.feed(document)
    assert [row[0] for row in cells.rows[3:]] == ["c", "a", "b"]
    assert 'aria-sort="descending"' in document


def test_sentences_of_a_page_are_whole() -> None:
    told = "Warning: length alone separates " + ", ".join(f"'class {i}'" for i in range(40))
    page = Page("t", told, {}, [Section("s", told)]).to_html()
    assert page.count("&#39;class 39&#39;</p>") == 2


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_thresholds_are_marked_only_where_they_decide(kind: Any) -> None:
    classes = ("a", "b", "c")[: 2 if kind == "binary" else 3]
    labels = Labels(kind, classes, np.arange(90) % len(classes))
    kept = OutOfFold(90)
    classifier = train(make(90), labels, name="mine", kept=kept)
    page = training_page(classifier, made_of={}, labels=labels, kept=kept)
    assert all(all(table.columns) for one in page.sections for table in one.tables)  # to sort by
    assert any("length" in one.name for one in page.sections)
    held_out, curves = page.sections[:2]
    marked = "threshold" in str(curves.figures[0].figure.to_dict())
    terminal = card_tables(classifier.card)[0]
    told = "No threshold decides: the most probable class is chosen"
    if kind == "binary":
        assert marked
        assert "thresholds are marked" in curves.text
        assert held_out.text == ""
        assert "no threshold decides" not in terminal
    else:
        assert not marked
        assert "thresholds" not in curves.text
        assert held_out.text.startswith(told)
        assert terminal.startswith("n" + told[1:])


def test_figures_of_a_choice_say_so_and_have_no_thresholds() -> None:
    labels = Labels("multiclass", ("a", "b", "c"), np.arange(90) % 3)
    kept = OutOfFold(90)
    classifier = train(make(90), labels, name="mine", kept=kept)
    figures = classifier.card.metrics["held out"]
    page = training_page(classifier, made_of={}, labels=labels, kept=kept)
    note, figures_shown = card_tables(classifier.card)[:2]
    for told in (page.sections[0].text, note):
        assert told.endswith("are of that choice" + "." * told.startswith("N"))
        assert f"which is right of {figures['accuracy']:.2%} [" in told
    assert "threshold" not in figures_shown
    assert "threshold" not in page.sections[0].tables[0].columns
    # In older cards they were of each class from its threshold on, which stands beside them.
    older = {name: row for name, row in figures.items() if isinstance(row, dict)}
    older |= {"measured on": figures["measured on"]}
    card = replace(classifier.card, metrics={**classifier.card.metrics, "held out": older})
    page = training_page(classifier.with_card(card), made_of={}, labels=labels, kept=kept)
    note, figures_shown = card_tables(card)[:2]
    assert note.endswith("from the threshold beside them on")
    assert "threshold" in figures_shown
    assert page.sections[0].tables[0].columns[-1] == "threshold"


def test_a_class_may_be_called_as_a_figure_of_the_choice() -> None:
    labels = Labels("multiclass", ("accuracy", "price", "speed"), np.arange(90) % 3)
    card = train(make(90), labels, name="mine").card
    note, figures_shown = card_tables(card)[:2]
    told = "class is chosen; precision, recall and false positives below are of that choice"
    assert " ".join(note.split()).endswith(told)
    assert all(name in figures_shown for name in labels.classes)


def test_half_is_marked_on_a_page_of_an_evaluation_only_where_it_decides() -> None:
    for kind, classes in (("binary", ("a", "b")), ("multiclass", ("a", "b", "c"))):
        labels = Labels(kind, classes, np.arange(90) % len(classes))  # type: ignore[arg-type]
        kept = OutOfFold(90)
        for name in labels.scored_classes:
            scores = (labels.indicator(name) + np.random.default_rng(0).random(90)) / 2
            kept.add(name, np.arange(90), scores)
        page = evaluation_page([], title="t", made_of={}, labels=labels, kept=kept)
        names = [one.name for one in page.sections[0].figures[0].figure.data]
        assert ("default ≥ 0.5" in names) is (kind == "binary")
        assert any(name.startswith("1% false positives") for name in names)
