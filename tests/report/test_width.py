"""Pages in a window of a telephone and of a desk: none is wider than it, none asks for anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from splinellm import plots
from splinellm.cli.pictures import write_picture
from splinellm.extraction.inspection import InspectedVerdict, Inspection
from splinellm.learn.comparing import compare
from splinellm.learn.inspection_page import page_of as inspection_page
from splinellm.report import write_report
from tests.browser import Browser, started
from tests.fakes import FakeExtractor
from tests.report.test_page import HOSTILE, page_of

LONG = "x" * 1_100
TEXT = f"{HOSTILE} {LONG} you fool " + "and a word " * 200


class Judge:
    """A class of a long name, found somewhere in the text."""

    def inspect(self, prompt: object) -> list[InspectedVerdict]:
        span = {"begin": 3, "end": 9, "label": LONG, "score": 0.9}
        judged = {LONG: 0.9, HOSTILE: 0.1}
        return [
            InspectedVerdict(name, (LONG,), judged, {LONG: 0.5}, spans)
            for name, spans in (("tells", (span,)), ("tells nothing", ()), (LONG, ()))
        ]


def inspected() -> Inspection:
    found = FakeExtractor.from_pretrained().inspect(TEXT, [Judge()])
    index = found.tokens.tokens
    assert index is not None
    # Of single letters axe does not tell whether they can be read.
    words = replace(index, token=[f"word{token}" for token in index.token])
    return replace(found, tokens=replace(found.tokens, tokens=words))


def inspect(path: Path) -> None:
    path.write_text(inspection_page(inspected()), encoding="utf-8")


def report(path: Path) -> None:
    write_report(page_of(HOSTILE, LONG, title=LONG), path)


def comparison(path: Path) -> None:
    tables = [
        FakeExtractor.from_pretrained().extract([f"{i} {j}" for i in range(40)]) for j in "ab"
    ]
    write_picture(plots.comparison_picture(compare(*tables), title=LONG), str(path))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.mark.parametrize("write", [inspect, report, comparison])
def test_no_page_is_wider_than_its_window(
    write: Callable[[Path], None], browser: Browser, tmp_path: Path
) -> None:
    write(tmp_path / "page.html")
    for width in (400, 1_100):
        browser.open((tmp_path / "page.html").as_uri(), width=width)
        assert browser.overflow() <= 0, width
        for dark in (False, True):
            browser.open((tmp_path / "page.html").as_uri(), width=width, dark=dark)
            assert browser.violations() == [], (width, dark)
        if write is report:
            # Curves are seen whole on a telephone.
            drawn = browser.run("return document.querySelector('.main-svg').clientWidth")
            assert drawn <= min(width, 520)
        asked = {request["url"].split(":")[0] for request in browser.requests()}
        assert asked <= {"file", "data", "blob", "about"}
        assert browser.complaints() == []
        assert browser.driver.title != "taken"


def test_a_text_that_several_classifiers_judge_is_written_once() -> None:
    page = inspection_page(inspected())
    assert page.count('<p class="text"') == 1
    assert page.count(" and a word and a word") == 100
